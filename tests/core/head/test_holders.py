"""Detached jobs are acknowledged when a node has them, and refused when none is left that may have them."""

from __future__ import annotations

from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig


def launched(nodes: int = 2) -> HeadRig:
    """Return a head that was asked for a detached job on all nodes, of which none has answered."""
    rig = HeadRig(nodes)
    for node in range(nodes):
        rig.attach(node)
    rig.client()
    rig.ask(spawn_of(1, f"0-{nodes - 1}", detached=True))
    assert rig.kinds() == []
    rig.looked()
    return rig


def test_a_job_is_acknowledged_when_a_node_has_it() -> None:
    rig = launched()
    rig.up(1, m.LaunchCopy("1.1", b"ticket", b"signature"))
    assert rig.kinds() == [c.Spawned]


def test_a_job_is_refused_when_all_of_its_nodes_are_lost_before_one_is_known_to_have_it() -> None:
    rig = launched()
    rig.up(0, m.SpaceGone(7))
    assert rig.told() == []
    rig.up(1, m.SpaceGone(7))
    (error,) = rig.told()
    assert error == c.Error(
        1, "launch-unknown", "n[0-1] were lost before it was known whether the job was started there"
    )
    rig.looked()
    rig.up(0, m.Inventory(7, [m.JobInventory("1.1", [0, 10], [], [], 0)]))
    assert ("n0", m.Release("1.1")) in rig.commands()


def test_a_node_that_is_lost_after_it_had_the_job_does_not_speak_for_it() -> None:
    rig = launched()
    rig.up(0, m.LaunchCopy("1.1", b"", b""))
    rig.up(0, m.SpaceGone(7))
    rig.report(1, "1.1", started=[1, 11])
    assert rig.kinds() == [c.Spawned]
    rig.looked()
    rig.up(1, m.SpaceGone(7))
    assert rig.kinds() == []
