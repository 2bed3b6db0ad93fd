"""Groups of nodes at a head: taken over while it leads; what they name and is not there is told to who uses them."""

from __future__ import annotations

from typing import Any

from heorot.core.machine import GroupsKnown
from heorot.core.wire import clients as c
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig

LEFT_OUT = "@rack names n[2-3], c9: not there, and left out"


def told(head: HeadRig, ask: Any) -> list[Any]:
    """Return what the head says to this request of root's."""
    head.looked()
    head.ask(ask)
    return head.told()


def test_groups_are_those_that_were_told_last() -> None:
    head = HeadRig(2, groups={"old": "n0"})
    head.attach(0)
    head.attach(1)
    head.client()
    assert told(head, c.Resolve(1, "@old", "list"))[-1].value == [0]
    head.give(GroupsKnown({"rack": "n1"}))
    assert told(head, c.Resolve(2, "@rack", "list"))[-1].value == [1]
    assert told(head, c.Resolve(3, "@old", "list"))[-1].code == "bad-nodes"


def test_whoever_uses_a_group_is_told_what_it_names_that_is_not_there() -> None:
    head = HeadRig(2)
    head.attach(0)
    head.attach(1)
    head.client()
    head.give(GroupsKnown({"rack": "n[0-3],c9"}))
    for ask in (c.Resolve(1, "@rack", "list"), c.ListNodes(1, "@rack")):
        assert [word.text for word in told(head, ask) if isinstance(word, c.Notice)] == [LEFT_OUT]
    # Not of another list, and not of none.
    for ask in (c.Resolve(2, "n0", "list"), c.ListNodes(2, ""), c.Resolve(2, "", "up")):
        assert [word for word in told(head, ask) if isinstance(word, c.Notice)] == []
    job = next(word.job for word in told(head, spawn_of(3, "@rack")) if isinstance(word, c.Spawned))
    assert head.machine.jobs.jobs[job].node_set.numbers() == [0, 1]
    assert head.machine.jobs.jobs[job].row().text == LEFT_OUT
