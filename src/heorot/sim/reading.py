"""What a client hears of the job that it reads, and what its session makes of that, compared with the truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from heorot.core.client.end import RankUsage, Status
from heorot.core.wire import clients as c
from heorot.sim.truth import CLOCKS, content

if TYPE_CHECKING:
    from heorot.core.client.job import JobState
    from heorot.core.client.read_stream import ReadStream
    from heorot.core.client.session import NewOutput, Session
    from heorot.sim.run import Run


@dataclass(slots=True)
class Reading:
    """All that was heard since the client attached."""

    cluster: Run = field(repr=False)
    job: str
    nodes: list[int]
    window_bytes: int
    spare_bytes: int
    first: bool
    """It is read from the start of its life."""
    offsets: dict[tuple[int, int], int] = field(default_factory=dict)
    """By rank and stream: up to where the session has given the bytes, each once."""
    taken: dict[tuple[int, int], int] = field(default_factory=dict)
    """The same: up to where they are where they belong."""
    limits: dict[tuple[int, int], int] = field(default_factory=dict)
    """The same: up to where it may be sent beyond its window,"""
    turns: dict[tuple[int, int], int] = field(default_factory=dict)
    """and the same, as long as that is not over."""
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    pids: dict[int, int] = field(default_factory=dict)
    ends: dict[int, str] = field(default_factory=dict)
    first_ends: dict[int, str] = field(default_factory=dict)
    """What a client goes by, whatever a later head makes of a rank."""
    cut_off: set[int] = field(default_factory=set)
    """Ended ranks whose remaining output is gone with their node; only looked up."""
    told_changes: dict[int, int] = field(default_factory=dict)
    """By rank that has stopped: its last change that was told over the present connection."""
    told_started: set[int] = field(default_factory=set)
    """Over the present connection; only looked up."""
    told_ended: set[int] = field(default_factory=set)
    """The same."""
    told_exits: set[int] = field(default_factory=set)
    """The same."""
    told_cut_off: set[int] = field(default_factory=set)
    """The same."""
    done: bool = False
    ever_done: bool = False
    """Some head has said so: what it told stays true, whatever the next one has said so far."""
    stalled_until_us: int = 0
    """Nothing is consumed before then."""
    waiting: list[NewOutput] = field(default_factory=list, repr=False)
    """What is not consumed yet."""

    def go_on(self) -> None:
        """Another head tells everything again, once."""
        self.told_changes.clear()
        self.told_started.clear()
        self.told_ended.clear()
        self.told_exits.clear()
        self.told_cut_off.clear()
        self.limits.clear()
        self.turns.clear()
        self.done = False

    @property
    def is_complete(self) -> bool:
        """Whether every status and every byte that there is has come."""
        return self.ever_done and all(
            rank in self.cut_off or self.offsets.get((rank, stream), 0) >= size
            for (rank, stream), size in self.sizes.items()
        )

    # ------------------------------------------------------------------ states

    def runs(self, message: c.Started | c.Stopped) -> None:
        """Ranks are said to run, to have stopped, or to go on."""
        if isinstance(message, c.Stopped):
            self._stopped(message)
            return
        for rank, pid in zip(message.ranks[0::2], message.ranks[1::2], strict=True):
            truth = self.cluster.truth.ranks.get((self.job, rank))
            if truth is None or truth.pid != pid:
                self.cluster.world.violated("ExitOnce", f"{self.job} r{rank} is said to run as {pid}, in truth {truth}")
            if rank in self.told_started:
                self.cluster.world.violated("ExitOnce", f"{self.job} r{rank} was said to be started twice")
            self.told_started.add(rank)
            self.pids[rank] = pid

    def _stopped(self, message: c.Stopped) -> None:
        for i in range(0, len(message.ranks), 5):
            rank, changes, signal, *written = message.ranks[i : i + 5]
            truth = self.cluster.truth.ranks.get((self.job, rank))
            if truth is None or truth.stood.get(changes) != signal:
                text = f"stopped by {signal} after {changes} changes, in truth {truth}"
                self.cluster.world.violated("StopsTold", f"{self.job} r{rank} is said to be {text}")
            if any(told > true for told, true in zip(written, truth.written, strict=True)):
                self.cluster.world.violated("StreamExact", f"{self.job} r{rank} has not written {written} yet: {truth}")
            if changes <= self.told_changes.get(rank, 0) or rank in self.told_ended:
                self.cluster.world.violated("StopsTold", f"{self.job} r{rank}: told of change {changes} late")
            self.told_changes[rank] = changes

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
                # Whoever has ended under this head, whatever a former one made of it, has lost the rest of its output.
                if rank in self.told_exits and rank not in self.told_cut_off:
                    self.told_cut_off.add(rank)
                else:
                    self._one_end(rank, "lost")
                self.cut_off.add(rank)

    def _one_exit(self, rank: int, status: int, size_1: int, size_2: int) -> None:
        self.cluster.checks.exited(self.job, rank, status, size_1, size_2)
        self.told_exits.add(rank)
        if self._has_status(rank) or rank not in self.first_ends:
            self.sizes[rank, 1], self.sizes[rank, 2] = size_1, size_2
        self._one_end(rank, f"status {status}")

    def _one_end(self, rank: int, what: str) -> None:
        before = self.ends.get(rank)
        if rank in self.told_ended:
            self.cluster.world.violated("ExitOnce", f"{self.job} r{rank}: told {before} and then {what}")
        if self.done:
            self.cluster.world.violated("ExitOnce", f"{self.job} r{rank}: told {what} after Done")
        self.told_ended.add(rank)
        self.first_ends.setdefault(rank, what)
        if before is not None and what == "lost":
            # The node is gone meanwhile: the client knows already what became of the rank, and a new head cannot.
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
        self.done = self.ever_done = True

    def compare(self, state: JobState) -> None:
        """The session says that it has everything: that must be so, with the ends that were told first."""
        if not self.is_complete:
            self.cluster.world.violated("StreamExact", f"the session takes {self.job} for complete: {self}")
        for rank, end in self.first_ends.items():
            status = state.statuses.get(rank)
            if end == "lost":
                agree = status is not None and status.lost
            elif end.startswith("status "):
                agree = status == Status.of_wait_status(int(end.removeprefix("status ")))
                self._compare_used(rank, state.used.get(rank))
            else:
                agree = status is not None and not status.success
            if not agree:
                self.cluster.world.violated(
                    "ExitOnce", f"{self.job} r{rank} was told as {end}, the session has {status}"
                )

    def _compare_used(self, rank: int, told: RankUsage | None) -> None:
        truth = self.cluster.truth.ranks.get((self.job, rank))
        if truth is None or truth.used is None:
            return
        user_time_ms, system_time_ms, peak_kib = truth.used
        if told != RankUsage(user_time_ms, system_time_ms, 1024 * peak_kib or None):
            self.cluster.world.violated("ExitOnce", f"{self.job} r{rank} has used {truth.used}, the session has {told}")

    # ------------------------------------------------------------------ output

    def output(self, message: c.ClientOutput, stream: ReadStream | None) -> None:
        """Bytes have come; the session, which has read so much, is about to take them."""
        key = (message.rank, message.stream)
        known = self.cluster.truth.jobs[self.job]
        acked = 0 if self.first else message.kept_from
        if stream is not None and not stream.joined_late:
            acked = stream.acknowledged
        if message.kept_from > known.acked.get(key, 0):
            text = f"bytes up to {message.kept_from} are forgotten, which nobody has"
            self.cluster.world.violated("StreamExact", f"{self.job} r{key[0]}/{key[1]}: {text}")
        if key not in self.offsets:
            self.offsets[key] = self.taken[key] = acked
        truth = self.cluster.truth.ranks.get((self.job, message.rank))
        end = message.offset + len(message.data)
        if truth is None or end > truth.written[message.stream - 1]:
            self.cluster.world.violated(
                "StreamExact", f"{self.job} r{key[0]}/{key[1]}: bytes that nobody wrote, to {end}"
            )
        if message.data != content(self.job, message.rank, message.stream, message.offset, len(message.data)):
            self.cluster.world.violated(
                "StreamExact", f"{self.job} r{key[0]}/{key[1]}: wrong bytes at {message.offset}"
            )
        limit = self.limits.get(key, 0)
        if end > max(acked + self.window_bytes, limit):
            self.cluster.world.violated("Bounded", f"{self.job} r{key[0]}/{key[1]}: more than the window is on its way")
        if not message.in_turn or end >= limit:
            self.turns.pop(key, None)

    def take(self, event: NewOutput) -> None:
        """The session gives bytes: those that come next, and no others."""
        key = (event.stream.rank, event.stream.stream)
        at = self.offsets.get(key, 0)
        if event.data != content(self.job, *key, at, len(event.data)):
            self.cluster.world.violated("StreamExact", f"{self.job} r{key[0]}/{key[1]}: not what comes at {at}")
        self.offsets[key] = at + len(event.data)
        self.waiting.append(event)

    def consume(self, session: Session, all_of_it: bool = False) -> None:
        """Put what has come where it belongs, unless the client is stalled."""
        world = self.cluster.world
        if world.now_us < self.stalled_until_us and not all_of_it:
            return
        waiting, self.waiting = self.waiting, []
        for event in waiting:
            key = (event.stream.rank, event.stream.stream)
            self.taken[key] = self.taken.get(key, 0) + len(event.data)
            session.consumed(event.job, event.stream, len(event.data))
        if waiting and (all_of_it or world.chance(0.2)):
            session.acknowledge_all(waiting[0].job)

    def acknowledges(self, message: c.ClientAck) -> None:
        """The session says to a head that these bytes are where they belong."""
        key = (message.rank, message.stream)
        known = self.cluster.truth.jobs[message.job]
        if message.offset > max(self.taken.get(key, 0), known.acked.get(key, 0)):
            text = f"acknowledged up to {message.offset}, and taken up to {self.taken.get(key, 0)} only"
            self.cluster.world.violated("StreamExact", f"{self.job} r{key[0]}/{key[1]}: {text}")
        known.acked[key] = max(known.acked.get(key, 0), message.offset)
        if message.limit:
            self.limits[key] = self.turns[key] = message.limit
            self._weigh()

    def _weigh(self) -> None:
        """See that no more is on its way, or waits for its reader, than may."""
        spare_bytes = self.spare_bytes
        for key, received in self.offsets.items():
            there = key[0] not in self.cut_off and received < self.sizes.get(key, 1 << 62)
            reach = self.turns.get(key, 0) if there else 0
            spare_bytes -= max(0, max(reach, received) - self.taken.get(key, 0) - self.window_bytes)
        # Once more as much, because what this is told of and what the session was told of may have crossed.
        if spare_bytes < -self.spare_bytes:
            self.cluster.world.violated(
                "Bounded", f"{self.job}: {-spare_bytes} bytes more than may be are on their way"
            )

    def _has_status(self, rank: int) -> bool:
        return self.first_ends.get(rank, "").startswith("status")
