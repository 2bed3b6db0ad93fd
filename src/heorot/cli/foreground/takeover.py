"""What a command in the foreground does between one head and the next. Imported when a head is lost."""

from __future__ import annotations

from time import monotonic

from heorot.cli.foreground import signals
from heorot.linux.signal_names import signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from heorot.core.client.conversation import Request
    from heorot.core.client.job import JobState
    from heorot.core.client.session import Session

PATIENCE_S = 5.0
"""How long a signal that ends waits for a head which could pass it on: longer than an election takes."""
SAY_S = 2.0
"""A head that is replaced sooner than this is not worth a word."""


class Takeover:
    """The time from the loss of a head until the next one has greeted us.

    Parameters
    ----------
    unlaunched:
        What to say of a job that has no id yet.
    """

    def __init__(
        self, job: JobState, say: Callable[[str], None], unlaunched: str = "the launch was not acknowledged yet"
    ) -> None:
        self._say_at = monotonic() + SAY_S
        self._job = job
        self._say = say
        self._unlaunched = unlaunched
        self._said = False
        self._told_to_end = False
        self._number = 0
        self._leave_at: float | None = None

    def lost(self, unanswered: Sequence[Request]) -> None:
        """A connection is gone, and with it the answers to these requests: signals that must not come twice."""
        for request in unanswered:
            name = signal_name(request.message[5])
            self._say(f"the head was lost before it said whether {name} has arrived: send it again if it is needed")

    @property
    def due_at(self) -> float | None:
        """When `check` or `leaves_for` has something to do."""
        times = [] if self._said else [self._say_at]
        if self._leave_at is not None:
            times.append(self._leave_at)
        return min(times, default=None)

    def check(self) -> None:
        """Say that there is no head, once, if that takes long."""
        if not self._said and monotonic() >= self._say_at:
            self._said = True
            runs_on = f"job {self._job.id} runs on" if self._job.id else self._unlaunched
            if self._job.done:
                runs_on = f"job {self._job.id} is over, and it shall know that we have all of it"
            self._say(f"the head is gone; waiting for the next one ({runs_on})")

    def over(self, session: Session) -> None:
        """The next head has greeted us."""
        if self._said:
            self._say(f"head {session.head} (epoch {session.epoch}) has taken over")

    def told_to_end(self, number: int) -> bool:
        """The user wants an end; return True if it is for the second time, and to be obeyed without a head.

        Who waits at a terminal decides with a second Ctrl-C. Whoever sends anything else, as timeout(1) does, sends it
        once: it is obeyed when no head comes soon (`leaves_for`).
        """
        if self._told_to_end:
            self._say_farewell()
            return True
        self._told_to_end = self._said = True
        name = signal_name(number)
        if number == signals.SIGINT:
            way_out = "once more leaves"
        else:
            self._number, self._leave_at = number, monotonic() + PATIENCE_S
            way_out = f"without one in {PATIENCE_S:.0f} s this command leaves"
        if self._job.id:
            left = "the job running" if number == signals.SIGINT else "it running"
            self._say(f"there is no head now: {name} goes to the job when the next one is there; {way_out} {left}")
        else:
            self._say(f"there is no head now, and {self._unlaunched}: {way_out}")
        return False

    def leaves_for(self) -> int:
        """Return the signal for which the command is to end now, as no head has come; 0: none."""
        if self._leave_at is None or monotonic() < self._leave_at:
            return 0
        self._say_farewell()
        return self._number

    def _say_farewell(self) -> None:
        if self._job.id:
            self._say(f"job {self._job.id} runs on: 'bpjob attach {self._job.id}' when a head is there again")
        else:
            self._say("whether the command was started is unknown: see 'bpjob list' when a head is there again")
