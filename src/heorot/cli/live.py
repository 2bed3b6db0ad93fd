"""What a command shows again and again: a watch at the head, which is gone on with under the next one."""

from __future__ import annotations

from time import monotonic

from heorot.client.connection import Connection
from heorot.client.endpoint import cluster_directory
from heorot.core.client.conversation import Conversation
from heorot.core.client.watching import begin_watch
from heorot.core.errors import RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from heorot.core.client.watching import WatchRequest

SAY_S = 2.0
"""What was shown stays for so long when the head is lost: it is soon replaced, as a rule."""


class Live:
    """One topic of a cluster, as it is now.

    Parameters
    ----------
    directory:
        The cluster's, as its option says; empty: the usual one.
    interval_s:
        Between two updates at least, and between two attempts where there is no head.

    Attributes
    ----------
    problem:
        Why nothing can be shown now; empty if something can.
    notices:
        What the head has to say about it.

    Raises
    ------
    RequestError
        If there is no cluster, or no head.
    """

    def __init__(self, directory: str, topic: str, nodes: str, job: str | None, interval_s: float) -> None:
        self.problem = ""
        self.notices: list[str] = []
        self._directory = cluster_directory(directory)
        self._interval_s = interval_s
        self._watch = [topic], round(1000 * interval_s), nodes, job
        self._topic = topic
        self._retry_at: float | None = None
        """When to watch anew; None: there is no need."""
        self._lost_at: float | None = None
        self._shown: WatchRequest | None = None
        """The watch of which something has come last."""
        self._open()

    def _open(self) -> None:
        self._conversation = Conversation()
        self._connection = Connection(self._directory, self._conversation)
        self._connection.on_lost = lambda _: self._lost()
        self._connection.open(patient=False)
        self._ask()

    def _ask(self) -> None:
        self._request = begin_watch(self._conversation, *self._watch)

    def _lost(self) -> None:
        self._lost_at = self._lost_at or monotonic()

    # -------------------------------------------------- what is shown

    @property
    def is_ready(self) -> bool:
        """Whether there is anything to show."""
        return self._shown is not None or bool(self.problem)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows as they are now: nodes in the order in which they were named, if they were."""
        if self._shown is None:
            return []
        table = self._shown.tables.get(self._topic, {})
        named = self._shown.named
        if not named:
            return list(table.values())
        nodes = [node for at in range(0, len(named), 2) for node in range(named[at], named[at] + named[at + 1])]
        return [table[node] for node in nodes if node in table]

    @property
    def missing(self) -> list[int]:
        """The nodes that do not answer."""
        return self._shown.missing if self._shown is not None else []

    # -------------------------------------------------- what comes

    def wait(self, until: float, keyboard: int = -1) -> tuple[bool, bool]:
        """Wait until something new is to be shown, or it is `until` on the clock of `monotonic`, or there is something
        to read from `keyboard`; return whether there is something to show, and to read.
        """
        from select import POLLIN, poll

        poller = poll()
        self._connection.flush()
        fd = self._connection.fileno()
        if fd >= 0:
            poller.register(fd, self._connection.events)
        if keyboard >= 0:
            poller.register(keyboard, POLLIN)
        say_at = None if self._lost_at is None or self.problem else self._lost_at + SAY_S
        first = min(time for time in (until, self._retry_at, self._connection.due_at, say_at) if time is not None)
        ready = dict(poller.poll(max(0, int(1000 * (first - monotonic())) + 1)))
        return self._serve(ready.get(fd, 0)), keyboard in ready

    def _serve(self, ready: int) -> bool:
        before = self.problem
        if self._retry_at is not None and monotonic() >= self._retry_at:
            self._again()
        if self._conversation.closed is None:
            self._connection.serve(ready)
        if self._conversation.closed is not None:
            self._fail(self._conversation.closed)
        elif self._request.error is not None:
            self._fail(self._request.error)
        elif self._request.has_news:
            self._request.take()
            self._request.go_on()
            self._connection.flush()
            self._shown, self._lost_at, self.problem = self._request, None, ""
            self.notices, self._conversation.notices = self._conversation.notices, []
            return True
        elif self._lost_at is not None and monotonic() >= self._lost_at + SAY_S:
            self.problem = f"the head of {self._directory} is gone; waiting for the next one"
        return self.problem != before

    def _again(self) -> None:
        self._retry_at = None
        if self._conversation.closed is None:
            self._ask()
            return
        try:
            self._open()
        except RequestError as error:
            self._conversation.disconnected(error.message)

    def _fail(self, error: RequestError) -> None:
        if self._retry_at is None:
            self._retry_at = monotonic() + self._interval_s
            self.problem = error.message
            self._shown = None
            if self._conversation.closed is not None:
                self._connection.close()
