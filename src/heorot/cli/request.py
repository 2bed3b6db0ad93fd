"""Questions to the head: connect to its socket, say hello, ask, and get plain values back.

Blocking and sequential, because a short command has nothing else to do; every wait has a limit.
"""

from __future__ import annotations

import sys

from heorot import __version__, wire
from heorot.core.errors import HeorotError, ProtocolError, RequestError
from heorot.endpoint import cluster_directory, connect_head

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from heorot.cli.arguments import Command, Parsed

    Answer = TypeVar("Answer")

ANSWER_TIMEOUT_S = 60.0
"""The head bounds its own waits for nodes far below this: a head that is silent for so long is stuck."""
RECEIVE_BYTES = 256 * 1024
PIPELINE_REQUESTS = 64
"""So many questions are on their way at once, which bounds the buffers at both ends."""

REFUSED_STATUS = 125


class Head:
    """A connection to the head.

    Parameters
    ----------
    directory:
        The cluster's directory, which holds ``head.sock``.
    timeout_s:
        How long an answer may take; None: for ever.

    Raises
    ------
    RequestError
        If nobody listens there, or the head refuses this client.
    """

    def __init__(self, directory: str | None = None, timeout_s: float | None = ANSWER_TIMEOUT_S) -> None:
        self.directory = cluster_directory(directory)
        self._request = 0
        self._reader = wire.MessageReader()
        self._messages: list[list[Any]] = []
        self._socket = connect_head(self.directory)
        self._socket.settimeout(timeout_s)
        # The first request goes along with the greeting; a head that does not like it refuses the connection.
        self._outgoing = wire.encode(wire.client_hello(__version__))

    def ask(self, tag: str, *fields: object) -> Any:
        """Send one request and return its answer: the value of a ``result``, or the fields of any other message.

        Raises
        ------
        RequestError
            If the head refuses, does not answer in time, or is lost.
        """
        return self.ask_all([(tag, *fields)])[0]

    def ask_all(self, requests: Sequence[tuple[object, ...]], refusals: bool = False) -> list[Any]:
        """Send several requests at once and return their answers in the same order.

        With `refusals`, a refused request gives its RequestError in place of the answer instead of raising it.
        """
        answers: list[Any] = []
        for start in range(0, len(requests), PIPELINE_REQUESTS):
            batch = requests[start : start + PIPELINE_REQUESTS]
            first = self._request + 1
            for tag, *fields in batch:
                self._request += 1
                self._outgoing += wire.encode([tag, self._request, *fields])
            self._flush()
            pending: dict[int, Any] = {}
            rows: dict[int, list[Any]] = {}
            while len(pending) < len(batch):
                message = self._receive()
                if message[0] == "error" and message[1] == 0:
                    raise RequestError(message[2], message[3])
                if message[0] == "rows":
                    rows.setdefault(message[1], []).extend(message[2])
                if message[0] in ("result", "error", "signalled", "spawned") and message[1] >= first:
                    pending[message[1]] = message
            for number in sorted(pending):
                message = pending[number]
                if message[0] != "error":
                    value = wire.with_rows(rows.get(number, []), message[2]) if message[0] == "result" else message[2:]
                    answers.append(value)
                    continue
                refusal = RequestError(message[2], message[3])
                if not refusals:
                    raise refusal
                answers.append(refusal)
        return answers

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _flush(self) -> None:
        try:
            self._socket.sendall(self._outgoing)
            self._outgoing = b""
        except TimeoutError as error:
            raise self._silent() from error
        except OSError as error:
            raise self._lost(error.strerror or str(error)) from error

    def _receive(self) -> list[Any]:
        while not self._messages:
            try:
                data = self._socket.recv(RECEIVE_BYTES)
            except TimeoutError as error:
                raise self._silent() from error
            except OSError as error:
                raise self._lost(error.strerror or str(error)) from error
            if not data:
                raise self._lost("the connection was closed")
            self._messages = self._reader.feed(data)
            self._messages.reverse()
        message = self._messages.pop()
        if len(message) < 4 - (message[0] in ("result", "rows", "done")):
            raise ProtocolError(f"the head sent a message of kind {message[0]!r} that is too short")
        return message

    def _silent(self) -> RequestError:
        return RequestError(
            "timeout",
            f"the head of {self.directory} does not answer; 'heorot status --dir {self.directory}' may say more",
        )

    def _lost(self, why: str) -> RequestError:
        return RequestError("head-lost", f"the head of {self.directory} is gone ({why}); try again when one is active")


def run(command: str, body: Callable[[list[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run a command's body, and turn every error of ours into ``command: message`` and a status."""
    from heorot.cli.arguments import USAGE_STATUS, UsageError

    try:
        return body(list(sys.argv[1:] if arguments is None else arguments))
    except UsageError as error:
        print(f"{command}: {error}; try '{command} --help'", file=sys.stderr)
        return USAGE_STATUS
    except UnicodeError:
        print(f"{command}: an argument is not valid text in this locale", file=sys.stderr)
        return USAGE_STATUS
    except HeorotError as error:
        print(f"{command}: {error}", file=sys.stderr)
        return REFUSED_STATUS


def show_help(command: Command, parsed: Parsed) -> int:
    """Print the help or the version, whichever was asked for."""
    text = command.help_text() if parsed.has("help") else f"{command.name.split()[0]} (Heorot) {__version__}\n"
    sys.stdout.write(text)
    return 0


def user_name(uid: int, mark: str = "") -> str:
    """Return the user's name on this host, or the number with a mark in front."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"{mark}{uid}"


def group_name(gid: int, mark: str = "") -> str:
    """Return the group's name on this host, or the number with a mark in front."""
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return f"{mark}{gid}"


def json_arguments(argv: Sequence[bytes]) -> dict[str, list[str]]:
    """Return ``argv`` as text for JSON, and ``argv_base64`` with the exact bytes if some of them are not UTF-8.

    A byte that is not UTF-8 is written as ``\\xff`` in the text: lone surrogates would not be valid Unicode.
    """
    try:
        return {"argv": [argument.decode("utf-8") for argument in argv]}
    except UnicodeDecodeError:
        from binascii import b2a_base64

        return {
            "argv": [argument.decode("utf-8", "backslashreplace") for argument in argv],
            "argv_base64": [b2a_base64(argument, newline=False).decode("ascii") for argument in argv],
        }


class Reconnecting:
    """A connection for commands that watch: a lost head is looked for again at each attempt."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._head: Head | None = Head(directory)

    def attempt(self, question: Callable[[Head], Answer]) -> Answer | str:
        """Return the answer, or a sentence that says why there is none now."""
        try:
            if self._head is None:
                self._head = Head(self._directory)
            return question(self._head)
        except HeorotError as error:
            if self._head is not None:
                self._head.close()
            self._head = None
            return str(error)
