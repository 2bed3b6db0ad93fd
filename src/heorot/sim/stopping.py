"""Virtual processes that stop and go on, as the kernel has it."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from heorot.core.space import events as e
from heorot.core.space.shell import SpaceShell

if TYPE_CHECKING:
    from heorot.sim.virtual_process import VirtualProcess
    from heorot.sim.world import World

SIGKILL, SIGCONT, SIGSTOP, SIGTSTP = 9, 18, 19, 20
STOPPING = (SIGSTOP, SIGTSTP)


class Stopping(SpaceShell):
    """The part of a virtual process table that stops processes, lets them go on, and tells the space of it."""

    world: World
    dead: bool

    @abstractmethod
    def tell(self, event: e.SpaceEvent) -> None:
        """Give the machine an event."""

    @abstractmethod
    def _run(self, process: VirtualProcess) -> None:
        """Take steps of the script until one has to wait."""

    @abstractmethod
    def _write(self, process: VirtualProcess) -> bool:
        """Go on with what is written; return whether all is."""

    @abstractmethod
    def _take_input(self, process: VirtualProcess) -> None:
        """Take what is read, if anything is."""

    @abstractmethod
    def _signal(self, process: VirtualProcess, signal: int) -> None:
        """Deliver a signal."""

    @abstractmethod
    def _read_pipe(self, process: VirtualProcess, index: int) -> None:
        """Tell what was written."""

    def _stop(self, process: VirtualProcess, signal: int) -> None:
        if not process.stopped_by:
            process.stopped_by, process.stops_again = signal, True
            self.world.after(self.world.between(10, 300), self._look, process)

    def _continue(self, process: VirtualProcess) -> None:
        if self.dead or process.ended or not process.stopped_by:
            return
        process.stopped_by, process.stops_again = 0, False
        self.world.after(self.world.between(10, 300), self._look, process)
        signals, process.held_signals = process.held_signals, []
        for signal in signals:
            self._signal(process, signal)
        if not process.ended:
            self._go_on(process)

    def _resume(self, process: VirtualProcess, step: int) -> None:
        if process.step != step or process.ended:
            return
        if process.stopped_by:
            process.held_step = step
        else:
            self._run(process)

    def _go_on(self, process: VirtualProcess) -> None:
        """Take up what was waited for when it stopped."""
        step, process.held_step = process.held_step, None
        if step is not None:
            self._resume(process, step)
        elif process.blocked is not None:
            if self._write(process):
                self.world.after(0, self._resume, process, process.step)
        else:
            self._take_input(process)

    def _stops_or_holds(self, process: VirtualProcess, signal: int) -> bool:
        """Do what a signal does that stops a process or lets it go on, and keep others from one that is stopped; return
        whether it was one of these.
        """
        if signal in STOPPING:
            self._stop(process, signal)
        elif signal == SIGCONT:
            self._continue(process)
        elif process.stopped_by and signal not in (0, SIGKILL):
            process.held_signals.append(signal)
        else:
            return False
        return True

    def _look(self, process: VirtualProcess) -> None:
        """Tell how a process stands, as waitpid(2) would: of several changes the last."""
        if self.dead or process.ended:
            return
        if process.stopped_by and process.stops_again:
            for index in (0, 1):
                if not (process.paused[index] or process.outputs_ended[index]):
                    self._read_pipe(process, index)
            process.truth.stands(process.stopped_by, 2 if process.told_stopped else 1, self.world.now_us)
            process.stops_again, process.told_stopped = False, True
            self.tell(e.ProcessStopped(process.slot, process.stopped_by))
        elif not process.stopped_by and process.told_stopped:
            process.told_stopped = False
            process.truth.stands(0, 1, self.world.now_us)
            self.tell(e.ProcessContinued(process.slot))
