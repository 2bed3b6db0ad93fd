"""The site's node_up: it runs once for each incarnation of a node, whichever head leads, and before anybody's job."""

from __future__ import annotations

from typing import Any

from heorot.core.machine import Log
from heorot.core.wire import clients as c
from heorot.core.wire.wishes import NODE_UP, NodeWish, Prepare, Prepared
from tests.core.head.test_wishes import answer, ask, keep, login, shown
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig


def head_with_script(nodes: int = 2, **config: Any) -> HeadRig:
    """Return a head whose site has a script."""
    head = HeadRig(nodes, node_up=True, **config)
    head.client()
    return head


def asked(head: HeadRig) -> list[Prepare]:
    """Return for which nodes the script is to run."""
    return [item for item in head.sent if isinstance(item, Prepare)]


def test_a_node_is_boot_until_its_script_has_ended_and_only_root_starts_anything_there() -> None:
    head = head_with_script()
    head.attach(0)
    assert asked(head) == [Prepare(0, 7, "host0")]
    assert shown(head, 0) == "boot"
    login(head, 2)
    head.ask(spawn_of(1, "n0"), 2)
    assert answer(head, 2).code == "node-closed"
    assert "node_up has not ended" in answer(head, 2).message
    head.ask(spawn_of(1, "n0"))
    assert isinstance(head.told(1)[0], c.Spawned), "the script itself may start something there"
    head.looked()
    head.ask(spawn_of(2, "", select="up"), 2)
    assert answer(head, 2).code == "no-nodes"
    head.give(Prepared(0, 7, ""))
    assert shown(head, 0) == "boot", "the next head would run it again"
    assert keep(head)[0].prepared == 7
    assert shown(head, 0) == "up"


def test_a_script_that_fails_sets_the_node_to_error_with_its_last_line_and_the_next_success_takes_that_back() -> None:
    head = head_with_script()
    head.attach(0)
    head.looked()
    head.give(Prepared(0, 7, "it ended with status 3: no \x1b[2J scratch disk"))
    (wish,) = keep(head)
    assert (wish.state, wish.by) == ("error", NODE_UP)
    assert wish.reason == "it ended with status 3: no \\x1b[2J scratch disk"
    assert shown(head, 0) == "error"
    head.looked()
    head.attach(0, incarnation=8)
    assert asked(head) == [Prepare(0, 8, "host0")]
    head.give(Prepared(0, 8, ""))
    keep(head)
    assert shown(head, 0) == "up"


def test_what_an_administrator_has_set_the_script_does_not_touch() -> None:
    head = head_with_script()
    head.attach(0)
    ask(head, "n0", "drain", reason="fan")
    keep(head)
    head.give(Prepared(0, 7, "it ended with status 3"))
    (wish,) = keep(head)
    assert (wish.state, wish.reason, wish.prepared) == ("drain", "fan", 7)


def test_the_next_head_runs_it_for_nodes_whose_script_has_not_ended_and_no_others() -> None:
    head = head_with_script(3, epoch=2, wishes=(NodeWish(0, 1, 1, prepared=7), NodeWish(1, 1, 1, prepared=6)))
    for node in range(3):
        head.attach(node)
    assert [item.node for item in asked(head)] == [1, 2]
    assert [shown(head, node) for node in range(3)] == ["up", "boot", "boot"]


def test_a_node_that_comes_another_way_or_begins_anew_meanwhile_has_one_script() -> None:
    head = head_with_script()
    head.attach(0)
    head.attach(0)
    assert len(asked(head)) == 1
    head.attach(0, incarnation=8)
    assert [item.incarnation for item in asked(head)] == [7, 8]
    head.looked()
    head.give(Prepared(0, 7, "it was killed"))
    assert head.sent == [], "nobody waits for that one"
    head.give(Prepared(0, 8, ""))
    keep(head)
    assert shown(head, 0) == "up"


def test_a_store_that_does_not_answer_keeps_no_node_out_of_use() -> None:
    head = head_with_script()
    head.attach(0)
    head.give(Prepared(0, 7, ""))
    keep(head, "no majority")
    assert shown(head, 0) == "up"


def test_a_node_whose_script_has_failed_comes_into_use_under_no_head_whatever_the_store_does() -> None:
    head = head_with_script()
    head.attach(0)
    head.give(Prepared(0, 7, "it ended with status 3"))
    keep(head, "no space left on device", written=False)
    assert shown(head, 0) == "error"
    (told,) = [item.text for item in head.sent if isinstance(item, Log) and "no space" in item.text]
    assert "it holds as long as this head leads" in told
    head.attach(0)
    assert shown(head, 0) == "error"


def test_without_a_script_nothing_is_asked_and_a_node_is_up_at_once() -> None:
    head = HeadRig(1)
    head.attach(0)
    assert not asked(head)
    assert shown(head, 0) == "up"
