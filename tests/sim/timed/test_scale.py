"""The model of time: the real machines, measured costs, and no chance at all."""

from __future__ import annotations

import pytest

from heorot.sim.timed import scale
from heorot.sim.timed.broadcast import Broadcast
from heorot.sim.timed.cluster import Launched, Premises, TimedCluster, one_machine, own_hosts
from heorot.sim.timed.costs import MEASURED, as_json, load
from heorot.sim.timed.timeline import Cores, Port, TimedNetwork, TimedProcess, Timeline, Unexpected

GIGABIT = 1e9


def _figures(launched: Launched) -> tuple[float, float, int, int]:
    return launched.wall_s, launched.head_cpu_s, launched.head_messages, launched.head_bytes


def _launch(nodes: int, fanout: int, *, join: bool = False) -> tuple[float, float, int, int]:
    cluster = TimedCluster(nodes, fanout, own_hosts(GIGABIT), join=join)
    cluster.launch()
    return _figures(cluster.launch())


@pytest.mark.parametrize("place", [own_hosts(GIGABIT), one_machine(2)], ids=["own", "shared"])
def test_the_same_cluster_takes_the_same_time_in_every_run(place: Premises) -> None:
    def run() -> tuple[float, float, int, int]:
        return _figures(TimedCluster(64, 8, place).launch())

    assert run() == run()


def test_nodes_that_are_attached_from_the_start_launch_exactly_as_nodes_that_have_joined() -> None:
    assert _launch(256, 16, join=True) == _launch(256, 16)


def test_messages_of_the_head_do_not_grow_with_the_tree_and_grow_when_it_is_flat() -> None:
    tree = [_launch(nodes, 16)[2] for nodes in (64, 256)]
    flat = [_launch(nodes, nodes)[2] for nodes in (64, 256)]
    assert tree[1] == tree[0]
    assert flat[1] > 3.5 * flat[0]


def test_a_launch_on_4096_nodes_starts_every_rank_once() -> None:
    cluster = TimedCluster(4096, 32, own_hosts(10 * GIGABIT))
    cluster.launch()
    assert cluster.starts(cluster.client.job) == 4096
    assert cluster.client.exited == 4096
    cluster.settle()
    assert not any(node.init.space.jobs for node in cluster.nodes), "every node was told to forget it"


def test_a_rank_that_is_started_twice_is_found_out() -> None:
    cluster = TimedCluster(1, 1, own_hosts(GIGABIT))
    cluster.started("1.9", 0, 0)
    with pytest.raises(Unexpected, match="twice"):
        cluster.started("1.9", 0, 0)


def test_hosts_that_share_cores_are_slower_than_hosts_of_their_own() -> None:
    shared = TimedCluster(64, 8, one_machine(2)).launch()
    alone = TimedCluster(64, 8, own_hosts(10 * GIGABIT)).launch()
    assert shared.wall_s > 2 * alone.wall_s
    # A core cannot do more than it has time for.
    work_s = 64 * (MEASURED.process_us + MEASURED.init.rank_us) / 1e6
    assert shared.wall_s >= work_s / 2


def test_a_broadcast_gives_every_node_every_chunk_and_is_not_faster_than_its_bound() -> None:
    run = Broadcast(20, 4, GIGABIT, chunks=16)
    wall_s = run.run()
    assert all(hop.cache == (1 << 16) - 1 for hop in run.hops.values())
    assert run.depth == 2
    assert wall_s >= run.bound_s


def test_with_peers_a_broadcast_is_hardly_slower_than_its_bound() -> None:
    run = Broadcast(50, 10, GIGABIT, chunks=256, peers=True)
    tree = Broadcast(50, 10, GIGABIT, chunks=256)
    assert run.run() < 1.3 * run.bound_s
    assert tree.run() > 9 * tree.bound_s
    assert {hop.cache for hop in run.hops.values()} == {(1 << 256) - 1}


def test_a_process_does_one_thing_at_a_time_and_cores_run_as_many_as_they_are() -> None:
    timeline = Timeline()
    cores = Cores(timeline, 2)
    began: list[tuple[str, int]] = []

    def work(name: str) -> int:
        began.append((name, timeline.now_ns))
        return 10

    first, second, third = (TimedProcess(cores) for _ in range(3))
    first.give(work, "a1")
    first.give(work, "a2")
    second.give(work, "b")
    third.give(work, "c")
    timeline.run_until(1_000)
    assert began == [("a1", 0), ("b", 0), ("a2", 10), ("c", 10)]
    assert cores.busy_ns == 40
    assert first.busy_ns == 20


def test_a_link_carries_one_message_after_the_other_and_urgent_ones_before_bulk() -> None:
    timeline = Timeline()
    network = TimedNetwork(timeline, 50, 8e6)  # a byte takes a microsecond
    source, target = Port(network), Port(network)
    arrived: list[tuple[str, int]] = []

    def deliver(name: str) -> None:
        arrived.append((name, timeline.now_ns // 1000))

    for name, bulk in (("bulk", True), ("more", True), ("urgent", False)):
        source.send(0, target, 905, deliver, (name,), bulk)
    timeline.run_until(10_000_000)
    assert arrived == [("bulk", 1_050), ("urgent", 2_050), ("more", 3_050)]


def test_costs_are_read_from_a_file_and_nonsense_is_refused(tmp_path: object) -> None:
    import json
    from pathlib import Path

    path = Path(str(tmp_path)) / "costs.json"
    path.write_text(json.dumps({"costs": as_json(MEASURED)}))
    assert load(path) == MEASURED
    path.write_text('{"costs": {"head": 3}}')
    with pytest.raises(ValueError, match=r"costs\.json is not what"):
        load(path)
    assert scale.main(["--costs", str(path)]) == 2


def test_the_command_prints_a_row_for_each_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert scale.main(["--nodes", "8,64", "--fanout", "16,flat", "--gbit", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3, "with a fan-out of 16, eight nodes are flat"
    assert scale.main(["--nodes", "8", "--fanout", "flat", "--gbit", "1", "--broadcast", "4"]) == 0
