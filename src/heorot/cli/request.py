"""Questions to the head: connect to its socket, say hello, ask, and get plain values back.

Blocking and sequential, because a short command has nothing else to do; every wait has a limit. A head that is lost
before it has answered is looked for again, and what does no harm when it is asked twice is asked again.
"""

from __future__ import annotations

import os
import sys

from heorot import __version__
from heorot.client.endpoint import cluster_directory, cluster_mark, connect_head
from heorot.core.client import messages
from heorot.core.errors import HeorotError, ProtocolError, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, TypeVar

    from heorot.cli.arguments import Command, Parsed
    from heorot.client.search import HeadSearch

    Answer = TypeVar("Answer")

ANSWER_TIMEOUT_S = 60.0
"""The head bounds its own waits for nodes far below this: a head that is silent for so long is stuck."""
RECEIVE_BYTES = 256 * 1024
SAY_S = 2.0
"""A head that is replaced sooner than this is not worth a word."""
PIPELINE_REQUESTS = 64
"""So many questions are on their way at once, which bounds the buffers at both ends."""

REFUSED_STATUS = 125


class HeadLost(RequestError):
    """The connection ended before the answer was here."""

    def __init__(self, message: str) -> None:
        super().__init__("head-lost", message)


class Head:
    """A connection to the head.

    Parameters
    ----------
    directory:
        The cluster's directory, which holds ``head.sock``.
    timeout_s:
        How long an answer may take; None: for ever, and so long is a lost head waited for.
    patient:
        Look a while for a head that is not there, or is lost before it has answered.
    notice:
        Called with what there is to say about that.

    Raises
    ------
    RequestError
        If nobody listens there, or the head refuses this client.
    """

    def __init__(
        self,
        directory: str | None = None,
        timeout_s: float | None = ANSWER_TIMEOUT_S,
        patient: bool = True,
        notice: Callable[[str], None] | None = None,
    ) -> None:
        self.directory = cluster_directory(directory)
        self._timeout_s = timeout_s
        self._patient = patient
        self._notice = notice
        self._noticed = False
        self._request = 0
        try:
            connection = connect_head(self.directory)
        except RequestError as error:
            if not patient or error.code != "no-head":
                raise
            from heorot.client.search import reach_next_head

            connection = reach_next_head(self.directory)
        self._use(connection)
        self._cluster_mark = cluster_mark(self.directory)

    def _use(self, connection: _socket.socket) -> None:
        self._reader = messages.MessageReader()
        self._messages: list[list[Any]] = []
        self._socket = connection
        self._socket.settimeout(self._timeout_s)
        # The first request goes along with the greeting; a head that does not like it refuses the connection.
        self._outgoing = messages.encode(messages.client_hello(__version__))

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
            for answer in self._ask_batch(requests[start : start + PIPELINE_REQUESTS]):
                if isinstance(answer, RequestError) and not refusals:
                    raise answer
                answers.append(answer)
        return answers

    def _ask_batch(self, batch: Sequence[tuple[object, ...]]) -> list[Any]:
        """Return the answers, RequestError for what was refused, in the order of the requests."""
        open_requests: dict[int, tuple[object, ...]] = {}
        for request in batch:
            self._request += 1
            open_requests[self._request] = request
        answers = dict.fromkeys(open_requests)
        search: HeadSearch | None = None
        while True:
            try:
                self._converse(open_requests, answers)
                return list(answers.values())
            except HeadLost as lost:
                if not self._patient or not all(_may_be_repeated(request) for request in open_requests.values()):
                    raise
                # One search for all of this batch: its limit holds for however many heads are lost meanwhile.
                search = search or self._search()
                try:
                    self._await_head(search)
                except RequestError as error:
                    if error.code != "no-head":
                        raise
                    raise lost from error

    def _converse(self, open_requests: dict[int, tuple[object, ...]], answers: dict[int, Any]) -> None:
        """Send the open requests; move those that are answered from one to the other until none is left."""
        for number, (tag, *fields) in open_requests.items():
            self._outgoing += messages.encode([tag, number, *fields])
        self._flush()
        rows: dict[int, list[Any]] = {}
        while open_requests:
            message = self._receive()
            tag, number = message[0], message[1]
            if tag == "error" and number == 0:
                raise RequestError(message[2], message[3])
            if tag == "welcome" and self._noticed and self._notice is not None:
                self._notice(f"head {message[3]} (epoch {message[4]}) has taken over")
                self._noticed = False
            if tag == "notice":
                (self._notice or _say)(message[2])
            elif tag == "rows":
                rows.setdefault(number, []).extend(message[2])
            elif tag in ("result", "error", "signalled", "spawned") and number in open_requests:
                if tag == "error":
                    answers[number] = RequestError(message[2], message[3])
                else:
                    answers[number] = (
                        messages.with_rows(rows.get(number, []), message[2]) if tag == "result" else message[2:]
                    )
                del open_requests[number]

    def _search(self) -> HeadSearch:
        from heorot.client.search import REACH_S, HeadSearch

        return HeadSearch(self.directory, self._cluster_mark, None if self._timeout_s is None else REACH_S)

    def _await_head(self, search: HeadSearch) -> None:
        from time import monotonic, sleep

        self.close()
        lost_at = monotonic()
        while True:
            sleep(max(0.0, search.next_at - monotonic()))
            connection = search.attempt()
            if connection is not None:
                self._use(connection)
                return
            if self._notice is not None and not self._noticed and monotonic() >= lost_at + SAY_S:
                self._notice("the head is gone; waiting for the next one")
                self._noticed = True

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

    def _lost(self, why: str) -> HeadLost:
        return HeadLost(f"the head of {self.directory} is gone ({why}); try again when one is active")


def _say(text: str) -> None:
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)


def _may_be_repeated(request: tuple[object, ...]) -> bool:
    return request[0] != "signal" or request[4] == 0


def run_command(command: str, body: Callable[[list[str]], int], arguments: Sequence[str] | None = None) -> int:
    """Run a command's body, and turn every error of ours into ``command: message`` and a status."""
    from heorot.cli.arguments import USAGE_STATUS, UsageError

    try:
        return body(list(sys.argv[1:] if arguments is None else arguments))
    except UsageError as error:
        print(f"{command}: {error}; try '{command} --help'", file=sys.stderr)
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


def chosen_users(text: str, listed: Iterable[str] = ()) -> set[str]:
    """Return the names and numbers of a list of users.

    Raises
    ------
    UsageError
        If this host does not know a name, nor is it among those `listed`, which other hosts may have given.
    """
    import pwd

    users = {user for user in text.split(",") if user}
    for user in sorted(users.difference(listed)):
        if not (user.isascii() and user.isdecimal()):
            try:
                pwd.getpwnam(user)
            except KeyError:
                from heorot.cli.arguments import UsageError

                raise UsageError(
                    f"there is no user '{user}' on this host; give the user's number if only other hosts know the name"
                ) from None
    return users


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
        self._head: Head | None = Head(directory, patient=False)

    def attempt(self, question: Callable[[Head], Answer]) -> Answer | str:
        """Return the answer, or a sentence that says why there is none now."""
        try:
            if self._head is None:
                self._head = Head(self._directory, patient=False)
            return question(self._head)
        except HeorotError as error:
            if self._head is not None:
                self._head.close()
            self._head = None
            return str(error)
