"""A launch is the same launch under every head: started once, on all of its nodes, by whichever head."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from heorot.core.head.receipts import VALID_MS
from heorot.core.head.timers import AdoptDue, HoldDue, MissingDue, SettleDue
from heorot.core.machine import ClientOpened, Send
from heorot.core.space.jobs import Tombstones
from heorot.core.tickets import CLOCK_TOLERANCE_MS, TICKET_VALIDITY_MS, seal_ticket
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.rows import ProcessList
from tests.core.launches import changed, spawn_of
from tests.core.rigs import HeadRig, held, sign, ticket
from tests.core.successors import KEY, UNREADY, acknowledged, answers, hand_over, launch_up, new_head, refusals


@pytest.mark.parametrize("nodes", ["up", "n0,up", "!down"])
def test_a_launch_by_states_is_not_started_again_while_any_node_may_have_it(nodes: str) -> None:
    head = new_head(2)
    head.ask(launch_up(nodes=nodes, again=True))
    head.attach(0)
    assert not head.commands(m.Launch), "n1, which was up for the former head, may run it"
    launch = seal_ticket(sign, ticket("1.1", [0, 2], key=KEY, uid=0))
    head.attach(1, [held("1.1", running=[1, 100])])
    hand_over(head, 1, launch)
    assert head.told()[0] == c.Spawned(1, "1.1", [0, 2], 4096)
    assert [(where, launch.job) for where, launch in head.commands(m.Launch)] == [("n0", "1.1")]


def test_a_launch_by_states_starts_without_the_nodes_that_are_given_up_and_says_so() -> None:
    head = new_head(2)
    head.ask(launch_up(again=True))
    head.attach(0)
    head.wait(4_999, SettleDue())
    assert answers(head) == []
    head.wait(1, SettleDue())
    (spawned,) = answers(head)
    assert (spawned.job, spawned.runs) == ("2.1", [0, 1])
    assert "left out n1" in head.machine.jobs.jobs["2.1"].text
    # What it ran after all has no place in the table: the same launch is another job by now.
    launch = seal_ticket(sign, ticket("1.1", [0, 2], key=KEY, uid=0))
    head.attach(1, [held("1.1", running=[1, 100])])
    head.looked()
    hand_over(head, 1, launch)
    assert head.commands(m.Release) == [("n1", m.Release("1.1"))]
    assert not head.commands(m.Launch)
    head.close(1)
    head.looked()
    head.attach(1, [held("1.1", running=[1, 100])])
    assert head.commands(m.Release) == [("n1", m.Release("1.1"))], "the word was lost with the link"
    assert list(head.machine.jobs.jobs) == ["2.1"]


def test_an_acknowledged_launch_that_no_node_has_is_started_under_its_id_at_once() -> None:
    again, spawned = acknowledged(2)
    head = new_head(2)
    head.attach(0)
    head.ask(again)
    assert head.told()[0] == c.Spawned(1, spawned.job, [0, 2], spawned.window_bytes)
    assert [(where, launch.job) for where, launch in head.commands(m.Launch)] == [("n0", spawned.job)]
    head.looked()
    head.attach(1)
    assert [(where, launch.job) for where, launch in head.commands(m.Launch)] == [("n1", spawned.job)]


def test_an_acknowledged_launch_is_lost_for_no_quota() -> None:
    again, spawned = acknowledged(1)
    head = new_head(1, max_jobs=4)
    head.attach(0)
    for request in range(5):
        head.ask(spawn_of(request, "n0", stdin=None, stdout=None, stderr=None))
    assert [message.code for message in head.told() if isinstance(message, c.Error)] == ["too-many-jobs"]
    head.looked()
    head.ask(again)
    assert head.told()[0] == c.Spawned(1, spawned.job, [0, 1], spawned.window_bytes)


def test_an_acknowledged_launch_that_some_nodes_have_is_completed() -> None:
    again, spawned = acknowledged(3)
    head = new_head(3)
    head.attach(0, [held(spawned.job, running=[0, 100])])
    head.attach(1)
    head.looked()
    head.ask(again)
    assert [type(message) for message in head.told()] == [c.Spawned, c.Started]
    assert [where for where, _ in head.commands(m.Launch)] == ["n1"]
    head.looked()
    head.attach(2, [held(spawned.job, exited=[2, 0, 0, 0])])
    assert not head.commands(m.Launch)
    assert head.machine.jobs.jobs[spawned.job].over == 1


def test_an_acknowledged_launch_is_lost_with_a_node_that_stays_away() -> None:
    again, spawned = acknowledged(2)
    head = new_head(2)
    head.attach(0)
    head.ask(again)
    head.report(0, spawned.job, [0, 100], [0, 0, 0, 0])
    head.wait(60_000, MissingDue(1))
    assert head.kinds()[-2:] == [c.Lost, c.Done]


@pytest.mark.parametrize(
    "changes",
    [
        {"job": "1.2"},
        {"runs": [0, 1]},
        {"key": b"x" * 16},
        {"receipt": b"x" * 40},
        {"receipt": b"x"},
        {"job": "no id"},
        {"argv": [b"another"]},
        {"detached": True},
    ],
)
def test_nobody_can_claim_another_job_or_other_nodes(changes: dict[str, Any]) -> None:
    again, _ = acknowledged(2)
    head = new_head(2)
    head.attach(0)
    head.attach(1)
    head.ask(changed(again, **changes))
    assert refusals(head) == ["bad-request"]


def test_the_receipt_of_another_user_means_nothing() -> None:
    again, _ = acknowledged(1)
    head = new_head(1)
    head.attach(0)
    head.give(ClientOpened(2, "user", 1000, 1000, ()))
    head.ask(c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test"), client=2)
    head.ask(again, client=2)
    assert [message.code for message in head.told(2) if isinstance(message, c.Error)] == ["bad-request"]


def test_a_receipt_is_of_no_use_under_the_head_that_gave_it() -> None:
    head = HeadRig(1)
    head.client()
    head.attach(0)
    head.ask(launch_up())
    (spawned,) = head.told()
    job = head.machine.jobs.jobs[spawned.job]
    head.report(0, job.id, [0, 100], [0, 0, 0, 0])
    head.ask(c.ClientRelease(job.id))
    head.looked()
    del head.machine.jobs.jobs[job.id]
    head.machine.jobs.keys.drop(job)
    head.ask(launch_up(again=True, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt))
    assert refusals(head) == ["collected"]


def test_a_receipt_shown_as_if_for_the_first_time_finds_the_job_that_was_taken_back() -> None:
    again, spawned = acknowledged(1)
    head = new_head(1)
    head.attach(0)
    head.ask(again)
    head.looked()
    # Whether a launch is asked for again is nothing that the receipt vouches for.
    head.ask(replace(again, again=False, request=2))
    told = head.told()[0]
    assert (type(told), told.job) == (c.Spawned, spawned.job)
    assert len(head.machine.jobs.jobs) == 1


def test_a_receipt_whose_key_has_made_another_job_meanwhile_gives_that_job() -> None:
    again, _ = acknowledged(1)
    head = new_head(1)
    head.attach(0)
    head.ask(launch_up())
    (spawned,) = head.told()
    head.looked()
    head.ask(replace(again, again=False, request=2))
    told = head.told()[0]
    assert (type(told), told.job, spawned.job) == (c.Spawned, "2.1", "2.1")


def test_a_detached_launch_is_acknowledged_when_a_node_has_it() -> None:
    head = HeadRig(4)
    head.client()
    for node in range(4):
        head.attach(node)
    head.ask(launch_up(detached=True))
    assert head.told() == []
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n0", "n2", "n3"]
    head.up(2, m.LaunchCopy("1.1", b"", b""))
    assert head.told() == [], "it has not come to n2"
    head.confirm()
    (spawned,) = head.told()
    assert (spawned.job, spawned.runs, spawned.receipt) == ("1.1", [0, 4], b"")


def test_a_detached_launch_asks_others_when_the_nodes_that_were_asked_are_gone() -> None:
    head = HeadRig(2)
    head.client()
    head.attach(0)
    head.attach(1)
    head.close(1)
    head.ask(launch_up(nodes="n[0-1]", detached=True))
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n0"]
    head.up(0, m.SpaceGone(7))
    assert head.told() == []
    head.looked()
    head.attach(1)
    assert [where for where, _ in head.commands(m.Launch)] == ["n1"]
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n1"]
    head.confirm()
    assert [type(message) for message in head.told()] == [c.Spawned]


def test_words_for_states_wait_for_a_new_head_to_settle_and_name_the_silent() -> None:
    head = new_head(2)
    head.attach(0)
    head.ask(c.ListNodes(1, ""))
    head.ask(c.Resolve(2, "up", "list"))
    head.ask(c.ListProcesses(3, "", None))
    assert head.told() == []
    head.wait(2_000, SettleDue())
    rows, resolved = (message for message in head.told() if isinstance(message, c.Result))
    assert [(row.name, row.state, row.silent) for row in rows.value] == [
        ("n0", "up", False),
        ("n1", "unknown", True),
    ]
    assert resolved.value == [0]
    (query,) = [query for _, query in head.commands(m.Query)]
    head.up(0, m.Reply(query.id, 0, []))
    assert head.told()[-1] == c.Result(3, ProcessList([], [1]))
    head.looked()
    head.wait(3_000, SettleDue())
    head.ask(c.ListNodes(1, ""))
    assert [row.silent for row in head.told()[0].value] == [False, False]


def test_an_old_receipt_starts_nothing_that_nodes_may_have_forgotten() -> None:
    again, spawned = acknowledged(1)
    head = new_head(1)
    head.now = 600_001
    head.attach(0)
    head.ask(again)
    assert refusals(head) == ["old-receipt"]
    launch = seal_ticket(sign, ticket(spawned.job, [0, 1], key=KEY, uid=0))
    head.attach(0, [held(spawned.job, running=[0, 100])])
    hand_over(head, 0, launch)
    head.looked()
    head.ask(replace(again, request=2))
    assert head.told()[0] == c.Spawned(2, spawned.job, [0, 1], 4096), "what a node holds goes on"


def test_receipts_leave_what_is_kept_for_root() -> None:
    former = HeadRig(1, max_jobs=64)
    former.attach(0)
    former.give(ClientOpened(2, "user", 1000, 1000, ()))
    former.ask(c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test"), client=2)
    receipts = []
    for number in range(80):
        ask = replace(launch_up(key=b"%016d" % number), request=number + 1)
        former.looked()
        former.ask(ask, client=2)
        (spawned,) = former.told(2)
        receipts.append(replace(ask, again=True, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt))
        former.report(0, spawned.job, [0, 100 + number], [0, 0, 0, 0])
        former.ask(c.ClientRelease(spawned.job), client=2)
    head = HeadRig(1, epoch=2, max_jobs=64, **UNREADY)
    head.client()
    head.give(ClientOpened(2, "user", 1000, 1000, ()))
    head.ask(c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test"), client=2)
    for ask in receipts:
        head.ask(ask, client=2)
    assert sum(isinstance(message, c.Spawned) for message in head.told(2)) == 60
    head.attach(0)
    head.looked()
    head.ask(spawn_of(1, "n0", argv=[b"a"], stdin=None))
    assert head.kinds() == [c.Spawned]


def test_an_old_receipt_is_not_refused_while_a_node_may_hold_its_job() -> None:
    again, spawned = acknowledged(2)
    head = new_head(2, wall_offset_ms=600_001)
    head.attach(0)
    head.ask(again)
    assert head.told() == []
    head.attach(1, [held(spawned.job, running=[1, 200])])
    hand_over(head, 1, seal_ticket(sign, ticket(spawned.job, [0, 2], key=KEY, uid=0)))
    assert head.told()[0] == c.Spawned(1, spawned.job, [0, 2], 4096)


def test_nodes_remember_a_job_for_longer_than_any_head_takes_its_receipt() -> None:
    again, spawned = acknowledged(1)
    tombstones = Tombstones()
    tombstones.bury(spawned.job, 0, 0)
    # The first head's clock was as far ahead of the nodes' as they bear, that of the next one is as far behind.
    head = new_head(1, wall_offset_ms=-2 * CLOCK_TOLERANCE_MS)
    head.now = VALID_MS + 2 * CLOCK_TOLERANCE_MS
    head.attach(0)
    head.ask(again)
    assert head.kinds() == [c.Spawned]
    latest_ms = head.now + head.machine.config.adoption_grace_ms + TICKET_VALIDITY_MS
    tombstones.bury("2.1", head.now, latest_ms)
    assert tombstones.refuses(spawned.job, head.now)


def launched_with(size_bytes: int, count: int) -> list[c.Spawn]:
    """Return launches of this size as their client hands them to the next head; their jobs are collected."""
    former = HeadRig(1)
    former.attach(0)
    former.client()
    receipts = []
    for number in range(count):
        ask = launch_up(request=number + 1, key=b"%016d" % number, environment=[bytes(size_bytes)])
        former.looked()
        former.ask(ask)
        (spawned,) = former.told()
        receipts.append(replace(ask, again=True, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt))
        former.report(0, spawned.job, [0, 100 + number], [0, 0, 0, 0])
        former.ask(c.ClientRelease(spawned.job))
    return receipts


def test_receipts_bring_back_no_more_than_launches_may_take() -> None:
    receipts = launched_with(1 << 20, 10)
    head = new_head(1, max_launch_bytes=4 << 20)
    for ask in receipts:
        head.ask(ask)
    assert refusals(head) == ["too-many-jobs"] * 7
    assert sum(head.machine.jobs.limits.launch_bytes.held.values()) < 4 << 20


def test_nodes_bring_back_no_more_than_launches_may_take_at_a_time() -> None:
    head = new_head(1, max_launch_bytes=4 << 20, max_jobs=8, max_finished_jobs=0)
    jobs = [f"1.{number}" for number in range(1, 6)]
    environment = [bytes(1 << 20)]
    inventory = [held(job, running=[0, number]) for number, job in enumerate(jobs, 1)]
    head.attach(0, inventory)
    for job in jobs:
        hand_over(head, 0, seal_ticket(sign, ticket(job, [0, 1], environment=environment, attended=False)))
    assert sorted(head.machine.jobs.jobs) == jobs[:3]
    assert not head.machine.settling.complete
    head.looked()
    head.wait(1_000, AdoptDue())
    assert not again_asked(head), "there is no room yet"
    head.report(0, jobs[0], exited=[0, 0, 0, 0])
    head.ask(c.AttachJob(1, jobs[0], True))
    head.ask(c.ClientRelease(jobs[0]))
    head.wait(1_000, AdoptDue())
    assert again_asked(head)


def again_asked(head: HeadRig) -> bool:
    """Say whether nodes were asked to attach once more."""
    return any(isinstance(item, Send) and isinstance(item.message, m.Reattached) for item in head.sent)


def test_nodes_that_have_no_copy_are_asked_once_more_after_a_while() -> None:
    head = HeadRig(2)
    head.client()
    for node in (0, 1):
        head.attach(node)
    head.ask(launch_up(detached=True))
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n0", "n1"]
    head.looked()
    for _ in range(3):
        for node in (0, 1):
            head.up(node, m.LaunchCopy("1.1", b"", b""))
    assert head.commands(m.FetchLaunch) == [], "they would go round as fast as they say so"
    head.wait(1_000, HoldDue("1.1"))
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n0", "n1"]


def test_a_detached_launch_that_is_over_and_collected_is_acknowledged_once_more_at_once() -> None:
    head = HeadRig(1, max_finished_jobs=0)
    head.client()
    head.client(2)
    head.attach(0)
    head.ask(launch_up(detached=True))
    head.confirm()
    head.report(0, "1.1", [0, 100], [0, 0, 0, 0])
    head.ask(c.AttachJob(2, "1.1", True), client=2)
    head.looked()
    head.ask(launch_up(detached=True, again=True, request=3))
    assert [message.request for message in head.told() if isinstance(message, c.Spawned)] == [3]
    head.ask(c.ClientRelease("1.1"), client=2)
    # Nobody waits for it any more, whatever becomes of programs after it has left the list.
    for number in (11, 12):
        head.spawn("n0", request=number)
    assert not head.machine.jobs.holders._unheld
