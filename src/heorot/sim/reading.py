"""What a client hears of the job that it reads, checked against the truth as it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heorot.core.streams import EVERYTHING
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.sim.truth import CLOCKS, content

if TYPE_CHECKING:
    from heorot.sim.run import Run


@dataclass(slots=True)
class Reading:
    """All that was heard since the client attached."""

    cluster: Run = field(repr=False)
    send: Callable[[m.Message], None] = field(repr=False)
    """Sends to the head."""
    job: str
    nodes: list[int]
    window_bytes: int
    first: bool
    """It is read from the start of its life."""
    offsets: dict[tuple[int, int], int] = field(default_factory=dict)
    acked: dict[tuple[int, int], int] = field(default_factory=dict)
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    pids: dict[int, int] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    cut_off: set[int] = field(default_factory=set)
    """Ended ranks whose remaining output is gone with their node; only looked up."""
    told_started: set[int] = field(default_factory=set)
    """Over the present connection; only looked up."""
    told_ended: set[int] = field(default_factory=set)
    """The same."""
    told_exits: set[int] = field(default_factory=set)
    """The same."""
    told_cut_off: set[int] = field(default_factory=set)
    """The same."""
    done: bool = False
    stalled_until_us: int = 0
    """Nothing is acknowledged before then, except what was acknowledged already."""

    def go_on(self) -> None:
        """Another head tells everything again, once."""
        self.told_started.clear()
        self.told_ended.clear()
        self.told_exits.clear()
        self.told_cut_off.clear()
        self.done = False

    @property
    def has_news(self) -> bool:
        """Whether anything was heard of the job."""
        return bool(self.pids or self.ends or self.offsets)

    @property
    def is_complete(self) -> bool:
        """Whether every status and every byte that there is has come."""
        return self.done and all(
            rank in self.cut_off or self.offsets.get((rank, stream), 0) >= size
            for (rank, stream), size in self.sizes.items()
        )

    # ------------------------------------------------------------------ states

    def started(self, message: c.Started) -> None:
        """Ranks are said to run."""
        for rank, pid in zip(message.ranks[0::2], message.ranks[1::2], strict=True):
            truth = self.cluster.truth.ranks.get((self.job, rank))
            if truth is None or truth.pid != pid:
                self.cluster.world.violated("ExitOnce", f"{self.job} r{rank} is said to run as {pid}, in truth {truth}")
            if rank in self.told_started:
                self.cluster.world.violated("ExitOnce", f"{self.job} r{rank} was said to be started twice")
            self.told_started.add(rank)
            self.pids[rank] = pid

    def ended(self, message: c.Exited | c.ExitedAlike | c.Failed | c.Lost, epoch: int) -> None:
        """Ranks are said to be over, by the head of this epoch."""
        checks = self.cluster.checks
        if isinstance(message, c.Exited):
            for i in range(0, len(message.ranks), 4):
                rank, status, size_1, size_2 = message.ranks[i : i + 4]
                self._one_exit(rank, status, size_1, size_2)
        elif isinstance(message, c.ExitedAlike):
            for first, count in zip(message.runs[0::2], message.runs[1::2], strict=True):
                for rank in range(first, first + count):
                    self._one_exit(rank, message.wait_status, message.stdout_bytes, message.stderr_bytes)
        elif isinstance(message, c.Failed):
            for rank, _, text in message.ranks:
                checks.failed(self.job, rank, text)
                self._one_end(rank, "refused" if CLOCKS in text else "failed")
        else:
            for rank, node, _ in message.ranks:
                checks.lost(self.job, rank, node, epoch)
                if rank in self.told_ended and rank not in self.told_cut_off and self._has_status(rank):
                    self.told_cut_off.add(rank)
                    self.cut_off.add(rank)
                else:
                    self._one_end(rank, "lost")

    def _one_exit(self, rank: int, status: int, size_1: int, size_2: int) -> None:
        self.cluster.checks.exited(self.job, rank, status, size_1, size_2)
        self.told_exits.add(rank)
        self.sizes[rank, 1], self.sizes[rank, 2] = size_1, size_2
        self._one_end(rank, f"status {status}")

    def _one_end(self, rank: int, what: str) -> None:
        before = self.ends.get(rank)
        if rank in self.told_ended:
            self.cluster.world.violated("ExitOnce", f"{self.job} r{rank}: told {before} and then {what}")
        if self.done:
            self.cluster.world.violated("ExitOnce", f"{self.job} r{rank}: told {what} after Done")
        self.told_ended.add(rank)
        if before is not None and what == "lost":
            # The node is gone meanwhile: the client knows already what became of the rank, and a new head cannot.
            if before.startswith("status"):
                self.cut_off.add(rank)
            return
        if before is not None and before != what and before not in ("lost", "refused"):
            self.cluster.world.violated("ExitOnce", f"{self.job} r{rank}: told {before}, and by another head {what}")
        # What a former head has given up may have been found alive by the next one, and what a node refused to a head
        # whose clock was wrong may have been started by one whose clock is right.
        self.ends[rank] = what

    def all_told(self, text: str) -> None:
        """All ranks are said to be over, with what the user should know of the job."""
        if self.done:
            self.cluster.world.violated("ExitOnce", f"{self.job} was said to be done twice")
        if len(self.told_ended) != len(self.nodes):
            told = len(self.told_ended)
            self.cluster.world.violated("ExitOnce", f"{self.job} is said to be done with {told} statuses only")
        self.cluster.checks.told_what_was_killed(self.job, self.told_exits, text)
        self.done = True

    # ------------------------------------------------------------------ output

    def output(self, message: c.ClientOutput) -> None:
        """Bytes have come."""
        key = (message.rank, message.stream)
        known = self.cluster.truth.jobs[self.job]
        if message.kept_from > known.acked.get(key, 0):
            text = f"bytes up to {message.kept_from} are forgotten, which nobody has"
            self.cluster.world.violated("StreamExact", f"{self.job} r{key[0]}/{key[1]}: {text}")
        have = self.offsets.get(key)
        if have is None:
            have = 0 if self.first else message.kept_from
            if have > known.acked.get(key, 0):
                self.cluster.world.violated(
                    "StreamExact", f"{self.job} r{key[0]}/{key[1]} begins at {have}, which nobody read"
                )
            self.offsets[key] = self.acked[key] = have
        data = message.data
        truth = self.cluster.truth.ranks.get((self.job, message.rank))
        end = message.offset + len(data)
        if truth is None or end > truth.written[message.stream - 1]:
            self.cluster.world.violated(
                "StreamExact", f"{self.job} r{key[0]}/{key[1]}: bytes that nobody wrote, to {end}"
            )
        if data != content(self.job, message.rank, message.stream, message.offset, len(data)):
            self.cluster.world.violated(
                "StreamExact", f"{self.job} r{key[0]}/{key[1]}: wrong bytes at {message.offset}"
            )
        if end - self.acked.get(key, 0) > self.window_bytes:
            self.cluster.world.violated("Bounded", f"{self.job} r{key[0]}/{key[1]}: more than the window is on its way")
        if message.offset < self.acked.get(key, 0):
            # The node has not heard of our acknowledgement: it was on a way that is no more.
            self.send(c.ClientAck(self.job, key[0], key[1], self.acked[key]))
        if message.offset > have:
            return  # a gap: all of it is on its way again
        self.offsets[key] = max(have, end)
        if self.cluster.world.now_us >= self.stalled_until_us:
            self._ack(key, self.window_bytes // 2)

    def _ack(self, key: tuple[int, int], at_least: int) -> None:
        offset = self.offsets[key]
        before = self.acked.get(key, 0)
        whole = self.sizes.get((key[0], key[1]), EVERYTHING)
        if offset > before and (offset - before >= at_least or offset >= whole or self.cluster.world.chance(0.2)):
            self.acked[key] = offset
            known = self.cluster.truth.jobs[self.job]
            known.acked[key] = max(known.acked.get(key, 0), offset)
            self.send(c.ClientAck(self.job, key[0], key[1], offset))

    def ack_all(self) -> None:
        """Acknowledge all that has come."""
        for key in list(self.offsets):
            self._ack(key, 1)

    def _has_status(self, rank: int) -> bool:
        return self.ends.get(rank, "").startswith("status")
