"""A head that may have a successor claims no state of nodes that it does not hear."""

from __future__ import annotations

from typing import Any

from heorot.core.head.timers import GraceDue
from heorot.core.machine import HeadsKnown, Received
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.rows import ContactRow
from tests.core.rigs import HeadRig

LEASE_MS = 3_000


def cut_off(nodes: int = 3, lease_until_ms: int | None = LEASE_MS, **config: Any) -> HeadRig:
    """Return a head with one node less than it knows, whose lease ends then and not before."""
    head = HeadRig(nodes, lease_ms=LEASE_MS, node_grace_ms=0, **config)
    for node in range(nodes - 1):
        head.attach(node)
    head.client()
    head.give(HeadsKnown((("h0", "active"), ("h1", "standby")), "etcd", True, 0, lease_until_ms))
    return head


def status(head: HeadRig) -> tuple[dict[str, str], ContactRow]:
    """Return what ``heorot status`` is told of states and of the contact."""
    head.looked()
    head.ask(c.ShowStatus(1))
    (answer,) = head.told()
    return {row.name: row.state for row in answer.value.nodes}, answer.value.contact


def listed(head: HeadRig, nodes: str = "") -> tuple[list[str], list[str]]:
    """Return what ``bpstat`` is told: nodes and states, and words for people."""
    head.looked()
    head.ask(c.ListNodes(1, nodes))
    (rows,) = (message.value for message in head.told() if isinstance(message, c.Result))
    words = [message.text for message in head.told() if isinstance(message, c.Notice)]
    return [f"{row.name} {row.state}" for row in rows], words


def heard(head: HeadRig, node: int) -> None:
    """Let something come from a node."""
    head.give(Received(head.links[node], m.Ping()))


def test_as_long_as_the_head_is_certain_to_lead_its_nodes_are_what_they_are() -> None:
    head = cut_off()
    head.now += LEASE_MS - 1
    assert status(head) == (
        {"n0": "up", "n1": "up", "n2": "down"},
        ContactRow([], None, ""),
    )
    assert listed(head) == (["n0 up", "n1 up", "n2 down"], [])


def test_a_head_that_hears_nobody_any_more_says_for_how_long_and_claims_no_state() -> None:
    head = cut_off()
    head.now += 40_000
    says = (
        "this head has had no contact with any node for 40 s, and another one may lead: ask on the host of another head"
    )
    assert status(head) == (
        {"n0": "unknown", "n1": "unknown", "n2": "unknown"},
        ContactRow([0, 1], 40.0, says),
    )
    assert listed(head)[1] == [says]
    # Words for states mean what is shown.
    assert listed(head, "up")[0] == listed(head, "down")[0] == []
    assert listed(head, "unknown")[0] == ["n0 unknown", "n1 unknown", "n2 unknown"]


def test_it_counts_from_when_they_were_heard_and_not_from_when_their_links_were_given_up() -> None:
    head = cut_off()
    head.now += 1_000
    heard(head, 1)
    head.now += 30_000
    for node in (0, 1):
        head.close(node)
    head.wait(10_000, GraceDue(0))
    states, contact = status(head)
    assert states == {"n0": "unknown", "n1": "unknown", "n2": "unknown"}
    assert (contact.lost, contact.since_s) == ([0, 1], 41.0)


def test_nodes_that_are_heard_are_up_and_those_that_were_down_are_that() -> None:
    head = cut_off()
    head.now += 40_000
    heard(head, 1)
    states, contact = status(head)
    assert states == {"n0": "unknown", "n1": "up", "n2": "down"}
    assert contact.lost == [0]
    assert contact.text.startswith("this head has had no contact with n0 for 40 s, ")


def test_a_head_that_has_its_lease_again_says_so_of_nobody() -> None:
    head = cut_off()
    head.now += 40_000
    head.give(HeadsKnown((("h0", "active"), ("h1", "standby")), "etcd", True, 0, head.now + LEASE_MS))
    assert status(head)[0] == {"n0": "up", "n1": "up", "n2": "down"}


def test_the_only_head_of_a_cluster_is_not_in_doubt() -> None:
    head = cut_off(lease_until_ms=None)
    head.now += 40_000
    assert status(head)[0] == {"n0": "up", "n1": "up", "n2": "down"}


def test_a_new_head_claims_no_state_of_nodes_that_it_has_not_heard_of() -> None:
    head = HeadRig(2, node_grace_ms=5_000)
    head.attach(0)
    head.client()
    assert listed(head)[0] == ["n0 up", "n1 unknown"]
    head.awake(5_000)
    assert listed(head)[0] == ["n0 up", "n1 down"]
