"""What is wanted of nodes: it is kept before it is acknowledged, and every head goes by it."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.head.timers import SettleDue, WishDue
from heorot.core.machine import ClientOpened, FromClient, NodesRemoved
from heorot.core.tickets import seal_ticket
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.rows import NodesSet
from heorot.core.wire.wishes import DRAIN, KeepWishes, NodeWish, WishesKept
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig, held, sign, ticket
from tests.core.successors import KEY, acknowledged, answers, hand_over, launch_up, new_head, refusals

ALICE = 1000


def cluster(nodes: int = 3, **config: Any) -> HeadRig:
    """Return a head whose nodes are up; client 1 is root."""
    head = HeadRig(nodes, **config)
    for node in range(nodes):
        head.attach(node)
    head.client()
    return head


def login(head: HeadRig, client: int, uid: int = ALICE, groups: tuple[int, ...] = ()) -> None:
    """Let a user connect."""
    head.give(ClientOpened(client, f"user{uid}", uid, uid, groups))
    head.give(FromClient(client, c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test")))
    head.looked()


def ask(head: HeadRig, nodes: str, state: str = "", client: int = 1, request: int = 5, **fields: Any) -> None:
    """Ask for a change."""
    head.looked()
    head.ask(c.SetNodes(request, nodes, state, **fields), client)


def asked_of_the_store(head: HeadRig) -> list[KeepWishes]:
    """Return what the shell is to keep."""
    return [item for item in head.sent if isinstance(item, KeepWishes)]


def keep(head: HeadRig, error: str = "", written: bool = True) -> tuple[NodeWish, ...]:
    """Let the store answer for what it was given last; return that."""
    item = asked_of_the_store(head)[-1]
    head.give(WishesKept(item.serial, error, written))
    return item.wishes


def test_a_reason_without_a_state_is_refused_and_a_node_that_is_named_often_is_told_of_once() -> None:
    head = cluster()
    ask(head, "n0", mode=0o111, reason="to be read by everybody")
    assert answer(head).code == "bad-request"
    ask(head, "n0,n0,n1,n0", DRAIN)
    keep(head)
    assert answer(head) == c.Result(5, NodesSet([0, 1], []))


def drain(head: HeadRig, nodes: str, reason: str = "") -> tuple[NodeWish, ...]:
    """Drain nodes; return what was kept."""
    ask(head, nodes, DRAIN, reason=reason)
    return keep(head)


def answer(head: HeadRig, client: int = 1) -> Any:
    """Return what a client was told last."""
    return head.told(client)[-1]


def shown(head: HeadRig, node: int) -> str:
    """Return the state that users are told."""
    return head.machine.members.records[node].told


def test_a_drain_is_acknowledged_when_it_is_kept_and_not_before() -> None:
    head = cluster()
    ask(head, "n[0-1]", DRAIN, reason="disk")
    assert head.told() == []
    assert shown(head, 0) == "up"
    wishes = keep(head)
    assert [(wish.node, wish.state, wish.reason, wish.by) for wish in wishes] == [
        (0, "drain", "disk", "root"),
        (1, "drain", "disk", "root"),
    ]
    assert answer(head) == c.Result(5, NodesSet([0, 1], []))
    assert [shown(head, node) for node in range(3)] == ["drain", "drain", "up"]


def test_nobody_starts_anything_on_a_drained_node_and_a_launch_that_names_it_is_told_why() -> None:
    head = cluster()
    running = head.spawn("n0")
    head.report(0, running, started=[0, 100])
    drain(head, "n0", "disk swap")
    login(head, 2)
    for client in (1, 2):
        head.looked()
        head.ask(spawn_of(1, "n[0-1]"), client)
        assert answer(head, client) == c.Error(
            1, "node-closed", "n0 is set to drain (by root: disk swap); 'bpstat -l' shows it"
        )
    head.looked()
    head.ask(spawn_of(2, "", select="up"), 2)
    assert next(m for m in head.told(2) if isinstance(m, c.Spawned)).runs == [1, 2]
    assert head.machine.jobs.jobs[running].state == "running"


def test_in_another_state_root_starts_what_it_names_and_users_do_not() -> None:
    head = cluster()
    ask(head, "n1", "being-mended")
    keep(head)
    login(head, 2)
    head.looked()
    head.ask(spawn_of(1, "n1"), 2)
    assert answer(head, 2).code == "node-closed"
    head.ask(spawn_of(1, "n1"), 1)
    assert isinstance(head.told(1)[0], c.Spawned)
    head.looked()
    head.ask(spawn_of(2, "up"), 1)
    assert head.told(1)[0].runs == [0, 1, 2, 1], "a list of states is no name of this node"


def test_what_is_on_its_way_to_a_node_is_waited_for() -> None:
    head = cluster()
    job = head.spawn("n0")
    drain(head, "n0")
    assert head.told() == []
    head.report(0, job, started=[0, 100])
    head.wait(50, WishDue())
    assert head.told()[-1] == c.Result(5, NodesSet([0], []))


def test_what_does_not_arrive_in_time_makes_a_node_late() -> None:
    head = cluster(query_timeout_ms=1_000)
    head.spawn("n0")
    drain(head, "n[0-1]")
    head.wait(999, WishDue())
    assert head.told() == []
    head.wait(1, WishDue())
    assert answer(head) == c.Result(5, NodesSet([0, 1], [0]))


def test_a_new_head_knows_what_was_kept_and_goes_by_it_from_the_first_launch_on() -> None:
    former = cluster()
    wishes = drain(former, "n1", "fan")
    head = HeadRig(3, epoch=2, wishes=wishes)
    head.client()
    for node in range(3):
        head.attach(node)
    assert [shown(head, node) for node in range(3)] == ["up", "drain", "up"]
    head.looked()
    head.ask(spawn_of(1, "n1"))
    assert answer(head).code == "node-closed"
    # What it is set to next is newer, and so is what the head of a lower epoch could have written since.
    ask(head, "n1", "up")
    (wish,) = keep(head)
    assert wish.version > wishes[0].version
    assert wish.version > (1, 1_000_000)
    assert shown(head, 1) == "up"


def test_a_launch_that_an_earlier_head_acknowledged_is_not_started_on_a_node_that_was_drained_since() -> None:
    ask_again, spawned = acknowledged(2)
    head = HeadRig(2, epoch=2, wishes=(NodeWish(1, 1, 7, "drain", "fan", "root"),))
    head.client()
    head.attach(0)
    head.attach(1)
    head.looked()
    head.ask(ask_again)
    sent = {where: m.decode_ticket(launch.ticket) for where, launch in head.commands(m.Launch)}
    assert sent["n0"].refused == ""
    assert sent["n1"].refused == "n1 is set to drain (by root: fan); 'bpstat -l' shows it"
    # The node says what became of it: perhaps it was started there, and collected.
    head.report(1, spawned.job, failed=[m.Failure(1, 1, 0, "n1 refuses the launch")])
    head.report(0, spawned.job, started=[0, 100])
    head.report(0, spawned.job, exited=[0, 0, 0, 0])
    assert head.machine.jobs.jobs[spawned.job].done


def test_what_a_drained_node_holds_goes_on_under_the_next_head() -> None:
    head = new_head(2, wishes=(NodeWish(1, 1, 7, "drain", "", "root"),))
    head.ask(launch_up(again=True))
    launch = seal_ticket(sign, ticket("1.1", [0, 2], key=KEY, uid=0))
    head.attach(0, [held("1.1", running=[0, 100])])
    head.attach(1, [held("1.1", running=[1, 100])])
    hand_over(head, 1, launch)
    assert answers(head)[0] == c.Spawned(1, "1.1", [0, 2], 4096)
    assert not head.commands(m.Launch)
    assert head.machine.jobs.jobs["1.1"].running == 2


def test_a_new_head_says_nothing_of_a_node_that_may_have_something_on_its_way() -> None:
    head = new_head(2)
    head.attach(0)
    drain(head, "n[0-1]")
    assert answers(head) == []
    head.attach(1)
    head.wait(50, WishDue())
    assert answers(head) == [c.Result(5, NodesSet([0, 1], []))]


def test_what_is_not_kept_is_said_and_holds_only_if_it_was_written() -> None:
    head = cluster()
    ask(head, "n0", DRAIN)
    keep(head, "no majority")
    assert answer(head).code == "not-kept"
    assert "as long as this head leads" in answer(head).message
    assert shown(head, 0) == "drain"
    ask(head, "n1", DRAIN)
    keep(head, "the disk is full", written=False)
    assert answer(head).code == "not-kept"
    assert "nothing was changed" in answer(head).message
    assert shown(head, 1) == "up"


def test_changes_are_made_one_after_the_other_each_on_what_the_one_before_has_left() -> None:
    head = cluster()
    ask(head, "n0", DRAIN, request=1)
    head.ask(c.SetNodes(2, "n0", mode=0o110))
    head.ask(c.SetNodes(3, "n[0-1]", uid=ALICE))
    assert len(asked_of_the_store(head)) == 1
    for _ in range(2):
        keep(head)
    wish = keep(head)[0]
    assert (wish.state, wish.mode, wish.uid) == ("drain", 0o110, ALICE)
    assert [message.request for message in head.told()] == [1, 2, 3]
    assert [item.wishes[0].sequence for item in asked_of_the_store(head)] == [1, 2, 3]


def test_one_that_was_refused_meanwhile_leaves_nothing_for_the_next() -> None:
    head = cluster()
    ask(head, "n0", DRAIN, request=1)
    head.ask(c.SetNodes(2, "n0", mode=0o110))
    keep(head, "the disk is full", written=False)
    (wish,) = keep(head)
    assert (wish.state, wish.mode) == ("", 0o110)


@pytest.mark.parametrize(
    "change", [{"state": DRAIN}, {"uid": ALICE}, {"mode": 0o111}, {"gid": ALICE}], ids=lambda change: next(iter(change))
)
def test_others_than_root_and_the_nodes_user_change_nothing(change: dict[str, Any]) -> None:
    head = cluster()
    login(head, 2)
    head.ask(c.SetNodes(5, "n0", **change), 2)
    assert answer(head, 2).code == "not-permitted"
    assert not asked_of_the_store(head)


def test_the_user_of_a_node_says_who_else_may_use_it() -> None:
    head = cluster()
    ask(head, "n0", uid=ALICE, mode=0o100)
    keep(head)
    login(head, 2, groups=(77,))
    login(head, 3, 2000, (77,))
    head.ask(spawn_of(1, "n0"), 3)
    assert answer(head, 3) == c.Error(1, "not-permitted", "user2000 may not start processes on n0")
    head.ask(c.SetNodes(5, "n0", gid=88), 2)
    assert answer(head, 2).code == "not-permitted", "it is not one of his groups"
    head.ask(c.SetNodes(6, "n0", gid=77, mode=0o110), 2)
    keep(head)
    assert answer(head, 2) == c.Result(6, NodesSet([0], []))
    head.looked()
    head.ask(spawn_of(2, "n0"), 3)
    assert isinstance(head.told(3)[0], c.Spawned)
    head.ask(c.SetNodes(7, "n0", "drain"), 2)
    assert answer(head, 2).code == "not-permitted", "the state is root's"


def test_nodes_that_a_user_may_not_use_are_named_even_if_all_that_are_up_are_asked_for() -> None:
    head = cluster()
    ask(head, "n1", mode=0o100)
    keep(head)
    login(head, 2)
    head.ask(spawn_of(1, "", select="up"), 2)
    assert answer(head, 2) == c.Error(1, "not-permitted", f"user{ALICE} may not start processes on n1")


def test_who_has_started_a_cluster_without_root_administers_it() -> None:
    head = cluster(owner=ALICE)
    login(head, 2)
    head.ask(c.SetNodes(5, "n0", "being-mended"), 2)
    keep(head)
    assert answer(head, 2) == c.Result(5, NodesSet([0], []))
    head.looked()
    head.ask(spawn_of(1, "n0"), 2)
    assert isinstance(head.told(2)[0], c.Spawned)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"nodes": "n9", "state": DRAIN}, "bad-nodes"),
        ({"nodes": "master", "state": DRAIN}, "bad-nodes"),
        ({"nodes": "", "state": DRAIN}, "no-nodes"),
        ({"nodes": "n0"}, "bad-request"),
        ({"nodes": "n0", "state": "down"}, "bad-request"),
        ({"nodes": "n0", "state": DRAIN, "reason": "x" * 256}, "bad-request"),
        ({"nodes": "n0", "state": DRAIN, "reason": "a\x1b[2J"}, "bad-request"),
        ({"nodes": "n0", "reason": "why"}, "bad-request"),
        ({"nodes": "n0", "mode": 0o755}, "bad-request"),
        ({"nodes": "n0", "uid": 1 << 32}, "bad-request"),
    ],
)
def test_what_cannot_be_is_refused_before_it_is_kept(fields: dict[str, Any], code: str) -> None:
    head = cluster()
    head.ask(c.SetNodes(5, **fields))
    assert refusals(head) == [code]
    assert not asked_of_the_store(head)


def test_a_user_cannot_take_all_the_room_there_is_for_changes() -> None:
    head = cluster()
    ask(head, "n0", uid=ALICE)
    keep(head)
    login(head, 2)
    for number in range(1024):
        head.ask(c.SetNodes(number, "n0", mode=0o111), 2)
    assert refusals_of(head, 2) == {"busy"}
    head.ask(c.SetNodes(5, "n1", DRAIN))
    assert refusals(head) == []


def refusals_of(head: HeadRig, client: int) -> set[str]:
    return {message.code for message in head.told(client) if isinstance(message, c.Error)}


def test_a_node_that_is_not_up_shows_both_and_is_selected_by_either_word() -> None:
    head = cluster()
    drain(head, "n[0-1]")
    head.give(NodesRemoved(()))
    head.up(1, m.SpaceGone(7))
    assert shown(head, 1) == "down+drain"
    for nodes, found in (("drain", [0, 1]), ("down", [1]), ("up", [2]), ("notdown", [0, 2]), ("!drain", [2])):
        head.looked()
        head.ask(c.Resolve(1, nodes, "list"))
        assert answer(head) == c.Result(1, found), nodes


def test_what_was_wanted_of_a_host_is_not_wanted_of_the_next_one_with_its_number() -> None:
    head = cluster()
    head.give(NodesRemoved((), ((0, b"old"), (1, b"same")), ()))
    (wish, _) = drain(head, "n[0-1]")
    assert wish.holder == b"old".hex()
    head.give(NodesRemoved((), ((0, b"new"), (1, b"same")), ((0, b"old"),)))
    assert [head.machine.members.records[node].wish.state for node in (0, 1)] == ["", "drain"]
    # So it is for a head that learns of both when it begins.
    later = HeadRig(2, epoch=2, wishes=(wish,))
    later.give(NodesRemoved((), ((0, b"new"),), ((0, b"old"),)))
    assert later.machine.members.records[0].wish.state == ""
    ask_again = later.machine.members.records[0].wish
    assert ask_again.version == wish.version


def test_a_wish_for_a_node_that_has_not_joined_yet_as_far_as_is_known_waits_for_it() -> None:
    head = HeadRig(1, epoch=2, wishes=(NodeWish(4, 1, 1, "drain"),))
    assert 4 not in head.machine.members.records
    head.attach(4)
    assert shown(head, 4) == "drain"


def test_a_drain_by_states_waits_until_they_are_known() -> None:
    head = new_head(2)
    head.ask(c.SetNodes(5, "up", DRAIN))
    assert not asked_of_the_store(head)
    head.attach(0)
    head.wait(2_000, SettleDue())
    assert [wish.node for wish in asked_of_the_store(head)[0].wishes] == [0]
