"""What a shell of a process space must do: a method for each instruction, and what the machine is told of it.

As in `heorot.core.shells`, of which the rules hold here, too; and of a slot that was forgotten, nothing more is told.
"""

from __future__ import annotations

from abc import abstractmethod

from heorot.core.dispatch import Dispatch
from heorot.core.space import events as e


class SpaceShell(Dispatch[e.SpaceInstruction], instructions=e.SpaceInstruction):
    """Runs the machine of a process space."""

    __slots__ = ()

    @abstractmethod
    def to_agent(self, item: e.ToAgent) -> None:
        """The agent gets them in order, except that all others may overtake those of `bulk`; dropped if there is none.
        How much of it waits is told now and then by `Backlog`.
        """

    @abstractmethod
    def start_ranks(self, item: e.StartRanks) -> None:
        """Each slot is answered by `ProcessStarted` or `StartFailed`, in the order of `slots`. Of one that has started
        follow a `WriteEnded` for each of its two outputs, after all that was written there, and one `ProcessExited`.
        Before that, how it stands: `ProcessStopped` and `ProcessContinued`, of several changes perhaps the last only.
        """

    @abstractmethod
    def cancel_starts(self, item: e.CancelStarts) -> None:
        """Slots of the job that were not answered yet are answered by nothing."""

    @abstractmethod
    def feed(self, item: e.Feed) -> None:
        """Answered by `Fed` when the rank's pipe has taken all, or by `InputClosed`; if the process ends meanwhile, by
        nothing or by `InputClosed`.
        """

    @abstractmethod
    def feed_end(self, item: e.FeedEnd) -> None:
        """The rank finds the end of its input."""

    @abstractmethod
    def pmi_answer(self, item: e.PmiAnswer) -> None:
        """The rank reads it; of what it says, `PmiSaid` comes in order, and before its `ProcessExited`."""

    @abstractmethod
    def pmi_close(self, item: e.PmiClose) -> None:
        """The rank finds the end of its connection, and no `PmiSaid` of it comes any more."""

    @abstractmethod
    def pause_reading(self, item: e.PauseReading) -> None:
        """At most one `Wrote` still comes of this stream, and no `WriteEnded`, before it is read again or closed."""

    @abstractmethod
    def resume_reading(self, item: e.ResumeReading) -> None:
        """What was left in the pipe comes now."""

    @abstractmethod
    def send_signal(self, item: e.SendSignal) -> None:
        """No more than kill(2) would do."""

    @abstractmethod
    def destroy(self, item: e.Destroy) -> None:
        """`ProcessExited` follows for each slot that was not reaped yet."""

    @abstractmethod
    def sweep(self, item: e.Sweep) -> None:
        """Answered by `Swept`."""

    @abstractmethod
    def close_outputs(self, item: e.CloseOutputs) -> None:
        """Each stream whose end was not told is answered by what it holds and by `WriteEnded`, paused or not."""

    @abstractmethod
    def select(self, item: e.Select) -> None:
        """Answered by `Selected`."""

    @abstractmethod
    def resize_terminals(self, item: e.ResizeTerminals) -> None:
        """Their processes are told by the kernel."""

    @abstractmethod
    def forget_slots(self, item: e.ForgetSlots) -> None:
        """Nothing of them is kept."""

    @abstractmethod
    def space_log(self, item: e.SpaceLog) -> None:
        """Write it down."""
