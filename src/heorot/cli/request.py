"""Questions to the head: ask, wait, and get plain values back.

Blocking, because a short command has nothing else to do; every wait has a limit. What a short command says when it
fails, and how it shows users and groups, is here, too.
"""

from __future__ import annotations

import os
import sys
from time import monotonic

from heorot import __version__
from heorot.client.connection import REACH_S, Connection
from heorot.client.endpoint import cluster_directory
from heorot.core.client.conversation import Conversation
from heorot.core.errors import HeorotError, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from heorot.cli.arguments import Command, Parsed
    from heorot.core.client.conversation import Request

ANSWER_TIMEOUT_S = 60.0
"""The head bounds its own waits for nodes far below this: a head that is silent for so long is stuck."""
SAY_S = 2.0
"""A head that is replaced sooner than this is not worth a word."""
PIPELINE_REQUESTS = 64
"""So many questions are on their way at once, which bounds the buffers at both ends."""

REFUSED_STATUS = 125


class Head:
    """A connection to the head, for questions.

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
        self._lost_at: float | None = None
        """Since when the questions that are asked now have been without a head for the first time."""
        self._noticed = False
        self._conversation = Conversation()
        self._connection = Connection(self.directory, self._conversation, None if timeout_s is None else REACH_S)
        self._connection.reach(patient)

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
            for request in self._ask_batch(requests[start : start + PIPELINE_REQUESTS]):
                if request.error is not None and not refusals:
                    raise request.error
                many = request.message[0] == "signal"
                answers.append(request.error or (request.value if many else request.value[0]))
        return answers

    def _ask_batch(self, batch: Sequence[tuple[object, ...]]) -> list[Request]:
        """Return the questions when each has its answer, or was refused."""
        conversation = self._conversation
        asked = [self._ask(tag, *fields) for tag, *fields in batch]
        self._lost_at = None
        asked_at = monotonic()
        # Only so long: nobody closes a `Head` that has answered, which goes with the last reference to it.
        self._connection.on_lost = self._lost
        try:
            while conversation.unanswered:
                self._connection.wait(self._patience_s(asked_at))
                self._say_news()
        finally:
            self._connection.on_lost = None
        if conversation.closed is not None:
            raise conversation.closed
        return asked

    def _ask(self, tag: object, *fields: Any) -> Request:
        request = self._conversation.ask(lambda number, *rest: [tag, number, *rest], *fields)
        # A signal that may have arrived is sent once.
        request.repeatable = tag != "signal" or fields[3] == 0
        return request

    def _patience_s(self, asked_at: float) -> float | None:
        """Return how long to wait for the head now. Raises RequestError if it has been silent for too long."""
        now = monotonic()
        if not self._conversation.connected:
            may_say = self._notice is not None and not self._noticed and self._lost_at is not None
            return max(0.0, (self._lost_at or now) + SAY_S - now) if may_say else None
        if self._timeout_s is None:
            return None
        left_s = max(asked_at, self._connection.heard_at) + self._timeout_s - now
        if left_s <= 0:
            raise RequestError(
                "timeout",
                f"the head of {self.directory} does not answer; 'heorot status --dir {self.directory}' may say more",
            )
        return left_s

    def _lost(self, _failed: object) -> None:
        # However many heads are lost while these questions are asked, there is one limit.
        if self._lost_at is None:
            self._lost_at = monotonic()
        if not self._patient or (self._timeout_s is not None and monotonic() - self._lost_at >= REACH_S):
            self._conversation.disconnected(f"the head of {self.directory} is gone; try again when one is active")

    def _say_news(self) -> None:
        conversation, say = self._conversation, self._notice
        for text in conversation.notices:
            (say or _say)(text)
        conversation.notices = []
        if say is None or self._lost_at is None or conversation.closed is not None:
            return
        if self._noticed and conversation.greeted:
            say(f"head {conversation.head} (epoch {conversation.epoch}) has taken over")
            self._noticed = False
        elif not self._noticed and not conversation.connected and monotonic() >= self._lost_at + SAY_S:
            say("the head is gone; waiting for the next one")
            self._noticed = True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _say(text: str) -> None:
    print(f"{os.path.basename(sys.argv[0])}: {text}", file=sys.stderr)


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
