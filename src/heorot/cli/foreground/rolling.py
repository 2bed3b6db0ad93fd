"""A command on some nodes at a time: a job for each group of them, one after the other, over one connection.

Imported when that is asked for. Nothing of what is still to come is anywhere but here: whatever ends this command, no
further node is begun with.
"""

from __future__ import annotations

from heorot.cli.foreground import signals, words
from heorot.cli.foreground.forms import Sink
from heorot.cli.foreground.loop import ForegroundLoop
from heorot.core.client import messages
from heorot.core.tree.nodeset import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from heorot.cli.foreground.forms import Form
    from heorot.cli.foreground.options import BpshOptions
    from heorot.client.connection import Connection
    from heorot.core.client.job import JobState
    from heorot.core.client.read_stream import ReadStream
    from heorot.core.client.session import Session


class GroupLoop(ForegroundLoop):
    """Runs the job of one group of nodes. How its ranks have exited is said at the end of all."""

    @property
    def is_last(self) -> bool:
        """Whether no further group is to be begun with: somebody wants the end, or our output has nowhere to go."""
        ended_early = self._leave is not None and self._job.error is None
        return ended_early or self.told_to_end or self._session.closed is not None

    def take_signals(self, numbers: bytes) -> None:
        """Take signals that came before this loop was there."""
        for number in numbers:
            self._on_signal(number)

    def unread(self) -> bytes:
        """Return the signals that nobody has read."""
        return self._signals.read()

    def end(self) -> bytes:
        """Leave further signals to the next loop, which is there; return those that nobody has read."""
        return self._signals.close()

    def _failures(self) -> list[str]:
        return []


class Rolling:
    """Runs the command on so many nodes at a time as the options say.

    Parameters
    ----------
    launch:
        Asks for the job on a list of nodes.
    make_form:
        Returns where a job's output goes.
    """

    def __init__(
        self,
        options: BpshOptions,
        session: Session,
        connection: Connection,
        launch: Callable[[str], JobState],
        make_form: Callable[[BpshOptions, Session, JobState, dict[int, Sink]], Form],
    ) -> None:
        self._options = options
        self._session = session
        self._connection = connection
        self._launch = launch
        self._make_form = make_form
        self._sinks = {number: Sink(number, self._consumed) for number in (1, 2)}
        self._job: JobState | None = None
        self._loop: GroupLoop | None = None
        self._unread = b""
        """Signals for the next group."""
        self._nodes_by_code: dict[int, list[int]] = {}

    def run(self) -> int:
        """Run it on one group after the other; return the status to exit with.

        Raises
        ------
        RequestError
            If the nodes cannot be told.
        KeyboardInterrupt
            If Ctrl-C has ended it.
        """
        nodes = self._resolve()
        worst = begun = 0
        while begun < len(nodes):
            group = nodes[begun : begun + self._options.rolling]
            begun += len(group)
            loop, status = self._run_group(group)
            worst = max(worst, status)
            self._unread = loop.unread()
            stops = loop.is_last or any(number in signals.DEADLY for number in self._unread)
            if stops or (status and self._options.stop_on_failure):
                break
        last = self._loop
        assert last is not None
        for code, members in sorted(self._nodes_by_code.items()):
            last.say(f"{names_of(members)}: exit status {code}")
        if begun < len(nodes):
            last.say(f"{names_of(nodes[begun:])}: not begun")
        if last.interrupted or signals.SIGINT in self._unread:
            raise KeyboardInterrupt
        return worst

    def _resolve(self) -> list[int]:
        request = self._session.ask(messages.resolve, self._options.nodes, self._options.select)
        while not request.finished:
            self._connection.wait()
        if request.error is not None:
            raise request.error
        return list(request.value[0])

    def _run_group(self, group: list[int]) -> tuple[GroupLoop, int]:
        job = self._job = self._launch(",".join(str(node) if node >= 0 else words.node_name(node) for node in group))
        loop = GroupLoop(
            "bpsh", self._session, self._connection, job, self._sinks,
            lambda: self._make_form(self._options, self._session, job, self._sinks), read_stdin=False,
        )  # fmt: skip
        loop.take_signals(self._unread + (self._loop.end() if self._loop is not None else b""))
        self._loop = loop
        if not self._session.connected:
            # Lost between two jobs.
            assert self._connection.on_lost is not None
            self._connection.on_lost([])
        status = loop.run_until_acknowledged()
        if status is not None:
            return loop, status
        status = loop.run()
        loop.release()
        self._take_down(job)
        return loop, status

    def _take_down(self, job: JobState) -> None:
        for rank, end in job.statuses.items():
            if end.code and end.error is None:
                self._nodes_by_code.setdefault(end.code, []).append(job.nodes[rank])

    def _consumed(self, stream: ReadStream, count: int) -> None:
        assert self._job is not None
        self._session.consumed(self._job, stream, count)
