"""What the simulator's checks take for true and for false, where a run of chance seldom comes by."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from heorot.core.wire import clients as c
from heorot.sim.client import VirtualUser
from heorot.sim.cluster import SimulatedCluster
from heorot.sim.head_host import HeadHost
from heorot.sim.plans import UserPlan
from heorot.sim.reading import Reading
from heorot.sim.settings import Settings
from heorot.sim.store import NAME
from heorot.sim.world import Violation

STEP_US = 10_000
DEADLINE_US = 60_000_000
WALL_US = 20_000_000


def run_until(cluster: SimulatedCluster, is_so: Callable[[], object]) -> None:
    """Let time pass until something is so."""
    world = cluster.world
    deadline_us = world.now_us + DEADLINE_US
    while not is_so():
        world.run_until(world.now_us + STEP_US, lambda: None)
        assert world.now_us < deadline_us


def calm_cluster() -> SimulatedCluster:
    """Return a whole cluster of three nodes and two heads, in which nothing breaks by itself."""
    cluster = SimulatedCluster(1, Settings(nodes=3, heads=2, faults=0, disk_full_rate=0.0, drift_ppm=0))
    for head in cluster.heads:
        cluster.world.after(0, head.boot)
    for host in cluster.hosts:
        cluster.world.after(0, host.start_space)
    run_until(cluster, lambda: leads(cluster.head) == 3)
    return cluster


def leads(head: HeadHost) -> int:
    """Return how many nodes are up for this head."""
    return len(head.machine.members.up) if head.machine is not None else 0


def user(cluster: SimulatedCluster, home: HeadHost, plan: UserPlan | None) -> VirtualUser:
    """Return a user on this host, who begins at once if there is a plan."""
    client = cluster.add_client(plan)
    client.home = home
    if plan is not None:
        client.begin()
    return client


def deposed(cluster: SimulatedCluster) -> tuple[HeadHost, HeadHost]:
    """Return a head that was deposed and cannot hear of it, and the one that leads, with all nodes."""
    former = cluster.head
    leader = next(head for head in cluster.heads if head is not former)
    for other in (NAME, leader.name, *(host.name for host in cluster.hosts)):
        cluster.network.block(former.name, other, WALL_US)
        cluster.network.block(other, former.name, WALL_US)
    run_until(cluster, lambda: cluster.head is leader and leads(leader) == 3)
    return former, leader


def sleeping_job(cluster: SimulatedCluster, home: HeadHost) -> str:
    """Launch a detached job that does not end by itself; return its id when it runs everywhere."""
    launching = user(cluster, home, UserPlan("", "up", [b"sleeper", b"2", b"10"], True, None))
    run_until(cluster, lambda: launching.job and len(cluster.checks.running(launching.job)) == len(cluster.hosts))
    return launching.job


def reader(cluster: SimulatedCluster, home: HeadHost, job: str) -> VirtualUser:
    """Let a user on this host attach to a job."""
    asking = user(cluster, home, None)
    assert asking.connect()
    asking.attach(job)
    return asking


def test_a_job_of_a_newer_head_is_none_that_a_deposed_one_has_lost() -> None:
    cluster = calm_cluster()
    former, leader = deposed(cluster)
    asking = reader(cluster, former, sleeping_job(cluster, leader))
    # The former one cannot know of it; when it is told that it leads no more, its client goes to the one that does.
    run_until(cluster, lambda: asking.reading is not None)
    assert any(asking.name in line and "in-doubt" in line for line in cluster.world.story())
    assert cluster.head is leader


def test_a_job_that_is_on_its_way_to_the_next_head_is_not_given_up_at_one_in_doubt() -> None:
    cluster = calm_cluster()
    former, leader = deposed(cluster)
    working = user(cluster, leader, UserPlan("", "up", [b"sleeper", b"2", b"10"], False, None))
    run_until(cluster, lambda: working.reading is not None and len(working.reading.pids) == len(cluster.hosts))
    assert working.end is not None
    working.home = former
    cluster.network.cut(working.end.link, (0, None))
    run_until(cluster, lambda: any(working.name in line and "in-doubt" in line for line in cluster.world.story()))
    assert not working.finished
    # When the former one is told that it leads no more, its client goes to the one that does.
    run_until(cluster, lambda: working.resumed == 1)
    assert cluster.head is leader


@pytest.mark.parametrize("loser", [0, 1])
def test_a_job_that_a_head_has_lost_is_missed_whichever_head_it_is(loser: int) -> None:
    cluster = calm_cluster()
    job = sleeping_job(cluster, cluster.head)
    head = deposed(cluster)[loser]
    machine = head.machine
    assert machine is not None
    run_until(cluster, lambda: job in machine.jobs.jobs)
    del machine.jobs.jobs[job]
    asking = reader(cluster, head, job)
    with pytest.raises(Violation, match=f"NoLostJob .*{job}"):
        run_until(cluster, lambda: asking.reading is not None)


def test_a_rank_that_is_said_to_have_ended_and_to_be_lost_by_one_head_has_lost_its_output_and_that_once() -> None:
    cluster = calm_cluster()
    short = user(cluster, cluster.head, UserPlan("n0", "list", [b"true", b"1", b"100"], True, None))
    run_until(cluster, lambda: (short.job, 0) in cluster.truth.ranks)
    truth = cluster.truth.ranks[short.job, 0]
    run_until(cluster, lambda: truth.status is not None)
    assert truth.status is not None
    exited = c.Exited(short.job, [0, truth.status, *truth.written])
    lost = c.Lost(short.job, [(0, 0, "n0 was removed from the cluster")])
    cluster.removed.append(0)
    reading = Reading(cluster, short.job, [0], 4096, 0, True)
    # A former head has given it up, the next one had it from its node, and then the node was removed.
    reading.ended(lost, 1)
    reading.go_on()
    reading.ended(exited, 2)
    reading.ended(lost, 2)
    with pytest.raises(Violation, match=r"ExitOnce .*told status .* and then lost"):
        reading.ended(lost, 2)
    reading.go_on()
    reading.ended(lost, 3)
    with pytest.raises(Violation, match=r"ExitOnce .*told status .* and then lost"):
        reading.ended(lost, 3)
