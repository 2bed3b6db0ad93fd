"""Taking part in a job that nobody attends: what ``bpjob attach`` does with `bpsh`'s parts."""

from __future__ import annotations

import os
from errno import EIO

from heorot.cli import table
from heorot.cli.foreground import signals
from heorot.cli.foreground.forms import LineForm, PlainForm, Sink
from heorot.cli.foreground.loop import EXIT_UNKNOWN, READ_BYTES, ForegroundLoop
from heorot.cli.foreground.options import DEFAULT_LINE_BYTES
from heorot.client.connection import Connection
from heorot.core.client import messages as wire
from heorot.core.client.end import EXIT_SIGNAL_BASE
from heorot.core.client.session import NewOutput, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from heorot.cli.foreground.forms import Form
    from heorot.core.client.job import JobState
    from heorot.core.client.read_stream import ReadStream
    from heorot.core.client.session import Event


def attach(directory: str, job_id: str, from_start: bool, style: str) -> int:
    """Relay a job's output and our signals until it is over, or we leave it; return the status to exit with.

    The job is released only when all of its output was written. Whatever else ends us, what was not written is kept for
    the next who attaches, and so is the status.

    Input is not relayed: that of a detached job ended when it was started, and how much of an abandoned job's was read
    by its former client cannot be known here.

    Parameters
    ----------
    style:
        Empty: bytes as they come; ``lines``: whole lines; ``number``, ``label``: with the node's number or name.

    Raises
    ------
    RequestError
        If there is no cluster or no such job.
    """
    session = Session()
    connection = Connection(directory, session)
    connection.reach()
    job = session.attach(job_id, from_start)

    def consumed(stream: ReadStream, count: int) -> None:
        session.consumed(job, stream, count)

    sinks = {number: Sink(number, consumed) for number in (1, 2)}

    def make_form() -> Form:
        if not style:
            return PlainForm(sinks)
        prefixes: list[bytes] = []
        if style == "number":
            prefixes = [b"%3d: " % node for node in job.nodes]
        elif style == "label":
            prefixes = [f"{table.node_name(node)}: ".encode() for node in job.nodes]
        # The windows of a job of very many ranks are no larger than a line.
        keep_held = job.acknowledge_bytes > DEFAULT_LINE_BYTES
        return LineForm(sinks, consumed, prefixes, DEFAULT_LINE_BYTES, keep_held=keep_held)

    relay = JoinedLoop(session, connection, job, sinks, make_form)
    refused = relay.run_until_acknowledged()
    # Its first output may come with the acknowledgement, and find nobody who takes it.
    if refused is not None and not job.id:
        return refused
    if relay.reads_stdin and not job.done:
        relay.say(f"Ctrl-D leaves job {job.id} running; Ctrl-C, Ctrl-Z and Ctrl-\\ go to it")
    status = relay.run()
    if not relay.all_written:
        return relay.leave()
    relay.release()
    # Who left by Ctrl-D while the last of it was written has got it all, and so the status, too.
    return job.exit_status if relay.has_left else status


class JoinedLoop(ForegroundLoop):
    """Takes part in a job that was there before us: Ctrl-D at a terminal and output that nobody takes leave it running,
    and a hang-up is not passed on.
    """

    def __init__(
        self,
        session: Session,
        connection: Connection,
        job: JobState,
        sinks: dict[int, Sink],
        make_form: Callable[[], Form],
    ) -> None:
        # What reads our output, such as less(1), may read its keys from the same terminal: then no Ctrl-D is for us.
        leaves_at_end = os.isatty(0) and os.isatty(1)
        super().__init__("bpjob", session, connection, job, sinks, make_form, read_stdin=leaves_at_end)
        self._left = False
        """The user has left the job, which shall go on, or nobody reads it here any more."""

    @property
    def has_left(self) -> bool:
        """Whether the user has left the job, or nobody takes its output here."""
        return self._left

    @property
    def all_written(self) -> bool:
        """Whether the job is over and all of its output was written; not what we have thrown away."""
        return self._job.complete and not self._abandoned and self._job.all_consumed

    def leave(self) -> int:
        """End without all of the job, which keeps what was not written; return the status to exit with."""
        if self._left or (self._job.done and self._abandoned):
            return self._leave_kept()
        # A hang-up, or nobody answers: the end of the connection says the rest.
        self._acknowledge_written()
        self._connection.flush()
        return EXIT_UNKNOWN if self._leave is None else self._leave

    def _acknowledge_written(self) -> None:
        """Have the job keep what was not written and no more. A closed window may not have shown what it took: rather
        twice than never.
        """
        if self._session.closed is None and not any(sink.hung_up() for sink in self._sinks.values()):
            self._session.acknowledge_all(self._job)

    def _leave_kept(self) -> int:
        """Tell the head that the job shall go on without us, and wait for its word as long as it is there; return the
        status to exit with.
        """
        job = self._job.id
        why = ""
        if self._session.closed is None:  # else it was said why
            self._left = True
            self._abandoned = False  # from now on: do not wait for the answer
            self._acknowledge_written()
            request = self._session.ask(wire.detach, job)
            while not request.finished and self._session.connected and not self._abandoned:
                self._turn()
            if request.finished and request.error is None:
                if self._job.done:
                    self.say(f"job {job} is over: 'bpjob attach {job}' shows what was not written, and its status")
                else:
                    self.say(f"job {job} runs on: 'bpjob attach {job}' joins it again")
                return self._leave or 0
            if self._session.closed is None:
                why = request.error.message if request.error is not None else "no head has answered"
                why += "; "
        self.say(f"{why}whether job {job} runs on is unknown: see 'bpjob show {job}'")
        return self._leave or EXIT_UNKNOWN

    # -------------------------------------------------- what is otherwise than for a job of our own

    def _on_events(self, events: list[Event]) -> None:
        if self._left:
            # What is written stays on the node for whoever comes next.
            events = [event for event in events if not isinstance(event, NewOutput)]
        super()._on_events(events)

    def _stdin_room_bytes(self) -> int:
        return READ_BYTES

    def _take_stdin(self, data: bytes) -> None:
        if not data:
            self.reads_stdin = False
            self._register(0, 0)
            if os.isatty(0):  # else its window was closed
                self._left, self._leave = True, 0

    def _tell_unread(self, error: OSError) -> None:
        # It did not begin with this output and does not end with it. But a terminal whose window is closed says EIO,
        # and is a hang-up.
        self._left = self._left or error.errno != EIO

    def _on_signal(self, number: int) -> None:
        if number == signals.SIGHUP:
            self._give_up(EXIT_SIGNAL_BASE + number)
        else:
            super()._on_signal(number)
