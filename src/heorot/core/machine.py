"""What a pure machine takes and gives: events and instructions, shared by the head's and the node's machine.

A machine has one method, ``handle(event, now_ms) -> list[Instruction]``. `now_ms` is a monotonic clock of the shell's.
A shell (asyncio for real, `heorot.sim` for simulation) carries the instructions out in order and feeds the results
back. Links and clients are numbers that the shell chooses and never uses again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from heorot.core.client_messages import ClientMessage, HeadMessage
from heorot.core.messages import LinkMessage

# ------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """A neighbour is connected and its certificate was verified: it is node `peer` (-1: a head)."""

    link: int
    peer: int
    connected_for: str = ""
    """The `key` of the `Connect` that this answers; empty if the neighbour connected to us."""


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """The link is gone (never sent for a link that the machine itself closed)."""

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """The `Connect` with this key failed."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A neighbour's message."""

    link: int
    message: LinkMessage


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer that was set is due; it is not set any more."""

    key: str


@dataclass(frozen=True, slots=True)
class SpaceConnected:
    """The agent is connected to its bpinit."""


@dataclass(frozen=True, slots=True)
class SpaceClosed:
    """The connection to bpinit is gone: bpinit has ended, and its processes with it."""


@dataclass(frozen=True, slots=True)
class FromSpace:
    """An encoded answer of the process space (`heorot.core.messages.SpaceAnswer`)."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class ClientOpened:
    """A client has connected; the kernel says who it is."""

    client: int
    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClientClosed:
    """The client is gone."""

    client: int


@dataclass(frozen=True, slots=True)
class FromClient:
    """A client's message."""

    client: int
    message: ClientMessage


# ------------------------------------------------------------------ instructions


@dataclass(frozen=True, slots=True)
class Send:
    """Send on a link; `bulk` messages wait for all others."""

    link: int
    message: LinkMessage
    bulk: bool = False


@dataclass(frozen=True, slots=True)
class CloseLink:
    """Send what is queued, then close."""

    link: int
    reason: str


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a link; answered by `LinkOpened` or `ConnectFailed`, within `timeout_ms`."""

    key: str
    host: str
    port: int
    timeout_ms: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Set (or move) the timer of this name; answered by `TimerFired`."""

    key: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """The timer of this name shall not fire."""

    key: str


@dataclass(frozen=True, slots=True)
class ToSpace:
    """Hand an encoded command to the node's process space."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Remember:
    """Keep this value on disk under this name; it is given back to the next machine of this node."""

    name: str
    value: bytes


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send to a client."""

    client: int
    message: HeadMessage


@dataclass(frozen=True, slots=True)
class CloseClient:
    """Send what is queued, then close."""

    client: int


@dataclass(frozen=True, slots=True)
class Log:
    """One line for the daemon's log."""

    level: str
    """``debug``, ``info``, ``warning`` or ``error``."""
    text: str


@dataclass(frozen=True, slots=True)
class Stop:
    """The daemon's work is over: end it, with this reason."""

    reason: str


LinkEvent: TypeAlias = LinkOpened | LinkClosed | ConnectFailed | Received | TimerFired
NodeEvent: TypeAlias = LinkEvent | SpaceConnected | SpaceClosed | FromSpace
HeadEvent: TypeAlias = LinkEvent | ClientOpened | ClientClosed | FromClient
Instruction: TypeAlias = (
    Send | CloseLink | Connect | SetTimer | CancelTimer | ToSpace | Remember | ToClient | CloseClient | Log | Stop
)
