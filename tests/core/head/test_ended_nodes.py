"""Nodes that are rebooted, halted or powered off: set to that until they are back, and then to what they were."""

from __future__ import annotations

import pytest

from heorot.core.wire import clients as c
from heorot.core.wire.rows import NodesSet
from heorot.core.wire.wishes import DRAIN, NodeWish
from tests.core.head.test_wishes import answer, ask, asked_of_the_store, cluster, drain, keep, shown
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig
from tests.core.successors import refusals

POWER = {"reboot": ("systemctl", "reboot"), "halt": ("halt",)}


def test_a_node_that_is_rebooted_is_set_to_that_until_it_is_back_and_then_to_what_it_was() -> None:
    head = cluster(power=POWER)
    drain(head, "n0", "disk")
    ask(head, "n[0-1]", "reboot", reason="kernel", power=True)
    keep(head)
    assert answer(head) == c.Result(5, NodesSet([0, 1], [], ["systemctl", "reboot"]))
    assert [shown(head, node) for node in (0, 1)] == ["reboot", "reboot"]
    head.ask(spawn_of(1, "n[0-1]"))
    assert isinstance(answer(head), (c.Spawned, c.Notice)), "root's command may be started there"
    # The same processes come another way: it has not been rebooted yet.
    head.looked()
    head.attach(0)
    assert not asked_of_the_store(head)
    head.attach(0, incarnation=8)
    assert shown(head, 0) == "boot+reboot" or shown(head, 0) == "reboot"
    (wish,) = keep(head)
    assert (wish.state, wish.reason, wish.until) == ("drain", "disk", 0)
    head.attach(1, incarnation=9)
    keep(head)
    assert [shown(head, node) for node in (0, 1)] == ["drain", "up"]


def test_a_new_head_sees_that_a_node_was_rebooted_meanwhile() -> None:
    head = HeadRig(1, epoch=2, wishes=(NodeWish(0, 1, 1, "halt", until=7, then="drain", then_reason="disk"),))
    head.attach(0, incarnation=8)
    (wish,) = keep(head)
    assert (wish.state, wish.reason) == ("drain", "disk")


def test_who_sets_another_state_meanwhile_is_right() -> None:
    head = cluster(power=POWER)
    ask(head, "n0", "reboot", power=True)
    keep(head)
    ask(head, "n0", DRAIN)
    keep(head)
    head.looked()
    head.attach(0, incarnation=8)
    assert not asked_of_the_store(head)
    assert shown(head, 0) == "drain"


@pytest.mark.parametrize(
    ("nodes", "state", "code"),
    [("n0", "pwroff", "no-power"), ("n0", "drain", "bad-request"), ("n[0-3]", "reboot", "node-down")],
)
def test_what_cannot_be_ended_is_not_set(nodes: str, state: str, code: str) -> None:
    head = cluster(power=POWER)
    head.machine.members.register((3,))
    head.awake(10_000)
    ask(head, nodes, state, power=True)
    assert refusals(head) == [code]
    assert not asked_of_the_store(head)
