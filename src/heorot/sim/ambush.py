"""What strikes in the middle of something: right after a host has taken a message of some kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from heorot.core.machine import FromClient, HeadEvent, NodeEvent, Received
from heorot.core.wire import tree as m


class Ambush:
    """Waits for one message, which it is laid for; then it is over."""

    def __init__(self) -> None:
        self._kind: type | None = None
        self._strike: Callable[[Any], None] = lambda message: None

    def lay(self, kind: type, strike: Callable[[Any], None]) -> None:
        """Strike when the next message of this kind was taken; another one that was laid is forgotten."""
        self._kind, self._strike = kind, strike

    def lift(self) -> None:
        """Let nothing happen."""
        self._kind = None

    def took(self, event: HeadEvent | NodeEvent) -> None:
        """The host has taken this."""
        if self._kind is not None and isinstance(message := _inner(event), self._kind):
            self._kind = None
            self._strike(message)


def _inner(event: HeadEvent | NodeEvent) -> object:
    """Return the message of an event, without its envelope."""
    if isinstance(event, FromClient):
        return event.message
    if isinstance(event, Received):
        message = event.message
        return m.decode_node_payload(message.payload) if isinstance(message, m.Up) else message
    return event
