"""A virtual process: what is so of it. What happens to it is in `heorot.sim.processes` and `heorot.sim.stopping`."""

from __future__ import annotations

from heorot.core.wire import tree as m
from heorot.sim.mpi_rank import MpiRank
from heorot.sim.scripts import Action
from heorot.sim.truth import RankTruth

SIGHUP, SIGTERM, SIGCONT = 1, 15, 18


class VirtualProcess:
    """A rank's process, and whether something that it started is left."""

    __slots__ = (
        "awaited", "blocked", "closed_input", "ended", "fed", "feed_end", "held_signals", "held_step", "holds_pipe",
        "ignored", "job", "leftover", "lingers", "mpi", "outputs_ended", "paused", "piped", "polling", "rank",
        "reading", "script", "slot", "step", "stopped_by", "stops_again", "time_limit_ms", "told_stopped", "truth",
        "uid", "wanted",
    )  # fmt: skip

    def __init__(
        self, slot: int, rank: int, ticket: m.Ticket, script: list[Action], truth: RankTruth, stubborn: bool
    ) -> None:
        self.slot = slot
        self.job = ticket.job
        self.rank = rank
        self.script = script
        self.truth = truth
        limit_ms = self.time_limit_ms = ticket.spec.time_limit_ms
        self.ignored = (0, SIGCONT, *((SIGHUP, SIGTERM) if stubborn and limit_ms else (SIGHUP,) if stubborn else ()))
        self.uid = ticket.uid
        self.lingers = ticket.spec.linger
        self.step = 0
        self.ended = False
        self.leftover = False
        self.awaited = False
        """The space waits for the end of what lingers."""
        self.holds_pipe = False
        self.piped = [0, 0]
        """How many bytes are in each pipe; they are the last ones that were written."""
        self.paused = [False, False]
        self.polling = [False, False]
        self.outputs_ended = [False, False]
        self.blocked: tuple[int, int] | None = None
        """The stream and what is still to be written to it."""
        self.fed: bytes | None = None
        """What waits to get into the input pipe."""
        self.feed_end = False
        self.closed_input = False
        self.reading = False
        self.wanted = 0
        """How much more of the input the process waits for."""
        self.mpi: MpiRank | None = None
        """None: it has nothing to do with MPI."""
        self.stopped_by = 0
        """The signal that has stopped it; 0: it is not stopped."""
        self.stops_again = False
        """It has stopped, and its space was not told of that."""
        self.told_stopped = False
        """How its space was told that it stands."""
        self.held_step: int | None = None
        """The step that it was to go on with while it is stopped."""
        self.held_signals: list[int] = []
        """What it finds when it goes on."""
