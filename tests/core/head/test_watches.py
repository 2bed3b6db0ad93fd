"""Watching: everything first, then what has changed, as fast as the client looks and no faster than it has asked."""

from __future__ import annotations

import pytest

from heorot.core.head.states import WatchState
from heorot.core.head.timers import GraceDue, QueryDue, WatchDue
from heorot.core.head.watched_processes import PATIENCE_MS
from heorot.core.head.watches import LOOK_MS, MAX_NODE_LIST, ROWS_PER_MS
from heorot.core.machine import SetTimer
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.head.test_quotas import enter
from tests.core.head.watching import Nodes, Watcher, wanted
from tests.core.rigs import HeadRig, process


def head_of(nodes: int = 3) -> tuple[HeadRig, Nodes]:
    """Return a head with nodes that answer, and root as its client."""
    head = HeadRig(nodes)
    made = Nodes(head, *range(nodes))
    head.client()
    return head, made


def look(head: HeadRig, nodes: Nodes | None = None, ms: int = 1000) -> None:
    """Let time pass, and the head look; nodes that are asked answer."""
    head.wait(ms, WatchDue())
    if nodes is not None:
        nodes.answer()


def test_a_watch_of_nodes_begins_with_all_and_goes_on_with_what_changes() -> None:
    head, _ = head_of()
    watcher = Watcher(head, "nodes")
    updates = watcher.take()
    assert updates is not None
    assert (updates["nodes"].full, updates["nodes"].changed) == (True, [0, 1, 2])
    head.close(1)
    head.wait(5_000, GraceDue(1))
    look(head, ms=0)
    updates = watcher.take()
    assert updates is not None
    assert (updates["nodes"].full, updates["nodes"].changed) == (False, [1])
    assert [row["state"] for row in watcher.request.tables["nodes"].values()] == ["up", "down", "up"]


def test_nothing_is_said_as_long_as_nothing_changes() -> None:
    head, nodes = head_of()
    watcher = Watcher(head, "nodes", "jobs", "processes")
    nodes.answer()
    assert watcher.take() is not None
    for _ in range(3):
        look(head, nodes)
        assert watcher.take() is None
    assert len(nodes.asked) == 4 * 3


def test_a_job_is_seen_from_its_launch_until_it_is_forgotten() -> None:
    head, _ = head_of()
    watcher = Watcher(head, "jobs")
    watcher.take()
    job = head.spawn("n0")
    look(head)
    watcher.take()
    assert watcher.request.tables["jobs"][job]["running"] == 0
    head.report(0, job, started=[0, 10])
    look(head)
    watcher.take()
    assert watcher.request.tables["jobs"][job]["running"] == 1


def test_processes_are_asked_for_once_for_all_who_watch() -> None:
    head, nodes = head_of()
    head.client(2)
    first, second = Watcher(head, "processes"), Watcher(head, "processes", client=2)
    nodes.answer()
    for watcher in (first, second):
        watcher.take()
    head.looked()
    nodes.asked.clear()
    look(head, nodes)
    assert sorted(nodes.asked) == [0, 1, 2]


def test_what_a_process_becomes_and_that_it_ends_is_told() -> None:
    head, nodes = head_of(2)
    watcher = Watcher(head, "processes")
    nodes.answer()
    watcher.take()
    nodes.processes[1] = [process(101, state="R"), process(7)]
    look(head, nodes)
    updates = watcher.take()
    assert updates is not None
    assert (sorted(updates["processes"].changed), updates["processes"].gone) == ([(1, 7), (1, 101)], [])
    nodes.processes[1] = []
    look(head, nodes)
    updates = watcher.take()
    assert updates is not None
    assert (updates["processes"].changed, sorted(updates["processes"].gone)) == ([], [(1, 7), (1, 101)])
    assert sorted(watcher.request.tables["processes"]) == [(0, 100)]


def test_who_does_not_look_is_sent_one_update_and_then_all_that_has_changed_as_one() -> None:
    head, nodes = head_of(1)
    watcher = Watcher(head, "processes")
    nodes.answer()
    watcher.hear()
    for pid in range(20):
        nodes.processes[0] = [process(pid)]
        look(head, nodes)
        watcher.hear()
    assert len(watcher.parts) == 1
    assert nodes.asked == [0], "nobody wants to know"
    watcher.take()
    look(head, nodes, 0)
    updates = watcher.take()
    assert updates is not None
    assert list(watcher.request.tables["processes"]) == [(0, 19)]
    assert len(watcher.parts) == 2


def test_no_update_comes_before_its_interval_is_over() -> None:
    head, nodes = head_of(1)
    watcher = Watcher(head, "processes", every_ms=5_000)
    nodes.answer()
    watcher.take()
    nodes.processes[0] = []
    look(head, nodes, 4_000)
    assert (watcher.take(), nodes.asked) == (None, [0])
    look(head, nodes, 1_000)
    assert watcher.take() is not None


def test_the_interval_has_a_lower_bound_which_grows_with_the_rows() -> None:
    head, _ = head_of(3)
    Watcher(head, "nodes", every_ms=0).take()
    (due_ms,) = {item.at_ms for item in head.sent if isinstance(item, SetTimer) and item.key == WatchDue()}
    assert due_ms == head.now + LOOK_MS
    large = HeadRig(5_000)
    large.client()
    Watcher(large, "nodes", every_ms=0).take()
    (due_ms,) = {item.at_ms for item in large.sent if isinstance(item, SetTimer) and item.key == WatchDue()}
    assert due_ms >= large.now + 5_000 // ROWS_PER_MS


def test_a_watch_costs_nothing_when_it_has_ended() -> None:
    head, nodes = head_of()
    watcher = Watcher(head, "nodes", "jobs", "processes")
    nodes.answer()
    watcher.take()
    watcher.end()
    assert [type(message) for message in head.told()] == [c.Result]
    watches = head.machine.clients.watches
    assert (watches.watches, watches._processes, watches._nodes.rows) == ({}, None, {})
    head.looked()
    look(head)
    assert wanted(head) == []


def test_nor_when_its_client_is_gone_while_nodes_are_asked() -> None:
    head, _ = head_of()
    Watcher(head, "processes")
    assert len(head.machine.requests.questions.queries) == 1
    head.leave()
    assert head.machine.requests.questions.queries == {}
    head.looked()
    look(head)
    assert wanted(head) == []


def test_a_user_may_watch_no_more_than_is_left_for_others() -> None:
    head = HeadRig(1, max_watches=32)
    Nodes(head, 0)
    for client in range(32):
        enter(head, 100 + client, 1000)
    enter(head, 200, 1001)
    refused = []
    for client in range(32):
        watcher = Watcher(head, "nodes", client=100 + client)
        watcher.hear()
        refused += watcher.errors
    assert {error.code for error in refused} == {"busy"}
    assert "max_watches" in refused[0].message
    other = Watcher(head, "nodes", client=200)
    assert other.take() is not None


@pytest.mark.parametrize(
    ("ask", "code"),
    [
        (c.Watch(9, [], 1000), "bad-request"),
        (c.Watch(9, ["nodes", "nodes"], 1000), "bad-request"),
        (c.Watch(9, ["weather"], 1000), "bad-request"),
        (c.Watch(9, ["nodes"], 1000, "n9"), "bad-nodes"),
        (c.Watch(9, ["processes"], 1000, "n["), "bad-nodes"),
        (c.Watch(9, ["nodes"], 1000, "," * (MAX_NODE_LIST + 1)), "bad-request"),
        (c.Watch(9, ["processes"], 1000, "", "1.9"), "no-such-job"),
    ],
)
def test_what_cannot_be_watched_is_refused_as_a_question_would_be(ask: c.Watch, code: str) -> None:
    head, _ = head_of()
    head.ask(ask)
    (error,) = head.told()
    assert (error.request, error.code) == (9, code)
    assert head.machine.clients.watches.watches == {}


def test_one_number_is_one_watch() -> None:
    head, _ = head_of()
    head.ask(c.Watch(9, ["nodes"], 1000))
    head.looked()
    head.ask(c.Watch(9, ["nodes"], 1000))
    (error,) = head.told()
    assert error.code == "bad-request"


def test_words_on_a_watch_that_there_is_not_and_too_many_of_them_do_no_harm() -> None:
    head, _ = head_of()
    head.ask(c.Seen(3))
    head.ask(c.Unwatch(3))
    assert head.told() == []
    watcher = Watcher(head, "nodes")
    watcher.take()
    for _ in range(3):
        head.ask(c.Seen(watcher.request.number))
    (watch,) = head.machine.clients.watches.watches.values()
    assert watch.state is WatchState.READY


def test_rows_in_the_order_in_which_nodes_are_named_and_only_those() -> None:
    head, _ = head_of()
    watcher = Watcher(head, "nodes", nodes="n2,n0,n2")
    watcher.take()
    assert sorted(watcher.request.tables["nodes"]) == [0, 2]
    assert watcher.request.named == [2, 1, 0, 1, 2, 1]


def test_a_list_by_states_follows_the_states() -> None:
    head, nodes = head_of()
    watcher = Watcher(head, "nodes", "processes", nodes="up")
    nodes.answer()
    watcher.take()
    head.close(1)
    head.wait(5_000, GraceDue(1))
    look(head, nodes, 0)
    updates = watcher.take()
    assert updates is not None
    assert sorted(watcher.request.tables["nodes"]) == [0, 2]
    assert sorted(watcher.request.tables["processes"]) == [(0, 100), (2, 102)]


def test_a_job_that_is_watched_is_alone_in_what_is_told_and_asked() -> None:
    head, nodes = head_of()
    job, other = head.spawn("n0"), head.spawn("n[0-1]")
    nodes.processes[0] = [process(10, job, 0), process(11, other, 0), process(12)]
    head.looked()
    watcher = Watcher(head, "jobs", "processes", job=job)
    assert [query.job for _, query in head.commands(m.Query)] == [job]
    nodes.answer()
    watcher.take()
    assert nodes.asked == [0]
    assert list(watcher.request.tables["jobs"]) == [job]
    assert list(watcher.request.tables["processes"]) == [(0, 10)]
    head.client(2)
    everything = Watcher(head, "processes", client=2)
    nodes.answer()
    everything.take()
    assert len(everything.request.tables["processes"]) == 5
    nodes.processes[0] = [process(10, other, 1)]
    for _ in range(3):
        look(head, nodes)
        watcher.take()
    assert watcher.request.tables["processes"] == {}, "the number is that of another process by now"


def test_what_is_watched_may_be_forgotten_and_ends_the_watch() -> None:
    head, nodes = head_of()
    job = head.spawn("n0")
    head.looked()
    watcher = Watcher(head, "processes", job=job)
    nodes.answer()
    watcher.take()
    del head.machine.jobs.jobs[job]
    look(head, nodes)
    watcher.hear()
    assert [error.code for error in watcher.errors] == ["no-such-job"]
    assert head.machine.clients.watches.watches == {}


def test_a_node_that_hangs_keeps_nobody_from_what_the_others_say() -> None:
    head, nodes = head_of(2)
    watcher = Watcher(head, "processes")
    nodes.answer()
    watcher.take()
    nodes.silent.add(1)
    nodes.processes[0] = [process(5)]
    look(head, nodes)
    assert watcher.take() is None, "the other one may answer in a moment"
    (query,) = head.machine.requests.questions.queries
    look(head, nodes, PATIENCE_MS)
    updates = watcher.take()
    assert updates is not None
    assert updates["processes"].changed == [(0, 5)]
    for pid in (6, 7, 8):
        nodes.processes[0] = [process(pid)]
        look(head, nodes)
        updates = watcher.take()
        assert updates is not None
        assert updates["processes"].changed == [(0, pid)], "it is waited for no more"
        assert (watcher.request.missing, sorted(watcher.request.tables["processes"])) == ([], [(0, pid), (1, 101)])
    head.wait(10_000, QueryDue(query))
    look(head, nodes)
    watcher.take()
    assert (watcher.request.missing, list(watcher.request.tables["processes"])) == ([1], [(0, 8)])
    for question in list(head.machine.requests.questions.queries.values()):
        nodes.reply(1, question.query)
    nodes.silent.clear()
    look(head, nodes)
    watcher.take()
    assert (watcher.request.missing, sorted(watcher.request.tables["processes"])) == ([], [(0, 8), (1, 101)])


def test_a_long_table_comes_in_parts_and_counts_when_the_last_is_there() -> None:
    head, nodes = head_of(1)
    nodes.processes[0] = [process(pid) for pid in range(1, 1202)]
    watcher = Watcher(head, "processes", "nodes")
    nodes.answer()
    updates = watcher.take()
    assert updates is not None
    assert len(watcher.request.tables["processes"]) == 1201
    assert [(part.topic, len(part.rows), part.full, part.more) for part in watcher.parts] == [
        ("processes", 500, True, True), ("processes", 500, False, True), ("processes", 201, False, True),
        ("nodes", 1, True, False),
    ]  # fmt: skip


def test_a_new_head_that_does_not_know_its_nodes_yet_lets_a_watch_wait_like_a_question() -> None:
    head = HeadRig(2, settle_ms=2_000)
    head.attach(0)
    head.client()
    watcher = Watcher(head, "nodes")
    assert watcher.take() is None
    head.attach(1)
    watcher.take()
    assert [row["state"] for row in watcher.request.tables["nodes"].values()] == ["up", "up"]


def test_who_does_not_watch_any_more_before_it_has_begun_does_not_begin() -> None:
    head = HeadRig(2, settle_ms=2_000)
    head.attach(0)
    head.client()
    watcher = Watcher(head, "nodes")
    head.ask(c.Watch(9, ["nodes"], 1000))
    head.ask(c.Unwatch(9))
    assert [type(message) for message in head.told()] == [c.Result]
    head.attach(1)
    assert sorted(head.machine.clients.watches.watches) == [(1, watcher.request.number)]
    assert not head.machine.settling.waits
