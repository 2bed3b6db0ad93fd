"""One job as the head sees it: a cache of what its nodes have reported.

Ranks are kept in flat lists, so that a launch on a thousand nodes costs a thousand list entries and not a thousand
objects. Their states are in `heorot.core.head.states`; none goes back, and what comes twice, or late, changes nothing.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from msgspec.structs import asdict

from heorot.core.head.ends import ExitedRank, LostRank, NeverRan, RankEnd, all_alike
from heorot.core.head.rank_places import RankPlaces
from heorot.core.head.states import OVER, PENDING, RUNNING, STOPPED
from heorot.core.head.stdin_feed import StdinFeed
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire.rows import JobDetails, JobRow, RankUsed
from heorot.core.wire.tree import Failure, Launch, Ticket

LARGEST_WINDOW_BYTES = 256 * 1024
SMALLEST_WINDOW_BYTES = 4 * 1024
JOB_WINDOW_BYTES = 8 * 1024 * 1024
LISTED_ARGV_BYTES = 4096
MAX_NOTES = 4
"""So many different words of nodes on one job are kept."""


def window_of(ranks: int, job_bytes: int = JOB_WINDOW_BYTES) -> int:
    """Return the window of each stream: a share of the job's 8 MiB, within 4 KiB and 256 KiB."""
    return max(SMALLEST_WINDOW_BYTES, min(LARGEST_WINDOW_BYTES, job_bytes // (2 * max(ranks, 1))))


def spare_of(ranks: int, job_bytes: int = JOB_WINDOW_BYTES) -> int:
    """Return how much streams may send beyond their windows, by turns; nothing where windows are as large as can be."""
    return job_bytes // 2 if 2 * ranks * LARGEST_WINDOW_BYTES > job_bytes else 0


@dataclass(slots=True)
class HeadJob:
    """A launch and what became of it. Change it only through its methods: they keep the counts true."""

    ticket: Ticket
    places: RankPlaces
    detached: bool
    started_at_ms: int
    """Wall clock."""
    client: int | None = None
    """Who reads the output; None: unattended."""
    launch: Launch | None = None
    states: bytearray = field(default_factory=bytearray)
    pids: list[int] = field(default_factory=list)
    ends: dict[int, RankEnd] = field(default_factory=dict)
    running: int = 0
    over: int = 0
    released: bool = False
    """Everything is collected: whoever still holds something of it may forget it."""
    end_reason: str = ""
    """Why the head ends the job, if it does."""
    must_end: bool = False
    """What is left of it is killed (`heorot.core.head.collectives`)."""
    ended_status: int = -1
    """What its exit status is then; -1: what its ranks' make of it."""
    notes: list[str] = field(default_factory=list)
    """What its nodes have to say to its user."""
    ending: bool = False
    """Nobody will collect it: it is released as soon as it is over."""
    stdin: StdinFeed = field(default_factory=StdinFeed)
    rank_stdin: dict[int, StdinFeed] = field(default_factory=dict)
    waiting: list[tuple[int, int, int]] = field(default_factory=list)
    """Client, its uid and the request: who waits for the end."""
    launch_bytes: int = 0
    """What its command and environment take."""
    pending_mask: int = field(init=False, default=0)
    """The nodes with ranks of which nothing was heard yet."""
    _pending_on: dict[int, int] = field(init=False, default_factory=dict)
    """By node, how many such ranks it has, if nodes have several."""
    awaited_until_ms: int = 0
    """Its client, which has lost its head or its way, may come back until then."""
    adopted: bool = False
    """An earlier head launched it."""
    handed_over: bool = False
    """That launch was given to this head by its client: perhaps no node has it."""
    sent_mask: int = 0
    """The nodes to which this head has sent the launch, or has meant to."""
    reading: int = 0
    """The number of the present reader, or of the last one; 0 for the first."""
    tell_started: bool = True
    """The client wants to know of starts."""
    turns: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """By rank and stream that have a turn (`heorot.core.head.given_turns`): up to where, and how far it has come."""
    unread: list[int] = field(default_factory=list)
    """Ranks that have ended and whose node is gone, with the output of theirs that was not read."""
    killed: dict[int, int] = field(default_factory=dict)
    """By rank that has ended: how many processes that it had left running its node has killed."""
    stops: dict[int, tuple[int, ...]] = field(default_factory=dict)
    """By rank that runs and has ever stopped: how it stands, as `heorot.core.wire.reports.Report` says."""
    _used: array[int] | None = field(init=False, default=None)
    """Three numbers of each rank, as in `heorot.core.wire.tree.Report`; -1: not known."""

    def __post_init__(self) -> None:
        if not self.states:
            self.states = bytearray([PENDING]) * len(self.nodes)
            self.pids = [0] * len(self.nodes)
        self.pending_mask = self.node_set.mask
        if not self.places.one_on_each:
            self._pending_on = Counter(self.nodes)

    @property
    def id(self) -> str:
        """``EPOCH.SEQUENCE``."""
        return self.ticket.job

    @property
    def nodes(self) -> array[int]:
        """The node of each rank."""
        return self.places.nodes

    @property
    def node_set(self) -> NodeSet:
        """The nodes that have ranks of it."""
        return self.places.node_set

    @property
    def input_nodes(self) -> NodeSet:
        """The nodes that have ranks which read input."""
        chosen = self.ticket.spec.stdin_ranks
        if chosen is None:
            return self.node_set
        ranges = zip(chosen[0::2], chosen[1::2], strict=True)
        return NodeSet.of(node for first, last in ranges for node in self.nodes[first : last + 1])

    @property
    def text(self) -> str:
        """All that its user should know, as one line."""
        if not self.end_reason and not self.killed:
            return "; ".join(self.notes)
        return "; ".join(part for part in (self.end_reason, *self.notes, self._killed_text) if part)

    @property
    def _killed_text(self) -> str:
        count = sum(self.killed.values())
        if not count:
            return ""
        nodes = NodeSet.of(self.nodes[rank] for rank in self.killed)
        return f"what it left running was ended: {count} process{'es' if count > 1 else ''} on {nodes}"

    def add_note(self, text: str) -> None:
        """Let the user know. Nodes that say the same say it once; of very many different words the first ones do."""
        if text in self.notes or len(self.notes) > MAX_NOTES:
            return
        self.notes.append(text if len(self.notes) < MAX_NOTES else "other nodes say more of this kind")

    @property
    def done(self) -> bool:
        """True if every rank is over."""
        return self.over == len(self.nodes)

    @property
    def attended(self) -> bool:
        """True if somebody reads the output."""
        return self.client is not None

    @property
    def is_of_a_node(self) -> bool:
        """True if an earlier head launched it, and a node has given it to this one."""
        return self.adopted and not self.handed_over

    @property
    def state(self) -> str:
        """``launching``, ``running`` or ``done``."""
        if self.done:
            return "done"
        return "running" if self.running + self.over == len(self.nodes) else "launching"

    def _heard_from(self, nodes: Sequence[int]) -> None:
        """One rank more of each of these nodes, for each time that it is named, is pending no longer."""
        if not self.places.one_on_each:
            pending_on = self._pending_on
            for node in nodes:
                pending_on[node] -= 1
            nodes = [node for node in nodes if not pending_on[node]]
        self.pending_mask &= ~NodeSet.of(nodes).mask

    def start(self, rank: int, pid: int) -> bool:
        """Note that a rank runs; return False if that is no news."""
        if self.states[rank] != PENDING:
            return False
        self.states[rank] = RUNNING
        self.pids[rank] = pid
        self.running += 1
        self._heard_from(self.nodes[rank : rank + 1])
        return True

    def start_run(self, first: int, pids: list[int]) -> bool:
        """Note that consecutive ranks run; return False, and do nothing, unless that is news of all of them."""
        end = first + len(pids)
        if self.states.count(PENDING, first, end) != len(pids):
            return False
        self.states[first:end] = bytes([RUNNING]) * len(pids)
        self.pids[first:end] = pids
        self.running += len(pids)
        self._heard_from(self.nodes[first:end])
        return True

    def end_run(self, first: int, count: int, end: ExitedRank) -> bool:
        """Note that consecutive ranks that run ended so; return False, and do nothing, unless that is news of all."""
        if self.states.count(RUNNING, first, first + count) != count:
            return False
        self.states[first : first + count] = bytes([OVER]) * count
        self.ends.update(dict.fromkeys(range(first, first + count), end))
        self._stop_no_more(range(first, first + count))
        self.running -= count
        self.over += count
        return True

    def start_all(self, ranks: list[int], pids: list[int]) -> bool:
        """Note that these different ranks run; return False, and do nothing, unless that is news of all of them."""
        states = self.states
        if any(map(states.__getitem__, ranks)) or len(set(ranks)) != len(ranks):
            return False
        for rank, pid in zip(ranks, pids, strict=True):
            states[rank] = RUNNING
            self.pids[rank] = pid
        self.running += len(ranks)
        self._heard_from([self.nodes[rank] for rank in ranks])
        return True

    def end_all(self, ranks: list[int], exited: list[int]) -> bool:
        """Note the ends of these different ranks that run, from the flat records of a report; return False, and do
        nothing, unless that is news of all of them.
        """
        states, ends = self.states, self.ends
        if set(map(states.__getitem__, ranks)) != {RUNNING} or len(set(ranks)) != len(ranks):
            return False
        endings = exited[2::5], exited[3::5], exited[4::5]
        if all_alike(*endings):
            # One record for all of them: most ranks of most jobs end in the same way.
            ends.update(dict.fromkeys(ranks, ExitedRank(*exited[2:5])))
        else:
            ends.update(zip(ranks, map(ExitedRank, *endings), strict=True))
        for rank in ranks:
            states[rank] = OVER
        self._stop_no_more(ranks)
        self.running -= len(ranks)
        self.over += len(ranks)
        return True

    def end(self, rank: int, end: RankEnd) -> bool:
        """Note that a rank is over; return False if that is no news."""
        if self.states[rank] == OVER:
            return False
        if self.states[rank] in (RUNNING, STOPPED):
            self.running -= 1
        else:
            self._heard_from(self.nodes[rank : rank + 1])
        self.states[rank] = OVER
        self.over += 1
        self.ends[rank] = end
        self._stop_no_more((rank,))
        return True

    def stop(self, rank: int, stands: tuple[int, ...]) -> bool:
        """Note that a rank has stopped or goes on, as in `stops`; return False if that is no news."""
        known = self.stops.get(rank)
        if self.states[rank] not in (RUNNING, STOPPED) or (known is not None and known[0] >= stands[0]):
            return False
        self.stops[rank] = stands
        self.states[rank] = STOPPED if stands[0] % 2 else RUNNING
        return True

    def _stop_no_more(self, ranks: Iterable[int]) -> None:
        """These ranks are over."""
        if self.stops:
            for rank in ranks:
                self.stops.pop(rank, None)

    def left(self, rank: int, killed: int) -> None:
        """Note what a rank that has ended, or is about to, had left running. Of one that was given up nothing more is
        told: its end is told already, and was another one.
        """
        if not self.given_up(rank):
            self.killed[rank] = killed

    def given_up(self, rank: int) -> bool:
        """Say whether a rank is over without an end of its own."""
        return self.states[rank] == OVER and not isinstance(self.ends[rank], ExitedRank)

    def use(self, first: int, numbers: list[int]) -> None:
        """Note what consecutive ranks have used that have ended, or are about to: three numbers of each."""
        if self._used is None:
            self._used = array("q", [-1]) * (3 * len(self.nodes))
        self._used[3 * first : 3 * first + len(numbers)] = array("q", numbers)

    def used(self, rank: int) -> tuple[int, int, int] | None:
        """Return what a rank has used whose end is known, None if nobody has said."""
        if self._used is None or self._used[3 * rank] < 0 or not isinstance(self.ends.get(rank), ExitedRank):
            return None
        user_time_ms, system_time_ms, peak_kib = self._used[3 * rank : 3 * rank + 3]
        return user_time_ms, system_time_ms, peak_kib

    def fail(self, failure: Failure) -> bool:
        """Note that a rank never ran."""
        return self.end(failure.rank, NeverRan(failure.error, failure.text))

    def cut_off(self, node: int) -> list[int]:
        """Note that this node's output is gone; return its ranks that have ended and wrote something."""
        unread: list[int] = []
        for rank in self.places.ranks_on(node):
            end = self.ends.get(rank)
            if isinstance(end, ExitedRank) and end.stdout_bytes + end.stderr_bytes and rank not in self.unread:
                unread.append(rank)
        self.unread += unread
        return unread

    def live_ranks_on(self, node: int) -> list[int]:
        """Return this node's ranks that are not over."""
        return [rank for rank in self.places.ranks_on(node) if self.states[rank] != OVER]

    @property
    def lacks_starts(self) -> bool:
        """Whether there are ranks of which it is not known that they were started, or never will be."""
        return self.running + self.over < len(self.nodes)

    def live_nodes(self) -> NodeSet:
        """Return the nodes that have ranks which are not over."""
        if not self.over:
            return self.node_set
        return NodeSet.of(node for node, state in zip(self.nodes, self.states, strict=True) if state != OVER)

    def row(self) -> JobRow:
        """Return what is shown of it in a list."""
        return self._row(cut_short(self.ticket.spec.argv))

    def details(self) -> JobDetails:
        """Return all that is shown of it."""
        return JobDetails(
            **asdict(self._row(self.ticket.spec.argv)),
            statuses={str(rank): self.ends[rank].status() for rank in sorted(self.ends)},
            rank_nodes=list(self.nodes),
            left_running_by_rank={str(rank): self.killed[rank] for rank in sorted(self.killed)},
            pids={str(rank): pid for rank, pid in enumerate(self.pids) if pid},
            used={str(rank): RankUsed.of(*used) for rank in sorted(self.ends) if (used := self.used(rank))},
            time_limit_ms=self.ticket.spec.time_limit_ms or None,
            stopped={str(rank): stands[1] for rank, stands in sorted(self.stops.items()) if stands[0] % 2},
        )

    def _row(self, argv: list[bytes]) -> JobRow:
        ends = self.ends.values()
        return JobRow(
            job=self.id,
            state=self.state,
            user=self.ticket.user,
            uid=self.ticket.uid,
            ranks=len(self.nodes),
            running=self.running,
            exited=self.over,
            failed=sum(isinstance(end, NeverRan) for end in ends),
            lost=sum(isinstance(end, LostRank) for end in ends),
            attended=self.attended,
            detached=self.detached,
            nodes=str(self.node_set),
            argv=argv,
            started_at_ms=self.started_at_ms,
            text=self.text,
            left_running=sum(self.killed.values()),
        )


def cut_short(argv: list[bytes]) -> list[bytes]:
    """Return a command line for a table: cut where it exceeds 4 KiB, and ``...`` at its end then."""
    room = LISTED_ARGV_BYTES
    for index, argument in enumerate(argv):
        room -= len(argument) + 1
        if room < 0:
            return [*argv[:index], argument[:room], b"..."]
    return argv
