"""The event loop of a command that runs a job in the foreground: head, own stdin, stdout and stderr, and signals.

It is written directly on poll(2): the standard library's loops take longer to import than a short command may take.
"""

from __future__ import annotations

import os
from errno import EIO
from select import POLLIN, POLLOUT, poll
from time import monotonic

from heorot.cli.foreground import signals, terminal, words
from heorot.cli.foreground.news import EndedRanks
from heorot.core.client.end import EXIT_SIGNAL_BASE
from heorot.core.client.session import RELEASE_TIMEOUT_S, NewOutput, RanksEnded
from heorot.start import EXIT_OUTPUT, EXIT_REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from heorot.cli.foreground.forms import Form, Sink
    from heorot.cli.foreground.signal_relay import SignalRelay
    from heorot.cli.foreground.takeover import Takeover
    from heorot.client.connection import Connection
    from heorot.core.client.conversation import Request
    from heorot.core.client.job import JobState
    from heorot.core.client.session import Event, Session

READ_BYTES = 64 * 1024
BACKGROUND_CHECK_S = 0.5
"""How often to look whether we may read from the terminal again."""
STUCK_S = 1.0
"""How long to wait for somebody to read our output after a signal has ended the job."""

EXIT_UNREADABLE = 1
"""Our input could not be read: the least that the job's status can be."""
EXIT_UNKNOWN = 255
"""What became of the job, or of some of it, cannot be known."""
EXIT_BROKEN_PIPE = EXIT_SIGNAL_BASE + 13
EXIT_INTERRUPTED = EXIT_SIGNAL_BASE + 2


class ForegroundLoop:
    """Runs one job in the foreground. A head that is lost is waited for: the job runs on meanwhile.

    Parameters
    ----------
    make_form:
        Called once the job exists: where its output goes.
    read_stdin:
        Whether our stdin goes to the job.
    raw_mode:
        The terminal to keep raw while the job runs, if any.
    forward_size:
        Whether to tell the job about a new size of the terminal.
    """

    def __init__(
        self,
        name: str,
        session: Session,
        connection: Connection,
        job: JobState,
        sinks: dict[int, Sink],
        make_form: Callable[[], Form],
        *,
        read_stdin: bool,
        raw_mode: terminal.RawMode | None = None,
        forward_size: bool = False,
    ) -> None:
        self.name, self.refused_status = name, EXIT_REFUSED
        self._takeover: Takeover | None = None
        """Since the head was lost."""
        self._session = session
        self._connection = connection
        connection.on_lost, connection.before_close = self._head_lost, self._forget_fd
        self._job = job
        self._sinks = sinks
        for sink in sinks.values():
            sink.wait = self._wait_for_sink
        self._make_form = make_form
        self._form: Form | None = None
        self.reads_stdin = read_stdin
        """Our stdin goes to the job, as far as it may."""
        self.says_failures = True
        """Say of ranks that they did not end well, and at the end on which nodes, if not on all in the same way."""
        self._stdin_is_terminal = read_stdin and os.isatty(0)
        self._raw_mode = raw_mode
        self._forward_size = forward_size
        numbers = (*signals.FORWARDED, signals.SIGINT, signals.SIGTSTP)
        self._signals = signals.SignalPipe((*numbers, signals.SIGWINCH) if forward_size else numbers)
        if self._stdin_is_terminal:
            terminal.ignore_background_stops()
        self._relay: SignalRelay | None = None
        """Since a signal came."""
        self._leave: int | None = None
        """The status to exit with before the job is over."""
        self._abandoned = False
        """Do not even write what is here already."""
        self.told_to_end = self._unreadable = False
        self._give_up_at: float | None = None
        self._release_until: float | None = None
        self._written_bytes = 0
        self._ended = EndedRanks(job)
        self._poll = poll()
        self._registered: dict[int, int] = {}

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the job; a shell must see that in how we end, or its loop would go on."""
        interrupts = self._leave == EXIT_INTERRUPTED or (self._relay is not None and self._relay.interrupted)
        return interrupts and EXIT_INTERRUPTED in (self._leave, self._job.exit_status)

    def say(self, text: str) -> None:
        """Write a line about the command itself to stderr."""
        # In raw mode a newline alone does not return to the first column.
        end = "\r\n" if self._raw_mode is not None and self._raw_mode.active else "\n"
        words.write_line(f"{self.name}: ", text, end)

    def run_until_acknowledged(self) -> int | None:
        """Wait until the job exists, and may be left if it is detached; return None, or the status to exit with."""
        while not self._job.launched and self._leave is None:
            self._turn()
        return self._leave

    def run(self) -> int:
        """Relay until the job and its output are over; return the status to exit with."""
        while self._leave is None and not self._job.complete:
            self._turn()
        self._say_news()
        if self._form is not None and not self._abandoned:
            try:
                self._form.finish()
            except OSError as error:
                self._output_failed(error)
            while any(sink.pending_bytes for sink in self._sinks.values()):
                self._turn()
        if self.says_failures and self._leave is None and not self.told_to_end:
            for line in self._failures():
                self.say(line)
        if self._job.done_text:
            self.say(f"job {self._job.id}: {self._job.done_text}")
        if self._leave is not None:
            return self._leave
        return max(self._job.exit_status, EXIT_UNREADABLE if self._unreadable else 0)

    def release(self) -> None:
        """Say that we have all that we want of the job; if the head is lost, to the next one. If none comes for long,
        it stays in the list of jobs for a while.
        """
        self._serve_head(POLLIN)  # perhaps the end of the connection: a head that is gone hears nothing
        if self._session.closed is not None:
            return
        self._session.release(self._job)
        self._release_until = monotonic() + RELEASE_TIMEOUT_S
        while self._session.owes_releases and not self._abandoned and monotonic() < self._release_until:
            self._turn()
        self._connection.flush()
        while self._session.outgoing and self._connection.fileno() >= 0:
            poller = poll()
            poller.register(self._connection.fileno(), POLLOUT)
            poller.poll()
            self._connection.flush()

    def _check_progress(self, now: float) -> None:
        """If a signal has ended the job and nobody reads its output, do not wait for ever."""
        if not self.told_to_end or not self._job.done:
            return
        written_bytes = sum(sink.written_bytes for sink in self._sinks.values())
        if self._give_up_at is None or written_bytes != self._written_bytes:
            self._written_bytes = written_bytes
            self._give_up_at = now + STUCK_S
        elif now >= self._give_up_at:
            self._give_up(self._job.exit_status)

    def _wait_for_sink(self, sink: Sink) -> None:
        """Wait until a form may go on writing; signals are heard meanwhile."""
        poller = poll()
        poller.register(sink.fd, POLLOUT)
        poller.register(self._signals.fd, POLLIN)
        poller.poll()
        for number in self._signals.read():
            self._on_signal(number)
        self._connection.flush()

    # -------------------------------------------------- one turn of the loop

    def _turn(self) -> None:
        self._connection.flush()
        timeout_s = self._interests()
        head_fd = self._connection.fileno()
        for fd, events in self._poll.poll(None if timeout_s is None else max(0, int(timeout_s * 1000) + 1)):
            if self._abandoned:
                return
            if fd == head_fd:
                self._serve_head(events)
            elif fd == self._signals.fd:
                for number in self._signals.read():
                    self._on_signal(number)
            elif fd == 0:
                self._on_stdin()
        try:
            self._flush_sinks()
        except OSError as error:
            self._output_failed(error)
        now = monotonic()
        if self._ended.news.due_at is not None and now >= self._ended.news.due_at:
            self._say_news()
        if self._relay is not None:
            self._relay.check(now)
        self._check_progress(now)
        if self._takeover is not None:
            self._between_heads(self._takeover)

    def _interests(self) -> float | None:
        """Register what to wait for; return for how long."""
        # We read even while our own output is stuck: its windows bound what can come, and control goes on.
        head_fd = self._connection.fileno()
        if head_fd >= 0:
            self._register(head_fd, self._connection.events)
        self._register(self._signals.fd, POLLIN)
        for sink in self._sinks.values():
            self._register(sink.fd, POLLOUT if sink.pending_bytes else 0)
        said_at = self._takeover.due_at if self._takeover is not None else None
        stop_at = self._relay.due_at if self._relay is not None else None
        own = self._ended.news.due_at, self._give_up_at, self._release_until
        times = (*own, stop_at, said_at, self._connection.due_at)
        deadlines = [at for at in times if at is not None]
        timeout_s = max(0.0, min(deadlines) - monotonic()) if deadlines else None
        if self.reads_stdin:
            wanted = bool(self._job.id) and not self._job.done and self._leave is None and self._stdin_room_bytes() > 0
            if wanted and self._stdin_is_terminal and not terminal.in_foreground(0):
                wanted = False
                timeout_s = BACKGROUND_CHECK_S if timeout_s is None else min(timeout_s, BACKGROUND_CHECK_S)
            elif wanted and self._raw_mode is not None:
                self._raw_mode.enter()
            self._register(0, POLLIN if wanted else 0)
        return timeout_s

    def _register(self, fd: int, events: int) -> None:
        known = self._registered.get(fd, 0)
        if events == known:
            return
        if not events:
            # Not merely no events: poll reports a hang-up even to those who did not ask.
            self._poll.unregister(fd)
        else:
            self._poll.register(fd, events)
        self._registered[fd] = events

    # -------------------------------------------------- the head

    def _serve_head(self, ready: int) -> None:
        before = self._job.error, self._session.closed
        events = self._connection.serve(ready)
        if self._session.notices:
            for text in self._session.notices:
                self.say(text)
            self._session.notices = []
        if (self._job.error, self._session.closed) != before:
            self._refused()
        if self._job.error is not None:
            return
        if self._form is None and self._job.id:
            self._form = self._make_form()
            if self._raw_mode is not None:
                # Before the first byte of a remote terminal, which ends its lines itself.
                self._raw_mode.enter()
            if self._relay is not None:
                self._relay.send_early()
        try:
            self._on_events(events)
        except OSError as error:
            self._output_failed(error)

    def _forget_fd(self, fd: int) -> None:
        self._register(fd, 0)

    def _head_lost(self, unanswered: list[Request]) -> None:
        if self._takeover is None:
            from heorot.cli.foreground.takeover import Takeover

            self._takeover = Takeover(self._job, self.say)
        self._takeover.lost(unanswered)

    def _between_heads(self, takeover: Takeover) -> None:
        takeover.check()
        number = takeover.leaves_for()
        if number:
            self._give_up(EXIT_SIGNAL_BASE + number)
        elif self._session.closed is not None:
            self._takeover = None
        elif self._session.greeted and not self._job.resuming:
            takeover.over(self._session)
            self._takeover = None
        elif not self._session.connected:
            self._serve_head(0)

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, NewOutput):
                assert self._form is not None
                self._form.output(event.stream, event.data)
            elif isinstance(event, RanksEnded):
                self._ended.add(event.ranks, self.says_failures)
        # Only now: the job's state is that after the last of these events.
        for rank in self._ended.take_complete():
            assert self._form is not None
            self._form.ended(rank)

    def _say_news(self) -> None:
        for line in words.folded(self._job, self._ended.news.take()):
            self.say(line)

    def _failures(self) -> list[str]:
        return words.failures(self._job)

    def _refused(self) -> None:
        error = self._job.error or self._session.closed
        assert error is not None
        if self._job.done_text != error.message:
            self.say(error.message)
        refused = not self._job.id and error.code not in ("connection-lost", "launch-unknown")
        self._leave = self.refused_status if refused or error.code == "protocol" else EXIT_UNKNOWN

    # -------------------------------------------------- our own files

    def _on_stdin(self) -> None:
        try:
            data = os.read(0, min(READ_BYTES, self._stdin_room_bytes()))
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == EIO and self._stdin_is_terminal and not terminal.in_foreground(0):
                return
            if error.errno != EIO:
                self.say(f"cannot read stdin: {error.strerror}")
                self._unreadable = True
            data = b""
        self._take_stdin(data)

    def _stdin_room_bytes(self) -> int:
        """Return how much of our stdin may be read now."""
        return self._job.stdin_stream().room_bytes

    def _take_stdin(self, data: bytes) -> None:
        self._session.send_stdin(self._job, data, end=not data)

    def _flush_sinks(self) -> None:
        for sink in self._sinks.values():
            if sink.pending_bytes:
                sink.flush()

    def _output_failed(self, error: OSError) -> None:
        """Our output has nowhere to go: as for a local command, the job hears of it, and we end."""
        is_unread = isinstance(error, BrokenPipeError)
        if not is_unread:
            self.say(f"cannot write {error.filename or 'output'}: {error.strerror}")
        self._give_up(EXIT_BROKEN_PIPE if is_unread else EXIT_OUTPUT)
        self._tell_unread(error)

    def _tell_unread(self, error: OSError) -> None:
        self._signals_to_job().signal(signals.SIGPIPE)
        self._connection.flush()

    def _abandon(self) -> None:
        self._abandoned = True
        for sink in self._sinks.values():
            sink.discard()

    # -------------------------------------------------- signals

    def _signals_to_job(self) -> SignalRelay:
        if self._relay is None:
            from heorot.cli.foreground.signal_relay import SignalRelay

            self._relay = SignalRelay(
                self._session, self._connection, self._job, self._signals, self._raw_mode, self._forward_size, self.say,
                take=self._on_signal, give_up=lambda: self._give_up(EXIT_INTERRUPTED),
            )  # fmt: skip
        return self._relay

    def _give_up(self, status: int) -> None:
        self._leave = status
        self._abandon()

    def _on_signal(self, number: int) -> None:
        if self._abandoned and number not in signals.DEADLY:
            return  # a shell sends SIGCONT after SIGHUP, which is not for a job that we have left
        if number in signals.DEADLY:
            self.told_to_end = True
            # If the job cannot be told any more, only our own output keeps us here.
            alone = self._job.done or self._leave is not None
            if alone or (self._takeover is not None and self._takeover.told_to_end(number)):
                self._give_up(EXIT_SIGNAL_BASE + number)
                return
        self._signals_to_job().relay(number)
