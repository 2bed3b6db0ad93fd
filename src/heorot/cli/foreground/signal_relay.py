"""What a command in the foreground does with signals: passes them on to the job. Imported when the first one comes."""

from __future__ import annotations

from time import monotonic

from heorot.cli.foreground import signals, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from heorot.client.connection import Connection
    from heorot.core.client.conversation import Request
    from heorot.core.client.job import JobState
    from heorot.core.client.session import Session

SECOND_INTERRUPT_S = 1.0
"""A second Ctrl-C within this time ends the job hard."""
STOP_ANSWER_S = 1.0
"""How long to wait for the nodes' word before stopping ourselves."""


class SignalRelay:
    """Passes signals on; those that come before the job exists wait for it (`send_early`).

    Parameters
    ----------
    pipe:
        From which our own signals come.
    raw_mode:
        The terminal that is raw while the job runs, if any.
    forward_size:
        Whether to tell the job about a new size of the terminal.
    take:
        Takes our own signals, those that come while we are stopped.
    give_up:
        Ends the command at once: nothing that could still be sent would help.
    """

    def __init__(
        self,
        session: Session,
        connection: Connection,
        job: JobState,
        pipe: signals.SignalPipe,
        raw_mode: terminal.RawMode | None,
        forward_size: bool,
        say: Callable[[str], None],
        take: Callable[[int], None],
        give_up: Callable[[], None],
    ) -> None:
        self._session = session
        self._connection = connection
        self._job = job
        self._pipe = pipe
        self._raw_mode = raw_mode
        self._forward_size = forward_size
        self._say = say
        self._take = take
        self._give_up = give_up
        self._early: list[int] = []
        self._last_interrupt = -SECOND_INTERRUPT_S
        self._killed = False
        self._stop_request: Request | None = None
        self.due_at: float | None = None
        """When we stop ourselves at the latest, as Ctrl-Z wants it."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C was passed on."""
        return self._last_interrupt >= 0

    def signal(self, number: int) -> Request | None:
        """Signal the job."""
        if self._session.closed is not None or self._job.done:
            return None
        if not self._job.id:
            self._early.append(number)
            return None
        return self._session.signal(self._job, number, repeatable=number in signals.REPEATABLE)

    def send_early(self) -> None:
        """The job exists."""
        for number in self._early:
            self.signal(number)

    def relay(self, number: int) -> None:
        """A signal has come that is the job's."""
        if number == signals.SIGINT:
            self._interrupt()
        elif number == signals.SIGTSTP:
            if self.due_at is None:
                self._stop_request = self.signal(number)
                self.due_at = monotonic() + (STOP_ANSWER_S if self._stop_request is not None else 0.0)
        elif number == signals.SIGWINCH:
            if self._forward_size and self._job.id and self._session.closed is None:
                self._session.resize(self._job, *terminal.size(0, 1, 2))
        elif number in signals.FORWARDED:
            self.signal(number)

    def _interrupt(self) -> None:
        now = monotonic()
        if self._killed or (not self._job.id and self._early):
            # The connection's end is a hang-up for the job.
            self._give_up()
            return
        if now - self._last_interrupt <= SECOND_INTERRUPT_S:
            self._say("interrupted twice: killing the job (a third time leaves without waiting)")
            self._killed = True
            self.signal(signals.SIGKILL)
            return
        self._last_interrupt = now
        self.signal(signals.SIGINT)

    def check(self, now: float) -> None:
        """Stop ourselves if the job was told to stop and the nodes have answered, or do not for long."""
        answered = self._stop_request is not None and self._stop_request.finished
        if self.due_at is not None and (now >= self.due_at or answered):
            self._stop_self()

    def _stop_self(self) -> None:
        self.due_at = self._stop_request = None
        # A process group without a parent in its session is not stopped by SIGTSTP: SIGSTOP makes sure.
        self.signal(signals.SIGSTOP)
        self.suspend()

    def suspend(self, group: bool = False) -> None:
        """Give the terminal back and stop until somebody lets us go on, and with us the job; with `group`, all of our
        process group, as the terminal's stop key does.
        """
        self._connection.flush()
        if self._raw_mode is not None:
            self._raw_mode.leave()
        for number in self._pipe.stop_self(group):
            self._take(number)
        if self._raw_mode is not None:
            self._raw_mode.enter()
            self._take(signals.SIGWINCH)
