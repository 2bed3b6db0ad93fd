"""Swarm settings: every seed simulates another kind of cluster under another kind of weather."""

from __future__ import annotations

from dataclasses import dataclass, fields
from random import Random


@dataclass(slots=True)
class Settings:
    """What one run is like. Rates are probabilities; a *fault weight* of 0 means that this fault does not occur."""

    minutes: float = 0.0
    """How long the run takes, up to when everything must come right; 0: one burst of faults and jobs, and then calm."""
    nodes: int = 8
    heads: int = 2
    spare_heads: int = 0
    """Hosts that can be made heads while the nodes live."""
    lease_ms: int = 2_000
    store_loss_rate: float = 0.0
    store_repeat_rate: float = 0.0
    disk_ms: int = 20
    """A node that waits for its disk waits so long at most."""
    write_back_ms: int = 0
    """What it writes without waiting is safe from a loss of power after so long at most."""
    disk_full_rate: float = 0.05
    image_rate: float = 0.0
    """Jobs whose program travels to the nodes."""
    swarm_gain_ms: int = 200
    """With 0, nodes have images from each other whenever two of them lack the same."""
    same_program_rate: float = 0.4
    """Of the nodes: so many have such a program themselves."""
    shared_store_rate: float = 0.0
    """Of the hosts: the caches of so many share a store."""
    cache_full_rate: float = 0.0
    drift_ppm: int = 200
    wall_skew_ms: int = 1_000
    wrong_clock_rate: float = 0.0
    """Hosts whose wall clock is days off."""
    fanout: int = 2
    delay_us: tuple[int, int] = (50, 500)
    us_per_kib: int = 8
    refuse_rate: float = 0.0
    faults: int = 20
    """In one burst."""
    fault_span_ms: int = 20_000
    """The faults of one burst occur within this time."""
    jobs: int = 12
    """So many users come in one burst."""
    job_span_ms: int = 15_000
    reader_rate: float = 0.25
    """Jobs that read input."""
    mpi_rate: float = 0.0
    """Jobs of MPI, of all."""
    largest_write_bytes: int = 40_000
    heartbeat_ms: int = 1_000
    link_timeout_ms: int = 3_000
    node_grace_ms: int = 3_000
    kill_grace_ms: int = 500
    query_timeout_ms: int = 3_000
    rebalance_ms: int = 200
    max_finished_jobs: int = 1_024
    job_window_bytes: int = 8 * 1024 * 1024
    """How much output of a job may be on its way; with little, streams have turns."""
    spool_limit_bytes: int = 512 * 1024
    stream_memory_bytes: int = 64 * 1024
    cut_weight: int = 4
    stall_weight: int = 2
    agent_weight: int = 3
    node_weight: int = 2
    space_weight: int = 1
    isolate_weight: int = 2
    slow_weight: int = 1
    head_weight: int = 0
    ambush_weight: int = 0
    """A head is killed right after it has taken a launch or news of a job."""
    keeper_weight: int = 0
    """A keeper is killed, and its head with it; the lease has to run out."""
    host_weight: int = 0
    """A head host is lost with everything on it."""
    pause_weight: int = 0
    """A head host is stopped, for shorter or longer than its lease, and wakes up."""
    switch_weight: int = 0
    """A head hands over on purpose."""
    wall_weight: int = 0
    """A head host is cut off from nodes, one-way or both ways."""
    store_wall_weight: int = 0
    """The same between a head host and the store."""
    store_weight: int = 0
    """The store answers nobody."""
    ghost_weight: int = 0
    """Commands of a deposed head arrive late."""
    add_head_weight: int = 0
    """Another host becomes a head."""
    remove_head_weight: int = 0
    """A head that does not lead is removed for good."""
    remove_node_weight: int = 0
    """A node is removed from the cluster, which goes on running and comes again and again."""
    lurk_weight: int = 0
    """A node breaks, or is removed, when a head has heard that it is there and not yet what it holds."""
    spoil_weight: int = 0
    """Files go from a cache."""
    roof_weight: int = 0
    """A node is cut off from everything but the nodes below it."""
    headless_patience_ms: int = 60_000
    """So long, and up to five times as long, nodes wait for a parent that has no way to a head."""
    late_close_rate: float = 0.0
    """Of the connections that are closed: so many are heard to be at the other end only seconds later."""
    client_weight: int = 2
    """A client dies."""
    watchers: int = 0
    """Users who watch nodes, jobs and processes all the time."""
    administrators: int = 0
    """Users who drain nodes and give them back all the time."""
    doze_weight: int = 0
    """Agents are stopped for a while, and the head is killed meanwhile."""
    rush: int = 0
    """So many users more come in one burst, with short launches."""
    stay_away_rate: float = 0.2
    """Dead nodes that do not come back soon."""
    detached_rate: float = 0.25
    signal_rate: float = 0.3
    stall_reader_rate: float = 0.2
    time_limit_rate: float = 0.0
    """Jobs that may run for a short time only."""
    crowd_rate: float = 0.0
    """Jobs with several ranks on each node."""
    stop_rate: float = 0.0
    """Jobs whose processes stop and go on."""

    def show(self) -> str:
        """Return all settings in one line."""
        return " ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


def draw(seed: int) -> Settings:
    """Return the settings of a seed."""
    random = Random(f"settings {seed}")
    settings = Settings()
    settings.nodes = random.choice((1, 2, 3, 4, 5, 6, 8, 8, 10, 12, 16, 20, 30, 40))
    settings.fanout = random.choice((2, 2, 2, 3, 3, 4, 5, 8))
    slowest_us = random.choice((200, 1_000, 5_000, 20_000, 80_000))
    settings.delay_us = (random.choice((20, 100)), slowest_us)
    settings.us_per_kib = random.choice((1, 8, 80, 400))
    settings.refuse_rate = random.choice((0.0, 0.0, 0.02, 0.1))
    settings.faults = random.choice((0, 3, 10, 20, 40, 150))
    settings.fault_span_ms = random.choice((3_000, 10_000, 20_000))
    settings.jobs = random.choice((3, 8, 15, 25))
    settings.job_span_ms = random.choice((500, 5_000, 15_000))
    settings.largest_write_bytes = random.choice((100, 3_000, 40_000, 200_000))
    settings.node_grace_ms = random.choice((1_500, 3_000, 5_000))
    settings.max_finished_jobs = random.choice((4, 1_024, 1_024))
    settings.spool_limit_bytes = random.choice((0, 20_000, 512 * 1024))
    settings.stream_memory_bytes = random.choice((2_000, 64 * 1024))
    for name in ("cut", "stall", "agent", "node", "space", "isolate", "slow", "client"):
        if random.random() < 0.4:
            setattr(settings, f"{name}_weight", 0)
    settings.head_weight = random.choice((0, 0, 1, 2))
    for name in ("ambush", "keeper", "host", "pause", "switch", "wall", "store_wall", "store"):
        setattr(settings, f"{name}_weight", random.choice((0, 0, 0, 1, 2)))
    settings.heads = random.choice((1, 2, 2, 3))
    settings.lease_ms = random.choice((1_000, 2_000, 3_000))
    settings.store_loss_rate = random.choice((0.0, 0.0, 0.05, 0.3))
    settings.store_repeat_rate = random.choice((0.0, 0.0, 0.05, 0.3))
    settings.disk_ms = random.choice((20, 20, 500, 3_000))
    settings.write_back_ms = random.choice((0, 0, 1_000, 30_000))
    settings.drift_ppm = random.choice((0, 200))
    settings.wall_skew_ms = random.choice((0, 1_000, 20_000))
    settings.wrong_clock_rate = random.choice((0.0,) * 7 + (0.1,))
    settings.ghost_weight = random.choice((0, 2))
    settings.stay_away_rate = random.choice((0.0, 0.2, 0.7))
    settings.detached_rate = random.choice((0.0, 0.25, 0.6))
    settings.signal_rate = random.choice((0.0, 0.3))
    settings.stall_reader_rate = random.choice((0.0, 0.3))
    settings.image_rate = random.choice((0.0, 0.3, 0.7))
    settings.swarm_gain_ms = random.choice((0, 0, 200))
    settings.cache_full_rate = random.choice((0.0, 0.0, 0.1))
    settings.shared_store_rate = Random(f"shared stores {seed}").choice((0.0, 0.0, 0.5, 1.0))
    settings.spare_heads = random.choice((0, 1, 2, 4))
    settings.remove_node_weight = Random(f"removed nodes {seed}").choice((0, 0, 0, 1, 3))
    settings.administrators = Random(f"administrators {seed}").choice((0, 0, 1))
    settings.watchers = Random(f"watchers {seed}").choice((0, 0, 0, 1, 3))
    settings.stop_rate = Random(f"stops {seed}").choice((0.0, 0.0, 0.3, 0.7))
    settings.job_window_bytes = Random(f"windows {seed}").choice((8 << 20, 8 << 20, 256 << 10, 64 << 10))
    late = Random(f"what comes late {seed}")
    settings.late_close_rate = late.choice((0.0, 0.0, 0.0, 0.03, 0.3))
    settings.lurk_weight = late.choice((0, 0, 0, 2))
    if settings.image_rate:
        settings.spoil_weight = late.choice((0, 0, 1, 4))
    settings.roof_weight = late.choice((0, 0, 0, 2))
    more = Random(f"ranks and limits {seed}")
    settings.time_limit_rate = more.choice((0.0, 0.0, 0.3))
    settings.crowd_rate = more.choice((0.0, 0.0, 0.3))
    settings.headless_patience_ms = late.choice((1_000, 4_000, 60_000))
    if settings.spare_heads:
        settings.add_head_weight, settings.remove_head_weight = random.choice((1, 2)), random.choice((0, 1, 2))
    settings.doze_weight = random.choice((0, 0, 1, 3))
    settings.rush = random.choice((0, 0, 0, 80))
    return settings
