"""What the parts of the head's machine share: configuration, time, nodes, and the instructions to give."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from heorot.core.context import MachineContext
from heorot.core.head.job import JOB_WINDOW_BYTES, HeadJob, spare_of
from heorot.core.head.masters import JOIN_THERE, Masters
from heorot.core.head.membership import KnownNode, Membership
from heorot.core.head.receipts import Receipts
from heorot.core.head.tenure import Tenure
from heorot.core.images.swarms import GAIN_MS
from heorot.core.machine import GroupsKnown, HeadInstruction, NodesJoined, ToClient
from heorot.core.quota import MIB, Quota
from heorot.core.tickets import Sign, Verify, seal_placement
from heorot.core.tree.below import NodesBelow
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.events import ClusterEvent
from heorot.core.wire.rows import Answer, AnyRow
from heorot.core.wire.wishes import NodeWish

ROWS_AT_ONCE = 500
"""In one message to a client: a command line is cut at 4 KiB, so these rows stay below the limit of a frame."""


class HeadConfig(Struct, frozen=True):
    """What a head knows when its term begins. `wall_offset_ms`: wall clock minus the clock given to `handle`."""

    cluster: str
    name: str
    release: str
    epoch: int
    host: str
    port: int
    fanout: int = 32
    nodes: tuple[int, ...] = ()
    wishes: tuple[NodeWish, ...] = ()
    """What is wanted of nodes, as the store has it; of those that are not here, nothing."""
    hook: bool = False
    """The site has a program that is to be told what nodes are shown as."""
    node_up: bool = False
    """The site has a script that is to run for a node before users may start anything there."""
    events: tuple[ClusterEvent, ...] = ()
    """What earlier heads have told."""
    power: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By state, ``reboot`` say: the site's command for it. Without one it cannot be done from here."""
    others: tuple[tuple[str, int], ...] = ()
    """Host and port of every other head of the cluster."""
    pid: int = 0
    pid_range: int = 0
    """How many PIDs each node owns, node k from (k+1) * pid_range; 0: a PID does not tell its node."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Named node lists: ``@name``."""
    hosts: tuple[tuple[int, str], ...] = ()
    """Nodes and their host names, as of `heorot.core.machine.NodesJoined`, as far as no registry says them."""
    masters: tuple[tuple[int, str], ...] = ()
    """Nodes on the hosts of heads, as of the same, as far as no registry says them."""
    become_master: str = JOIN_THERE
    """For people: what makes the host of a head a node."""
    wall_offset_ms: int = 0
    heartbeat_ms: int = 10_000
    link_timeout_ms: int = 30_000
    lease_ms: int = 0
    """After what silence of this head nodes are to look for another one; 0: after `link_timeout_ms`."""
    node_grace_ms: int = 5_000
    adoption_grace_ms: int = 60_000
    """How long a new head waits for the nodes of jobs that it takes over."""
    settle_ms: int = 2_000
    """How long a new head waits for silent nodes before words such as ``up`` mean those that have spoken; that a node
    which somebody has named is down it says after `node_grace_ms`."""
    client_grace_ms: int = 30_000
    """How long a client that came through a head on standby may take to come back when the connection to that head is
    lost, before that is a hang-up. The two ends notice a lost connection up to ten seconds apart."""
    kill_grace_ms: int = 2_000
    query_timeout_ms: int = 10_000
    rebalance_ms: int = 1_000
    swarm_gain_ms: int = GAIN_MS
    """By how much nodes must have an image sooner for them to have it from each other."""
    job_window_bytes: int = JOB_WINDOW_BYTES
    """How much output of a job may be on its way, of all ranks together."""
    max_processes: int = 4_096
    owner: int = 0
    """The uid that the head runs as: like root, its clients may use all of each limit (`heorot.core.quota`)."""
    max_jobs: int = 4_096
    """Jobs that are not over, or that a client still reads, at most."""
    max_finished_jobs: int = 1_024
    """Jobs that are over and still listed, at most; the oldest of the user who has most of them go first."""
    max_launch_bytes: int = 512 * 1024 * 1024
    """Commands and environments of jobs that are not released."""
    max_questions: int = 1_024
    """Questions to nodes, signals among them, that are on their way."""
    max_waits: int = 4_096
    """Requests that wait: for the end of a job, or for a new head to know its nodes."""
    max_watches: int = 1_024
    """Watches of clients (`heorot.core.head.watches`)."""
    max_clients: int = 1_024
    """Connections of clients."""
    max_client_bytes: int = 512 * 1024 * 1024
    """What the head holds in memory for them: frames that were begun, and answers that were not read."""
    max_stages: int = 256
    """Programs that clients hand over and that are not all here yet."""
    max_programs: int = 1_024
    """Programs of jobs that are not started everywhere: half of what each hop can have on its way
    (`heorot.core.images.hop.MAX_IMAGES`)."""


class Caller(Struct, frozen=True):
    """Who asks, as the kernel says."""

    client: int
    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    node: int = -1
    """The kernel of this node, whose agent passes it on; -1: that of a head's host."""


class HeadContext(MachineContext[HeadInstruction]):
    """Shared by the parts of one `heorot.core.head.machine.HeadMachine`."""

    def __init__(self, config: HeadConfig, sign: Sign, verify: Verify) -> None:
        super().__init__()
        self.config = config
        self.sign = sign
        self.verify = verify
        self.receipts = Receipts(sign)
        self.below = NodesBelow(self.emit)
        self.members = Membership(config.fanout, config.nodes, self.below, config.wishes, config.hosts)
        self.tenure = Tenure(bool(config.others))
        self.masters = Masters(config.name, config.masters, config.become_master)
        self.groups: Mapping[str, str] = config.groups
        """Named node lists, as `heorot.core.machine.GroupsKnown` has said last."""
        self.listed: tuple[m.HeadAddress, ...] = ()
        """All heads that the cluster is to have; empty: nobody has said. See `heorot.core.head.list_of_heads`."""
        self.jobs_quota = self._quota("jobs that run or are read", "max_jobs")
        self.launches_quota = self._quota("MiB of commands and environments of jobs", "max_launch_bytes", MIB)
        self.questions_quota = self._quota("questions that are on their way to nodes", "max_questions")
        self.watches_quota = self._quota("watches", "max_watches")
        self.waits_quota = self._quota("requests that wait for a job's end", "max_waits")
        self.early_quota = self._quota("requests that wait for the head to know its nodes", "max_waits")
        self.stages_quota = self._quota("programs that are being handed over", "max_stages")
        self.programs_quota = Quota("programs that are on their way to nodes", config.max_programs, "", config.owner)
        self.hear_used: set[int] = set()
        """The clients that want to know what the ranks of their jobs have used."""
        self._placements = 0
        self._readings = config.epoch << 32

    @property
    def wall_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.now_ms + self.config.wall_offset_ms

    def _quota(self, what: str, setting: str, unit: int = 1) -> Quota:
        return Quota(what, getattr(self.config, setting), setting, self.config.owner, unit)

    def know_hosts(self, event: NodesJoined) -> list[str]:
        """Take as which host each node has joined; return as `heorot.core.head.host_names.HostNames.know`."""
        self.masters.know(event.masters)
        return self.members.hosts.know(event.hosts)

    def know_groups(self, event: GroupsKnown) -> None:
        """Take the groups of nodes that there are from now on."""
        self.groups = event.groups

    def next_reading(self) -> int:
        """Return a number for a new reader of a job: no two heads use the same."""
        self._readings += 1
        return self._readings

    def spare_bytes(self, job: HeadJob) -> int:
        """Return how much a job's streams may send beyond their windows."""
        return spare_of(len(job.nodes), self.config.job_window_bytes)

    def tell_spawned(self, job: HeadJob, client: int, request: int, receipt: bytes = b"") -> None:
        """Tell a client of the job that it asked for."""
        places, windows = job.places, (job.ticket.window_bytes, receipt, self.spare_bytes(job))
        self.to_client(client, c.Spawned(request, job.id, places.runs, *windows, places.more_ranks))

    def to_client(self, client: int, message: c.HeadMessage) -> None:
        """Send to a client."""
        self.out.append(ToClient(client, message))

    def answer(self, client: int, request: int, value: Answer) -> None:
        """Answer a question."""
        self.to_client(client, c.Result(request, value))

    def send_rows(self, client: int, request: int, rows: list[AnyRow]) -> list[AnyRow]:
        """Send the first rows of a long answer; return those that fit into its `Result`."""
        start = 0
        while len(rows) - start > ROWS_AT_ONCE:
            self.to_client(client, c.Rows(request, rows[start : start + ROWS_AT_ONCE]))
            start += ROWS_AT_ONCE
        return rows[start:]

    def refuse(self, client: int, request: int, code: str, text: str) -> None:
        """Answer a request with an error."""
        self.out.append(ToClient(client, c.Error(request, code, text)))

    def send_down(self, nodes: NodeSet, command: m.HeadCommand, bulk: bool = False, newest_of: str = "") -> NodeSet:
        """Send a command to these nodes through the tree; return those that cannot be reached now.

        `newest_of` as in `Send`.
        """
        return NodeSet(self.below.send_down(self.config.epoch, nodes.mask, m.encode(command), bulk, newest_of))

    def place(self, record: KnownNode, path: list[KnownNode]) -> None:
        """Tell an attached node where it belongs."""
        self._placements += 1
        record.placed_under = path[-1].node if path else HEAD
        record.placed_serial = self._placements
        hops = [m.Hop(hop.node, hop.host, hop.port) for hop in path]
        holder = self.members.outcasts.given_to.get(record.node, b"")
        placement = m.Placement(self.config.cluster, record.node, hops, self.config.epoch, self._placements, holder)
        self.send_down(NodeSet(1 << record.node), m.Place(seal_placement(self.sign, placement)))
