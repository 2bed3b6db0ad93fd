"""Turns of the users who watch: nobody's watches keep those of others waiting, and all together not the head."""

from __future__ import annotations

from heorot.core.head.context import Caller
from heorot.core.head.timers import GraceDue, WatchDue
from heorot.core.head.watch import ClientWatch
from heorot.core.head.watch_turns import ENTRIES_PER_ROW, ROWS_AT_A_TIME, TOLD_ROWS_PER_MS, WatchTurns
from heorot.core.head.watches import LOOK_MS, RANKS_PER_ROW, ROWS_PER_MS
from heorot.core.machine import SetTimer, TimerFired, ToClient
from heorot.core.wire import clients as c
from tests.core.head.test_quotas import enter
from tests.core.head.test_watches import head_of, look
from tests.core.head.watching import Nodes, Watcher
from tests.core.rigs import HeadRig, process

ALICE, BOB = 1000, 1001


def watches_of(uid: int, count: int, due_ms: int = 0) -> list[ClientWatch]:
    """Return watches of a user, which are due."""
    caller = Caller(uid, f"u{uid}", uid, uid, ())
    return [ClientWatch(caller, c.Watch(number + 1, ["nodes"], 1000), due_ms) for number in range(count)]


def take(turns: WatchTurns, due: list[ClientWatch], rows: int, entries: int = 0) -> list[tuple[int, int]]:
    """Look at watches, each of which costs so much; return user and number of those who had their turn."""
    looked_at = []
    for watch in turns.in_turn(due, 0):
        looked_at.append((watch.caller.uid, watch.ask.request))
        turns.spend(rows, entries)
    return looked_at


def test_all_have_their_turn_if_it_costs_little() -> None:
    turns = WatchTurns()
    due = watches_of(ALICE, 3) + watches_of(BOB, 1)
    assert take(turns, due, 1) == [(ALICE, 1), (BOB, 1), (ALICE, 2), (ALICE, 3)]
    assert turns.free_ms == 0


def test_after_much_the_others_wait_and_the_longer_the_more_it_was() -> None:
    turns = WatchTurns()
    assert len(take(turns, watches_of(ALICE, 30), ROWS_AT_A_TIME // 10)) == 10
    assert turns.free_ms == ROWS_AT_A_TIME // TOLD_ROWS_PER_MS
    assert len(take(turns, watches_of(ALICE, 30), 0, 2 * ROWS_AT_A_TIME * ENTRIES_PER_ROW)) == 1
    assert turns.free_ms == 2 * ROWS_AT_A_TIME // TOLD_ROWS_PER_MS


def test_who_has_waited_longest_comes_first_then() -> None:
    turns = WatchTurns()
    alice, bob = watches_of(ALICE, 30), watches_of(BOB, 2)
    looked_at = [take(turns, alice + bob, ROWS_AT_A_TIME) for _ in range(4)]
    assert [uid for ((uid, _),) in looked_at] == [ALICE, BOB, ALICE, BOB]


def test_of_one_users_watches_the_first_that_was_due_comes_first() -> None:
    turns = WatchTurns()
    late, early = watches_of(ALICE, 1, 200), watches_of(ALICE, 1, 100)
    early[0].ask = c.Watch(7, ["nodes"], 1000)
    assert take(turns, late + early, 1) == [(ALICE, 7), (ALICE, 1)]


def test_of_users_who_watch_no_more_nothing_is_kept() -> None:
    turns = WatchTurns()
    take(turns, watches_of(ALICE, 1), 1)
    take(turns, watches_of(BOB, 1), 1)
    assert list(turns._turns) == [BOB]


def watch_all(head: HeadRig, nodes: Nodes, wanted: list[tuple[int, str, str]]) -> list[Watcher]:
    """Return watches, each of a client of its own: user, topic, node list. They have seen everything once."""
    head.looked()
    for client, (uid, _, _) in enumerate(wanted, 100):
        enter(head, client, uid)
    watchers = [
        Watcher(head, topic, client=client, every_ms=0, nodes=text)
        for client, (_, topic, text) in enumerate(wanted, 100)
    ]
    nodes.answer()
    # By as many turns as it takes.
    for _ in range(len(wanted)):
        see_all(head, watchers)
        look(head, nodes, 100)
    see_all(head, watchers)
    return watchers


def see_all(head: HeadRig, watchers: list[Watcher]) -> list[int]:
    """Let watchers see what they were told; return the clients that were told anything."""
    sent = head.sent[:]
    seen = []
    for watcher in watchers:
        head.sent[:] = [item for item in sent if isinstance(item, ToClient) and item.client == watcher.client]
        if head.sent and watcher.take() is not None:
            seen.append(watcher.client)
    head.looked()
    return seen


def test_a_user_with_many_watches_of_much_lets_his_own_wait_and_not_those_of_others() -> None:
    head, nodes = head_of(1)
    nodes.processes[0] = [process(pid) for pid in range(1, 1001)]
    watchers = watch_all(head, nodes, [(BOB, "processes", "")] + [(ALICE, "processes", "")] * 60)
    told, seen = [], []
    for turn in range(40):
        nodes.processes[0] = [process(pid, state="RSDTZ"[turn % 5]) for pid in range(1, 1001)]
        look(head, nodes, 100)
        changed = [item.message for item in head.sent if isinstance(item, ToClient)]
        told.append(sum(len(message.rows) for message in changed if isinstance(message, c.Changed)))
        seen.append(see_all(head, watchers))
    assert max(told) <= ROWS_AT_A_TIME + 1000
    assert sum(100 in clients for clients in seen) >= 10
    assert set(range(100, 161)) == {client for clients in seen for client in clients}


def test_node_lists_that_take_long_to_read_make_only_their_own_users_wait() -> None:
    head, nodes = head_of(2)
    dear = ",".join(["n[0-1]", "n1"] * 6_000)
    requests = head.machine.requests
    requests.select(dear, "list")
    one = requests.entries_read
    watchers = watch_all(
        head, nodes, [(BOB, "nodes", "n0,n1")] + [(ALICE, "nodes", dear + " " * number) for number in range(20)]
    )
    read, seen = [], []
    for turn in range(40):
        if turn % 2:
            head.attach(1)
        else:
            head.close(1)
            head.give(TimerFired(GraceDue(1)))
        before = requests.entries_read
        look(head, nodes, 1_000)
        read.append(requests.entries_read - before)
        seen.append(see_all(head, watchers))
    assert 0 < one < max(read) <= ENTRIES_PER_ROW * ROWS_AT_A_TIME + 2 * one
    assert sum(100 in clients for clients in seen) >= 10


def test_a_watch_beside_jobs_with_many_ranks_is_told_more_seldom() -> None:
    head, _ = head_of(3)
    job = head.spawn(",".join(["n[0-2]"] * 4_000))
    head.looked()
    Watcher(head, "nodes", every_ms=0).take()
    (due_ms,) = {item.at_ms for item in head.sent if isinstance(item, SetTimer) and item.key == WatchDue()}
    assert due_ms >= head.now + LOOK_MS + 12_000 // RANKS_PER_ROW // ROWS_PER_MS
    assert job in head.machine.jobs.jobs


def test_who_has_looked_at_an_update_for_long_is_told_the_next_at_once() -> None:
    head, nodes = head_of(1)
    watcher = Watcher(head, "nodes", every_ms=1_000)
    watcher.hear()
    head.awake(head.now + 5_000)
    head.looked()
    watcher.take()
    (due_ms,) = {item.at_ms for item in head.sent if isinstance(item, SetTimer) and item.key == WatchDue()}
    assert due_ms == head.now + 1
    assert nodes.asked == []
