"""What the parts of the process space's machine share while one event is handled."""

from __future__ import annotations

from heorot.core.space import events as e
from heorot.core.space.jobs import SpaceJob
from heorot.core.wire.tree import SpaceAnswer


class Turn:
    """The time, the instructions so far, and whether there are an agent and a head."""

    __slots__ = ("agent", "alone", "now", "out")

    def __init__(self) -> None:
        self.now = 0
        self.out: list[e.SpaceInstruction] = []
        self.agent = False
        self.alone = False

    def send(self, message: SpaceAnswer) -> None:
        """Answer the agent, if there is one."""
        if self.agent:
            self.out.append(e.ToAgent(message))

    def send_for(self, job: SpaceJob, message: SpaceAnswer) -> None:
        """Answer, unless the agent was not told of the job yet."""
        if not job.muted:
            self.send(message)

    def log(self, level: str, text: str) -> None:
        """Write a line into the daemon's log."""
        self.out.append(e.SpaceLog(level, text))
