"""What a keeper has done for it: one step after the other, each with its answer. See `heorot.core.keeper.machine`.

A step that can fail raises HeorotError in the keeper; those that ask the store raise the errors of
`heorot.core.keeper.election`.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeAlias, TypeVar

from msgspec import Struct

from heorot.core.keeper.election import Term
from heorot.core.machine import HeadsKnown, Log


class LookAtStore(Struct, frozen=True):
    """Announce this candidate if need be, and ask the store what there is: a `Leadership`."""


class Campaign(Struct, frozen=True):
    """Try to become the leader, in an epoch above `floor` and above each that this host has kept: a `Term`, or None if
    another one leads.
    """

    floor: int


class HandOver(Struct, frozen=True):
    """Tell the store that the head's process runs, and holds the term's lock."""


class Renew(Struct, frozen=True):
    """Go on leading: a `Leadership`. Raises LeaseLost if this candidate does not lead any more."""


class Resign(Struct, frozen=True):
    """Stop leading. The head's process is dead, or was never started."""


class Prefer(Struct, frozen=True):
    """Have all candidates but this one hold back for a while."""

    name: str


class KeepEpoch(Struct, frozen=True):
    """Write an epoch down on this host, durably, unless a higher one is there."""

    epoch: int


class StartHead(Struct, frozen=True):
    """Start the head's process for this term: its pid."""

    term: Term


class EndHead(Struct, frozen=True):
    """End the head's process: how it has ended, in words. By force, or first with a request."""

    force: bool


class LastWords(Struct, frozen=True):
    """Ask why the head's process has ended, if it has said so: a text, perhaps empty."""


class ReadSettings(Struct, frozen=True):
    """Read this head's settings again: what of them has changed, in words; nothing: they are as before. The next head's
    process begins with them. If they cannot be used, the former ones stay.
    """


class PassClientsOn(Struct, frozen=True):
    """See that this host's clients are passed on to the active head of this name; empty: nobody knows who leads."""

    leader: str


class StopPassing(Struct, frozen=True):
    """Pass nobody on any more."""


class TellHead(Struct, frozen=True):
    """Tell the head who else there is, how the store is, and until when nobody else can lead."""

    news: HeadsKnown


class Known(Struct, frozen=True):
    """What a keeper says of itself, for those who look."""

    role: str
    """``active`` or ``standby``."""
    head_pid: int
    quick_ends: int
    """So many times in a row the head has ended right after its start."""
    leader: str
    problem: str
    """Why this head does not lead, or could not; empty: nothing is wrong."""


class Publish(Struct, frozen=True):
    """Let everybody know this; it has changed."""

    known: Known


class ControlAnswer(Struct, frozen=True):
    """Answer the request that came with the last `Woken`."""

    value: dict[str, Any]


class WaitForNews(Struct, frozen=True):
    """Wait until the time is over or something has happened: a `Woken`."""

    timeout_s: float
    hints: bool
    """Also until the store hints that something may have changed, or what passes clients on has ended."""


class Woken(Struct, frozen=True):
    """What has happened, which may be nothing."""

    hinted: bool = False
    ended: str | None = None
    """How the head's process has ended, in words; None: it lives, or there is none."""
    heard: bool = False
    """The head has said that it lives."""
    told_to_end: bool = False
    told_to_switch: bool = False
    told_to_reload: bool = False
    request: dict[str, Any] | None = None
    """A command from somebody who may give one; it wants an `ControlAnswer`."""


Step: TypeAlias = (
    LookAtStore
    | Campaign
    | HandOver
    | Renew
    | Resign
    | Prefer
    | KeepEpoch
    | StartHead
    | EndHead
    | LastWords
    | ReadSettings
    | PassClientsOn
    | StopPassing
    | TellHead
    | Publish
    | ControlAnswer
    | WaitForNews
    | Log
)
T = TypeVar("T")
Flow: TypeAlias = Generator[Step, Any, T]
"""Steps one after the other, and in the end a result."""
