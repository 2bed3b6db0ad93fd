"""A run as its hosts and users know it: what they ask of each other, so that none of them imports another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from heorot.sim.surroundings import Surroundings

if TYPE_CHECKING:
    from heorot.core.head.machine import HeadMachine
    from heorot.core.machine import HeadEvent
    from heorot.core.wire import clients as c
    from heorot.core.wire import tree as m
    from heorot.sim.images import VirtualCache, VirtualImage
    from heorot.sim.network import Closed, End, Received
    from heorot.sim.store import VirtualStore


class SomeHead(Protocol):
    """A head's host, for users and other heads."""

    name: str
    up: bool
    retired: bool
    epoch: int
    machine: HeadMachine | None

    @property
    def paused(self) -> Sequence[Any] | None:
        """What waits for a paused host to wake up; None: it is awake."""

    def open_client(self, user: str, uid: int, on_received: Received, on_closed: Closed, home: SomeHead) -> End | None:
        """Connect a client, directly or passed on by the standby `home`; None: there is no head here."""


class SomeNode(Protocol):
    """A node's host, for whoever checks what it does."""

    node: int
    seen_epoch: int
    obeying_epoch: int | None
    cache: VirtualCache


class SomeUser(Protocol):
    """A user, for the host that it works on."""

    @property
    def home(self) -> SomeHead:
        """The head host that it works on."""

    def die_with_host(self) -> None:
        """The host has lost its power."""


class Judge(Protocol):
    """Hears what users make of refusals; see `heorot.sim.denials`."""

    def heard(self, client: int, ask: c.AttachJob, error: c.Error) -> bool:
        """Return whether a user who may not attach has to ask again."""


class Witness(Protocol):
    """Hears every claim that hosts make and users are told; see `heorot.sim.checks`."""

    @property
    def denials(self) -> Judge:
        """Who hears of refusals."""

    def to_space(self, host: SomeNode, payload: bytes) -> None:
        """An agent gives its bpinit a command."""

    def elected(self, host: SomeHead) -> None:
        """A term of office begins."""

    def begins(self, host: SomeHead) -> None:
        """Its machine is there, and was told nothing yet."""

    def before_head(self, machine: HeadMachine, event: HeadEvent) -> None:
        """A head is about to take an event."""

    def after_head(self, machine: HeadMachine, event: HeadEvent) -> None:
        """A head took an event."""

    def killed(self, host: SomeNode, job: str, rank: int, signal: int) -> None:
        """A process is killed."""

    def answers(self, machine: HeadMachine, client: int, message: object) -> None:
        """A head says something to a client."""

    def unavailable(self, machine: HeadMachine, message: m.Unavailable) -> None:
        """A head says that nobody has an image."""

    def spawned(self, job: str, nodes: list[int], ask: c.Spawn) -> None:
        """A launch was acknowledged."""

    def exited(self, job: str, rank: int, status: int, size_1: int, size_2: int) -> None:
        """A user is told an exit status."""

    def failed(self, job: str, rank: int, text: str) -> None:
        """A user is told that a rank could not be started."""

    def told_what_was_killed(self, job: str, ranks: set[int], text: str) -> None:
        """A user is told how many processes the ranks have left."""

    def lost(self, job: str, rank: int, node: int, epoch: int) -> None:
        """A user is told that a rank is lost."""

    def running(self, job: str) -> list[int]:
        """Return the ranks of a job that run."""

    def signalled(self, epoch: int, job: str, ran: list[int]) -> None:
        """A signal that ends everything was acknowledged by the head of this epoch; these ranks ran before."""

    def collected(self, job: str) -> None:
        """A user has all of a job."""


class Run(Surroundings, Protocol):
    """One run, for its hosts and users."""

    images: dict[bytes, VirtualImage]
    caches: list[VirtualCache]
    store: VirtualStore

    @property
    def checks(self) -> Witness:
        """Who hears every claim."""

    @property
    def heads(self) -> Sequence[SomeHead]:
        """All that are or were heads."""

    @property
    def clients(self) -> Sequence[SomeUser]:
        """All users."""

    def leader(self) -> SomeHead | None:
        """Return the head that the store names, if there is one."""
