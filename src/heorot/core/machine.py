"""What a pure machine takes and gives: events and instructions, shared by the head's and the node's machine.

A machine has one method, ``handle(event, now_ms) -> list[Instruction]``. `now_ms` is a monotonic clock of the shell's.
A shell (asyncio for real, `heorot.sim` for simulation) carries the instructions out in order and feeds the results
back. Links and clients are numbers that the shell chooses and never uses again. All are msgspec structs, because
making one costs an eighth of what a dataclass costs, and every message makes several.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from heorot.core.client_messages import ClientMessage, HeadMessage
from heorot.core.messages import LinkMessage

# ------------------------------------------------------------------ events


class LinkOpened(Struct, frozen=True, gc=False):
    """A neighbour is connected and its certificate was verified: it is node `peer` (-1: a head)."""

    link: int
    peer: int
    connected_for: str = ""
    """The `key` of the `Connect` that this answers; empty if the neighbour connected to us."""


class LinkClosed(Struct, frozen=True, gc=False):
    """The link is gone (never sent for a link that the machine itself closed)."""

    link: int
    reason: str


class ConnectFailed(Struct, frozen=True, gc=False):
    """The `Connect` with this key failed."""

    key: str
    reason: str


class Received(Struct, frozen=True, gc=False):
    """A neighbour's message."""

    link: int
    message: LinkMessage


class TimerFired(Struct, frozen=True, gc=False):
    """A timer that was set is due; it is not set any more."""

    key: str


class SpaceConnected(Struct, frozen=True, gc=False):
    """The agent is connected to its bpinit."""


class SpaceClosed(Struct, frozen=True, gc=False):
    """The connection to bpinit is gone: bpinit has ended, and its processes with it."""


class FromSpace(Struct, frozen=True, gc=False):
    """An encoded answer of the process space (`heorot.core.messages.SpaceAnswer`)."""

    payload: bytes


class Kept(Struct, frozen=True, gc=False):
    """The answer to a durable `Remember`."""

    name: str
    value: bytes
    error: str
    """Empty: it is on disk."""


class ClientOpened(Struct, frozen=True, gc=False):
    """A client has connected; the kernel says who it is."""

    client: int
    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]


class ClientClosed(Struct, frozen=True, gc=False):
    """The client is gone."""

    client: int
    lost: bool = False
    """It came through a head on standby, and only the connection to that head is known to be gone: it may be alive."""


class FromClient(Struct, frozen=True, gc=False):
    """A client's message."""

    client: int
    message: ClientMessage


class HeadsKnown(Struct, frozen=True, gc=False):
    """What the head's keeper says: all heads that are alive, how the coordination store is, how long we lead."""

    heads: tuple[tuple[str, str], ...]
    """Name and role (``active``, ``standby``)."""
    store: str
    """Its kind."""
    reachable: bool
    since_ms: int
    """Since when that is so, on the machine's clock."""
    lease_until_ms: int | None = None
    """Until then, on the machine's clock, no other head is elected; None: not as long as this one lives."""
    problem: str = ""
    """What is wrong with the store, for people; empty while it is reachable."""


class HeadHeard(Struct, frozen=True, gc=False):
    """Another head of the cluster, with its certificate, says in which epoch it leads."""

    epoch: int


# ------------------------------------------------------------------ instructions


class Send(Struct, frozen=True, gc=False):
    """Send on a link; `bulk` messages wait for all others."""

    link: int
    message: LinkMessage
    bulk: bool = False


class CloseLink(Struct, frozen=True, gc=False):
    """Send what is queued, then close."""

    link: int
    reason: str


class Connect(Struct, frozen=True, gc=False):
    """Open a link; answered by `LinkOpened` or `ConnectFailed`, within `timeout_ms`."""

    key: str
    host: str
    port: int
    timeout_ms: int


class SetTimer(Struct, frozen=True, gc=False):
    """Set (or move) the timer of this name; answered by `TimerFired`."""

    key: str
    at_ms: int


class ToSpace(Struct, frozen=True, gc=False):
    """Hand an encoded command to the node's process space."""

    payload: bytes


class Remember(Struct, frozen=True, gc=False):
    """Keep this value on disk under this name; it is given back to the next machine of this node."""

    name: str
    value: bytes
    durable: bool = False
    """It must survive a power cut, and is answered by `Kept`."""


class ToClient(Struct, frozen=True, gc=False):
    """Send to a client."""

    client: int
    message: HeadMessage


class CloseClient(Struct, frozen=True, gc=False):
    """Send what is queued, then close."""

    client: int


class Log(Struct, frozen=True, gc=False):
    """One line for the daemon's log."""

    level: str
    """``debug``, ``info``, ``warning`` or ``error``."""
    text: str


class Stop(Struct, frozen=True, gc=False):
    """The daemon's work is over: end it, with this reason."""

    reason: str


LinkEvent: TypeAlias = LinkOpened | LinkClosed | ConnectFailed | Received | TimerFired
NodeEvent: TypeAlias = LinkEvent | SpaceConnected | SpaceClosed | FromSpace | Kept
HeadEvent: TypeAlias = LinkEvent | ClientOpened | ClientClosed | FromClient | HeadsKnown | HeadHeard
Instruction: TypeAlias = (
    Send | CloseLink | Connect | SetTimer | ToSpace | Remember | ToClient | CloseClient | Log | Stop
)
