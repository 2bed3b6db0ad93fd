"""Questions to a head and their answers, without I/O: the part of a session that a command needs which runs no job.

What `heorot.core.client.session` says of the owner holds here, too.
"""

from __future__ import annotations

from heorot import __version__
from heorot.core.client import messages
from heorot.core.errors import ConnectionLost, ProtocolBroken, ProtocolError, RequestError

MAX_NOTICES = 16

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Request:
    """A question to the head and, later, its answer: `value` (the message without tag and request number) or
    `error`.
    """

    __slots__ = ("error", "finished", "message", "repeatable", "rows", "value")

    def __init__(self) -> None:
        self.finished = False
        self.message: list[Any] = []
        self.repeatable = True
        """Asking another head once more does no harm."""
        self.value: list[Any] = []
        self.rows: list[Any] = []
        """The first rows of a long answer that is not complete yet."""
        self.error: RequestError | None = None

    def fail(self, error: RequestError) -> None:
        """There is no answer, and will be none."""
        self.finished = True
        self.error = error

    def changed(self, message: list[Any]) -> None:
        """Take a part of an update, of which a question has none."""
        raise ProtocolError("the head answered a question with an update")

    def interrupted(self) -> bool:
        """The connection was lost; return whether the next head is to be asked."""
        self.rows = []
        return self.repeatable


class Conversation:
    """The state of one connection, and of what was asked. `hears_used` as in `heorot.core.wire.clients.ClientHello`."""

    def __init__(self, hears_used: bool = False) -> None:
        self._greeting = messages.encode(messages.client_hello(__version__, hears_used))
        self.outgoing = bytearray(self._greeting)
        """Bytes for the head that the owner has not written yet."""
        self.head = ""
        self.epoch = 0
        self.connected = True
        """Whether there is a connection to write to."""
        self.greeted = False
        """Whether the head at the other end of this connection has spoken."""
        self._first = True
        """No connection was lost yet."""
        self.closed: RequestError | None = None
        """Why the connection can not be used any more."""
        self._reader = messages.MessageReader()
        self.unanswered: dict[int, Request] = {}
        """What was asked, by number."""
        self.notices: list[str] = []
        """Why the head lets us wait, for people; the owner takes them away."""
        self._next_request = 1
        self._now_ms = 0
        self._handlers: dict[str, Callable[..., object]] = {
            "signalled": self._answered,
            "result": self._result,
            "rows": self._rows,
            "notice": self._notice,
            "error": self._error,
            "changed": self._changed,
            "shown": self._changed,
            "welcome": self._welcome,
        }
        """By tag: what the head may say."""

    # -------------------------------------------------- what the owner wants

    def _number(self, request: Request) -> int:
        if self.closed is not None:
            raise self.closed
        number = self._next_request
        self._next_request += 1
        self.unanswered[number] = request
        return number

    def ask(self, build: Any, *fields: Any, into: Request | None = None) -> Request:
        """Queue the request that `build`, a function of `heorot.core.client.messages`, makes of a number and
        `fields`; its answer goes into a request of the caller's own kind, if one is given.
        """
        request = into or Request()
        self._send_request(request, build, *fields)
        return request

    def _send_request(self, request: Request, build: Any, *fields: Any, **named_fields: Any) -> int:
        number = self._number(request)
        try:
            request.message = build(number, *fields, **named_fields)
            frame = messages.encode(request.message)
        except BaseException:
            del self.unanswered[number]
            raise
        if self.connected:
            self.outgoing += frame
        return number

    def disconnected(self, reason: str) -> None:
        """There is no connection any more, and there will be none: every unanswered request fails."""
        self.connected = False
        self._fail(ConnectionLost(reason))

    def _fail(self, error: RequestError) -> None:
        if self.closed is None:
            self.closed = error
        for request in self.unanswered.values():
            request.fail(error)
        self.unanswered.clear()

    # -------------------------------------------------- from one head to the next

    def connection_lost(self) -> list[Request]:
        """The connection is gone, and `reconnected` will follow; return the requests that fail because they must not be
        repeated: nobody knows whether they were obeyed.
        """
        self.connected = self.greeted = self._first = False
        self.outgoing.clear()
        self._reader = messages.MessageReader()
        failed = []
        for number, request in list(self.unanswered.items()):
            if not request.interrupted():
                del self.unanswered[number]
                request.fail(
                    ConnectionLost("the head was lost before it answered: whether the signal arrived is unknown")
                )
                failed.append(request)
        return failed

    def reconnected(self) -> None:
        """There is a new connection: queue the greeting and all that takes up again what was under way."""
        assert not self.connected
        self.connected = True
        self.outgoing += self._greeting
        self._repeat(list(self.unanswered.items()))

    def _repeat(self, waiting: list[tuple[int, Request]]) -> None:
        for _number, request in waiting:
            self.outgoing += messages.encode(request.message)

    # -------------------------------------------------- what the head says

    def room(self) -> memoryview | None:
        """Return where the rest of a large message is to be read to, if one is under way: then call `received`."""
        return self._reader.rest()

    def receive(self, data: bytes, now_ms: int) -> list[Any]:
        """Take bytes from the socket and return what happened, if it is of a job.

        Raises
        ------
        ProtocolError
            If the head breaks the protocol. The session is closed then.
        """
        return self._take(self._reader.feed, data, now_ms)

    def received(self, count: int, now_ms: int) -> list[Any]:
        """So many bytes were read to the beginning of `room`; the rest as with `receive`."""
        return self._take(self._reader.advance, count, now_ms)

    def _take(self, read: Callable[[Any], list[list[Any]]], what: Any, now_ms: int) -> list[Any]:
        self._now_ms = now_ms
        events: list[Any] = []
        try:
            for message in read(what):
                self._handle(message, events)
        except ProtocolError as error:
            raise self._broken(str(error)) from error
        except (IndexError, TypeError, ValueError, AttributeError, KeyError) as error:
            raise self._broken(f"the head sent a malformed message: {error}") from error
        return events

    def _broken(self, what: str) -> ProtocolBroken:
        error = ProtocolBroken(what)
        self._fail(error)
        return error

    def _handle(self, message: list[Any], events: list[Any]) -> None:
        # A tag that this release does not know comes from a newer head, which may say more than we understand.
        handler = self._handlers.get(message[0])
        if handler is not None:
            handler(message, events)

    def _answered(self, message: list[Any], events: list[Any]) -> Request:
        request = self.unanswered.pop(message[1], None)
        if request is None:
            raise ProtocolError(f"the head answered request {message[1]}, which is not open")
        request.finished = True
        request.value = message[2:]
        return request

    def _result(self, message: list[Any], events: list[Any]) -> None:
        request = self._answered(message, events)
        request.value[0] = messages.with_rows(request.rows, request.value[0])

    def _rows(self, message: list[Any], events: list[Any]) -> None:
        self.unanswered[message[1]].rows += message[2]

    def _changed(self, message: list[Any], events: list[Any]) -> None:
        self.unanswered[message[1]].changed(message)

    def _notice(self, message: list[Any], events: list[Any]) -> None:
        self.notices = [*self.notices[1 - MAX_NOTICES :], message[2]]

    def _error(self, message: list[Any], events: list[Any]) -> None:
        self._refused(message[1], RequestError(message[2], message[3]), events)

    def _welcome(self, message: list[Any], events: list[Any]) -> None:
        self.head, self.epoch = message[3], message[4]
        self.greeted = True

    def _refused(self, number: int, error: RequestError, events: list[Any]) -> None:
        if number == 0:
            if error.code != "busy" or self._first:
                self._fail(error)
            # Else it closes the connection, and what is under way is worth another attempt.
            return
        request = self.unanswered.pop(number, None)
        if request is not None:
            self._not_granted(number, request, error, events)

    def _not_granted(self, number: int, request: Request, error: RequestError, events: list[Any]) -> None:
        request.fail(error)
