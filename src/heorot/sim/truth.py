"""What really happened in the virtual world, against which everything that a machine claims is checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from zlib import crc32

from heorot.core.head.ends import ExitedRank
from heorot.core.space.endings import SIGKILL, TIMED_OUT
from heorot.sim.world import World

_BLOCK_BYTES = 65_521
"""A prime, so that no repetition by a round number of bytes goes unseen."""
ON_TIME_US = 5_000
"""What is done within so long is done in time: a signal takes a moment to its process, and an end to who reaps it."""
CLOCKS = "synchronise the clocks"
"""In what a node says that refuses a launch because of its clock or the head's."""
_BLOCK = Random("bytes of virtual processes").randbytes(_BLOCK_BYTES)


def content(job: str, rank: int, stream: int, offset: int, size: int) -> bytes:
    """Return what the stream of a rank holds there; every stream is another one. Stream 0 is the input."""
    at = (crc32(f"{job} {rank} {stream}".encode()) + offset) % _BLOCK_BYTES
    data = _BLOCK[at : at + size]
    while len(data) < size:
        data += _BLOCK[: size - len(data)]
    return data


@dataclass(slots=True)
class RankTruth:
    """What became of one rank."""

    node: int
    incarnation: int
    pid: int
    written: list[int] = field(default_factory=lambda: [0, 0])
    read: int = 0
    read_end: bool = False
    status: int | None = None
    """As of wait(2); None: it runs, or its node died under it."""
    lost: bool = False
    """Its node died under it."""
    lingers: bool = False
    """Something that it started lives, and may go on when its own process has ended."""
    used: tuple[int, int, int] | None = None
    """What its process has used, once that has ended."""
    left_killed: int = 0
    """How many processes its node has killed that it had left running."""
    limit_us: int | None = None
    """When the time of its job is over on its node; None: never."""
    ended_us: int = 0

    def end(self, status: int, now_us: int) -> None:
        """Its process has ended."""
        self.status, self.ended_us = status, now_us

    def is_out_of_time(self, now_us: int) -> bool:
        """Say whether its node may end it, because the time of its job is over."""
        return self.limit_us is not None and now_us >= self.limit_us - ON_TIME_US

    def ended_with(self, status: int) -> bool:
        """Say whether this is how it ended, as its node tells it: with 124 if its time was over."""
        if self.limit_us is None or self.status is None or self.status & 0x7F == SIGKILL:
            return self.status == status
        late = self.ended_us > self.limit_us + ON_TIME_US
        return (status == self.status and not late) or (status == TIMED_OUT and self.is_out_of_time(self.ended_us))

    changes: int = 0
    """How often it has stopped or gone on, as its space was told; odd: it is stopped."""
    changed_at_us: int = 0
    stood: dict[int, int] = field(default_factory=dict)
    """By number of changes: the signal that had stopped it; 0: it ran."""

    def stands(self, signal: int, changes: int, at_us: int) -> None:
        """Its space is told that it has stopped, or goes on."""
        self.changes += changes
        self.changed_at_us = at_us
        self.stood[self.changes] = signal

    def fits(self, end: ExitedRank, used: tuple[int, ...] | None) -> bool:
        """Say whether this is how it ended, and what it has used."""
        return self.ended_with(end.wait_status) and self.used == used


@dataclass(slots=True)
class JobTruth:
    """What is known of one job outside of the machines."""

    job: str
    nodes: list[int]
    detached: bool
    incarnations: dict[int, int]
    """Of each node, as the head knew it at the launch."""
    given_up: dict[int, int]
    """How often each node had been given up before the launch."""
    key: bytes = b""
    """What its client calls it."""
    acknowledged: bool = False
    safekeeping: list[int] | None = None
    """The nodes below the head that had all of its program when it was acknowledged as detached; None: nobody lacked
    it any more."""
    acked: dict[tuple[int, int], int] = field(default_factory=dict)
    """By (rank, stream): up to where some client has acknowledged it."""
    released: bool = False
    """A client has collected everything, or its hang-up let the head end the job."""
    unwanted: bool = False
    """A client has sent it a signal, or has gone while its head lived: its processes may be killed."""
    inputs: dict[int, int] = field(default_factory=dict)
    """How much input was sent: by rank, or to all (-1)."""
    inputs_ended: dict[int, bool] = field(default_factory=dict)
    mpi: bool = False
    """Its ranks are of MPI, and end together."""


@dataclass(slots=True)
class Barriers:
    """What has really happened in the barriers of jobs of MPI."""

    entered: dict[tuple[str, int], set[int]] = field(default_factory=dict)
    """By job and number: the ranks that have."""
    inside: dict[tuple[str, int], int] = field(default_factory=dict)
    """By job and rank that waits in a barrier: its number."""
    owing: set[tuple[str, int]] = field(default_factory=set)
    """Ranks that have said ``init`` and not ``finalize``; only looked up."""
    aborted: set[str] = field(default_factory=set)
    """Jobs of which a rank has asked for the end of all; only looked up."""
    opened: int = 0
    """How often a rank has come through one."""


class Truth:
    """All ranks and jobs of a run."""

    def __init__(self) -> None:
        self.ranks: dict[tuple[str, int], RankTruth] = {}
        self.jobs: dict[str, JobTruth] = {}
        self.started_by_key: dict[bytes, dict[int, str]] = {}
        """By a client's key and node: the job of that key that has started processes there."""
        self.failures: set[tuple[str, int]] = set()
        """Ranks that could not be started; only looked up, never iterated."""
        self.deaths: dict[int, int] = {}
        """By node: how often its space has died."""
        self.given_up: dict[int, int] = {}
        """By node: how often the head gave it up rightly, because it was away for longer than the grace."""
        self.lost: set[tuple[str, int]] = set()
        """Ranks that some head has given up; only looked up."""
        self.barriers = Barriers()
        self.drained: set[int] = set()
        """Nodes of which it was acknowledged that nothing is started there any more; only looked up."""

    def started(self, world: World, job: str, rank: int, truth: RankTruth) -> RankTruth:
        """A rank starts. Drained: not on a node that was drained before."""
        if truth.node in self.drained:
            world.violated("Drained", f"{job} r{rank} starts on n{truth.node}, which was drained before")
        self.ranks[job, rank] = truth
        return truth

    def check_input(self, world: World, job: str, rank: int, offset: int, data: bytes) -> None:
        """Check what a process reads against what the client sent."""
        known = self.jobs[job]
        of = rank if rank in known.inputs else -1
        if offset + len(data) > known.inputs.get(of, 0):
            world.violated("StreamExact", f"{job} r{rank} read more than was sent")
        if data != content(job, of, 0, offset, len(data)):
            world.violated("StreamExact", f"{job} r{rank} read wrong bytes at {offset}")

    def check_input_end(self, world: World, job: str, rank: int, offset: int) -> None:
        """Check the end of the input as a process sees it."""
        known = self.jobs[job]
        of = rank if rank in known.inputs else -1
        size = known.inputs.get(of, 0)
        if offset != size or not known.inputs_ended.get(of, known.detached):
            world.violated("StreamExact", f"the input of {job} r{rank} ended after {offset} bytes of {size}")
