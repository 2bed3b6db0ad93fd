"""What the parts of any machine of the tree share: the time, the instructions to give, and waits for somebody."""

from __future__ import annotations

from typing import Generic, TypeVar

from heorot.core.machine import Log, SetTimer, SharedInstruction
from heorot.core.timers import AwakeDue, Due
from heorot.core.wakefulness import Wakefulness

InstructionT = TypeVar("InstructionT")
"""What a machine may want."""


class MachineContext(Generic[InstructionT]):
    """Shared by the parts of one machine."""

    def __init__(self) -> None:
        self.out: list[SharedInstruction | InstructionT] = []
        self.now_ms = 0
        self.wakefulness = Wakefulness(lambda tick_ms: self.set_timer(AwakeDue(), tick_ms))

    def emit(self, instruction: SharedInstruction | InstructionT) -> None:
        """Give an instruction."""
        self.out.append(instruction)

    def take(self) -> list[SharedInstruction | InstructionT]:
        """Return the instructions that were given since the last call, in order."""
        out, self.out = self.out, []
        return out

    def log(self, level: str, text: str) -> None:
        """Say something in the daemon's log."""
        self.out.append(Log(level, text))

    def warn(self, texts: list[str]) -> None:
        """Say some things in the daemon's log that somebody should look after."""
        self.out += [Log("warning", text) for text in texts]

    def set_timer(self, key: Due, in_ms: int) -> None:
        """Set a timer, relative to now."""
        self.out.append(SetTimer(key, self.now_ms + in_ms))

    def await_somebody(self, key: Due, in_ms: int) -> None:
        """Set the timer of a wait; when it fires, `missed_ms` says whether this machine has slept in it."""
        self.set_timer(key, in_ms)
        self.wakefulness.watch(self.now_ms, in_ms)

    def goes_on_waiting(self, key: Due, in_ms: int) -> bool:
        """The timer of a wait has fired: if this machine has slept in it, set it again, and say so."""
        missed_ms = self.wakefulness.missed_ms(self.now_ms, self.now_ms - in_ms, in_ms)
        if missed_ms:
            self.await_somebody(key, missed_ms)
        return missed_ms > 0
