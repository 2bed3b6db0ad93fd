"""One run: a cluster, its users, a storm, and the calm after it in which everything must come right."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

from heorot.core.client import messages
from heorot.core.client.conversation import Request
from heorot.sim.administering import VirtualAdministrator
from heorot.sim.checks import Checks
from heorot.sim.client import VirtualUser
from heorot.sim.clocks import Clock, draw_clock
from heorot.sim.faults import Faults
from heorot.sim.head_host import HeadHost
from heorot.sim.hosts import NodeHost
from heorot.sim.images import VirtualCache, VirtualImage
from heorot.sim.network import Network
from heorot.sim.plans import UserPlan
from heorot.sim.settings import Settings
from heorot.sim.standing import untold_stops
from heorot.sim.stopping import SIGCONT, SIGSTOP, SIGTSTP
from heorot.sim.store import VirtualStore
from heorot.sim.truth import Truth
from heorot.sim.watching import VirtualWatcher
from heorot.sim.world import Violation, World

Machine = TypeVar("Machine")
START_US = 1_500_000
"""Users come and faults begin at this time."""
CALM_AFTER_US = 15_000_000
"""So long after the last fault every link has been found to be dead or alive."""
SETTLE_US = 60_000_000
"""So long after that everything must have come right."""
BETWEEN_BURSTS_US = (1_000_000, 90_000_000)
BOUNDS_EVERY = 257
IMAGES = 3


class Janitor(VirtualUser):
    """The user who, after the storm, ends and collects what others have left behind."""

    cluster: SimulatedCluster

    def __init__(self, cluster: SimulatedCluster, number: int) -> None:
        super().__init__(cluster, number, None)
        self.finished = True
        self._collectors: dict[str, VirtualUser] = {}
        self._listing: Request | None = None

    def sweep(self) -> None:
        """Look at the list of jobs, now and every second."""
        if self.end is None:
            self.connect()
        if self._listing is None:
            self._listing = self.ask(messages.list_jobs)
        self.world.after(1_000_000, self.sweep)

    def come_back(self) -> None:
        """It comes back when it sweeps."""

    def _listed(self, rows: list[dict[str, object]]) -> None:
        for row in rows:
            job = str(row["job"])
            if row["state"] != "done":
                self.kill_job(job)
            elif not row["attended"] and job not in self._collectors:
                # Even if it was collected: the word of that may have been lost with the former head.
                collector = self._collectors[job] = self.cluster.add_client(None)
                collector.job = job
                collector.come_back()

    def _look(self) -> None:
        listing = self._listing
        if listing is not None and listing.finished:
            self._listing = None
            if listing.error is None:
                self._listed(listing.value[0])


class SimulatedCluster:
    """Everything of one run.

    Parameters
    ----------
    mutate:
        Gets each new machine and returns it, perhaps with a safety measure switched off.
    network:
        The network, and with it the world, of a run in which nothing is left to chance; None: those of the seed.
    """

    def __init__(
        self,
        seed: int,
        settings: Settings,
        mutate: Callable[[object], None] | None = None,
        tell_to: Callable[[str], None] | None = None,
        network: Network | None = None,
    ) -> None:
        self.settings = settings
        self.world = network.world if network is not None else World(seed, tell_to)
        self.truth = Truth()
        self.network = network or Network(self.world, settings.delay_us, settings.us_per_kib, settings.refuse_rate)
        self.network.late_close_rate = settings.late_close_rate
        self.checks = Checks(self)
        self._mutate = mutate
        made = (
            [VirtualImage(self.world.random, bool(number % 2)) for number in range(IMAGES)]
            if settings.image_rate
            else []
        )
        self.images = {virtual.image: virtual for virtual in made}
        self.caches: list[VirtualCache] = []
        self.store = self.mutate(VirtualStore(self, settings.lease_ms))
        self.heads = [HeadHost(self, f"head{number}") for number in range(1, settings.heads + 1)]
        self.seeds = tuple(head.name for head in self.heads)
        """What the nodes' configurations name."""
        last = settings.heads + settings.spare_heads
        self.spares = [HeadHost(self, f"head{number}") for number in range(settings.heads + 1, last + 1)]
        """Hosts that are no heads yet."""
        self.store.list_heads(self.seeds)
        self.head = self.heads[0]
        """Of those that served, the one with the highest epoch."""
        self.hosts = [NodeHost(self, node) for node in range(settings.nodes)]
        self.removed: list[int] = []
        """Nodes that were removed from the cluster; their hosts go on as if nothing had happened."""
        self.clients: list[VirtualUser] = []
        self.watchers = [VirtualWatcher(self, number) for number in range(settings.watchers)]
        self.administrators = [VirtualAdministrator(self, number) for number in range(settings.administrators)]
        self.faults = Faults(self)
        self.calm = False
        self._until_bounds = BOUNDS_EVERY
        for head in [*self.heads, *self.spares]:
            self.network.listeners[head.name] = (-1, head)
        for host in self.hosts:
            self.network.listeners[host.name] = (host.node, host)

    def mutate(self, machine: Machine) -> Machine:
        """Return a machine as this run wants it."""
        if self._mutate is not None:
            self._mutate(machine)
        return machine

    def leader(self) -> HeadHost | None:
        """Return the head that the store names, if there is one."""
        if self.store.leader is None:
            return None
        name = self.store.leader[0]
        return next(head for head in self.heads if head.name == name)

    def draw_clock(self) -> Clock:
        """Return the clock of a host that boots."""
        settings = self.settings
        return draw_clock(self.world, settings.drift_ppm, settings.wall_skew_ms, settings.wrong_clock_rate)

    def add_client(self, plan: UserPlan | None) -> VirtualUser:
        """Add a user."""
        client = VirtualUser(self, len(self.clients), plan)
        self.clients.append(client)
        return client

    def run(self) -> None:
        """Simulate from the first start to the end.

        Raises
        ------
        Violation
            If an invariant is broken, or a machine.
        """
        try:
            self._run()
        except Violation:
            raise
        except Exception as error:
            self.world.violated("NoCrash", f"{type(error).__name__}: {error}", error)

    def _run(self) -> None:
        world, settings = self.world, self.settings
        world.tell("world", "%s", settings.show())
        for head in self.heads:
            world.after(world.between(0, 100_000), head.boot)
        for host in self.hosts:
            world.after(world.between(0, 300_000), host.start_space)
        for watcher in self.watchers:
            world.after(world.between(0, START_US), watcher.begin)
        for administrator in self.administrators:
            world.after(world.between(0, 2 * START_US), administrator.begin)
        if len(self.heads) + len(self.spares) > 1:
            self.checks.look_at_heads()
        span_us = max(settings.fault_span_ms, settings.job_span_ms) * 1000 + 100_000
        storm_us = max(START_US + span_us, round(settings.minutes * 60_000_000) - CALM_AFTER_US)
        for at_us in self._bursts(storm_us, span_us):
            self._come(at_us, settings.jobs, settings.job_span_ms * 1000)
            self._come(at_us, settings.rush, settings.job_span_ms * 1000, short=True)
            self.faults.plan(at_us, settings.faults, settings.fault_span_ms * 1000)
        if storm_us > START_US + span_us:
            # A few come alone, in the calm as well.
            few = round(settings.minutes)
            self._come(START_US, settings.jobs * few // 10, storm_us - START_US)
            self.faults.plan(START_US, settings.faults * few // 10, storm_us - START_US)
        world.run_until(storm_us, self._checked)
        self.faults.heal()
        world.run_until(storm_us + CALM_AFTER_US, self._checked)
        self.calm = True
        for administrator in self.administrators:
            administrator.rest()
        self.checks.lost_are_dead()
        self.checks.barriers.are_open()
        self._hear_of_stops()
        janitor = Janitor(self, len(self.clients))
        self.clients.append(janitor)
        janitor.sweep()
        for watcher in self.watchers:
            watcher.hurry()
        self._settle(world.now_us + SETTLE_US)

    def _hear_of_stops(self) -> None:
        """Wait until everybody knows of all ranks that stand still."""
        deadline_us = self.world.now_us + SETTLE_US
        while problem := untold_stops(self):
            if self.world.now_us > deadline_us:
                self.world.violated("StopsTold", problem)
            self.world.run_until(self.world.now_us + 500_000, self._checked)

    def _bursts(self, until_us: int, span_us: int) -> list[int]:
        """Return when load and faults set in; between two bursts it is calmer for up to a minute and a half."""
        bursts, at_us = [], START_US
        while at_us + span_us <= until_us:
            bursts.append(at_us)
            at_us += span_us + self.world.between(*BETWEEN_BURSTS_US)
        return bursts

    def _come(self, from_us: int, users: int, within_us: int, short: bool = False) -> None:
        for _ in range(users):
            client = self.add_client(self._short_plan() if short else self._plan())
            self.world.at(from_us + self.world.between(0, within_us), client.begin)

    def _settle(self, deadline_us: int) -> None:
        while True:
            self.world.run_until(self.world.now_us + 500_000, self._checked)
            unsettled = self.checks.rest.unsettled()
            if unsettled is None:
                self.world.tell("world", "all is well")
                return
            if self.world.now_us > deadline_us:
                self.world.violated(*unsettled)

    def _checked(self) -> None:
        self._until_bounds -= 1
        if not self._until_bounds:
            self._until_bounds = BOUNDS_EVERY
            self.checks.bounds()

    # ------------------------------------------------------------------ users

    def _nodes(self) -> tuple[str, str]:
        """Return a node list, and how it is to be read."""
        world = self.world
        if world.chance(0.4):
            by_states = world.random.choice(("", "", "up", "!down", "up,up"))
            return by_states, "list" if by_states else "up"
        count = world.between(1, min(self.settings.nodes * 2, 12))
        return ",".join(f"n{world.between(0, self.settings.nodes - 1)}" for _ in range(count)), "list"

    def _short_plan(self) -> UserPlan:
        """Return what a user wants who only starts something short."""
        nodes, select = self._nodes()
        argv = [b"true", b"%d" % self.world.between(0, 1 << 30), b"100"]
        plan = UserPlan(nodes, select, argv, self.world.chance(self.settings.detached_rate), None)
        if plan.detached:
            plan.attach_ms = self.world.between(0, 3_000)
        return plan

    def _plan(self) -> UserPlan:
        world, settings = self.world, self.settings
        random = world.random
        kind = random.choice(("true", "true", "writer", "writer", "sleeper", "parent", "missing"))
        if world.chance(settings.reader_rate):
            kind = "reader"
        if settings.mpi_rate and world.chance(settings.mpi_rate):
            kind = "mpi"
        nodes, select = self._nodes()
        argv = [kind.encode(), b"%d" % world.between(0, 1 << 30), b"%d" % settings.largest_write_bytes]
        plan = UserPlan(nodes, select, argv, world.chance(settings.detached_rate), None)
        plan.linger = argv[1][-1:] in b"02468"
        plan.mpi = kind == "mpi"
        # Drawn apart, as whether what a process leaves may linger.
        apart = Random(f"ranks and limits {argv[1].decode()}")
        if apart.random() < settings.time_limit_rate:
            plan.time_limit_ms = apart.choice((1, 50, 700, 2_500, 8_000))
        if apart.random() < settings.crowd_rate:
            plan.ranks_per_node = apart.randint(2, 3)
        if kind == "reader":
            plan.stdin = b""
            plan.input_size = world.between(0, random.choice((10, 50_000, 1_500_000)))
            plan.input_to = random.choice(("all", "all", "ranks"))
        if world.chance(0.2):
            plan.leave_ms = world.between(0, 3_000)
        elif world.chance(0.15):
            plan.detach_ms = world.between(0, 3_000)
        if world.chance(settings.signal_rate) or kind == "sleeper":
            plan.signal_ms = world.between(0, 5_000)
            plan.signal = random.choice((1, 2, 9, 15))
        if world.chance(0.5):
            plan.attach_ms = world.between(0, 3_000)
        if world.chance(settings.stall_reader_rate):
            plan.stall_ms = world.between(10, 8_000)
        if world.chance(0.3):
            plan.query_ms = world.between(0, 2_000)
        apart = Random(f"stops {argv[1]!r}")
        if kind != "mpi" and apart.random() < settings.stop_rate:
            argv.append(b"stops")
            if plan.signal_ms >= 0:
                plan.signal = apart.choice((plan.signal, SIGSTOP, SIGTSTP, SIGCONT))
        if self.images and world.chance(settings.image_rate):
            plan.image = random.choice(list(self.images.values()))
            plan.always_send = world.chance(0.5)
        return plan
