"""Connections to bpinit that are not (yet) the agent: the first frame says which they are.

Somebody whose first frame is `Look` is told what runs here, and leaves; whoever says anything else is the agent.
"""

from __future__ import annotations

import select
from collections.abc import Callable

from heorot.bpinit.link import AgentLink
from heorot.bpinit.rank_pipes import Watcher
from heorot.core.errors import ProtocolError
from heorot.core.wire import tree as m
from heorot.core.wire.tags import TAG_LOOK
from heorot.linux.clock import now_ms

MAX_GUESTS = 8
SPEAK_MS = 60_000
"""An agent that starts on a busy machine takes its time between connecting and its first word."""
READ_MS = 10_000
"""How long a guest may take to read its answer."""


class Guest:
    """One connection."""

    __slots__ = ("answered", "due_ms", "link")

    def __init__(self, link: AgentLink, due_ms: int) -> None:
        self.link = link
        self.due_ms = due_ms
        self.answered = False


class Guests:
    """All of them.

    Parameters
    ----------
    watcher:
        Of the daemon's loop.
    use_agent:
        Called with a connection that turns out to be the agent's, and the frames that it has sent so far.
    look:
        Returns the answer to `Look`, encoded.
    complain:
        Writes a warning into the log.
    """

    def __init__(
        self,
        watcher: Watcher,
        use_agent: Callable[[AgentLink, list[bytes]], None],
        look: Callable[[], list[bytes]],
        complain: Callable[[str], None],
    ) -> None:
        self._watcher = watcher
        self._use_agent = use_agent
        self._look = look
        self._complain = complain
        self._guests: list[Guest] = []
        """The oldest first."""

    @property
    def due_ms(self) -> int | None:
        """When `turn` is wanted at the latest; None: not at all."""
        return min(guest.due_ms for guest in self._guests) if self._guests else None

    def add(self, link: AgentLink, now: int) -> None:
        """Somebody has connected; one too many, and the oldest has to go, one that was answered first."""
        if len(self._guests) >= MAX_GUESTS:
            oldest = next((guest for guest in self._guests if guest.answered), self._guests[0])
            self._complain(f"more than {MAX_GUESTS} connections ask what runs here: the oldest is closed")
            self._drop(oldest)
        guest = Guest(link, now + SPEAK_MS)
        self._guests.append(guest)
        self._watcher.add(link.fd, self._ready, guest)

    def turn(self, now: int) -> None:
        """Close the connections whose time is over."""
        for guest in [guest for guest in self._guests if guest.due_ms <= now]:
            self._drop(guest)

    def _forget(self, guest: Guest) -> None:
        self._guests.remove(guest)
        self._watcher.remove(guest.link.fd)

    def _drop(self, guest: Guest) -> None:
        self._forget(guest)
        guest.link.close()

    def _ready(self, fd: int, guest: Guest) -> None:
        if guest.answered:
            self._write(guest)
            return
        try:
            frames = guest.link.receive()
            if frames and m.tag_of(frames[0]) == TAG_LOOK:
                m.decode_look(frames[0])
                self._answer(guest)
                return
        except ProtocolError as error:
            self._complain(f"a connection that breaks the protocol is closed: {error}")
            frames = None
        if frames is None:
            self._drop(guest)
        elif frames:
            self._forget(guest)
            self._use_agent(guest.link, frames)

    def _answer(self, guest: Guest) -> None:
        guest.answered = True
        guest.due_ms = now_ms() + READ_MS
        for payload in self._look():
            guest.link.queue((payload,), False)
        self._watcher.change(guest.link.fd, select.EPOLLOUT)
        self._write(guest)

    def _write(self, guest: Guest) -> None:
        try:
            guest.link.flush()
        except OSError:
            self._drop(guest)
            return
        if not guest.link.backlog_bytes:
            self._drop(guest)
