"""What clients of a lost head hear from the next one, and when."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from heorot.core import client_messages as c
from heorot.core import messages as m
from heorot.core.errors import ProtocolError
from heorot.core.machine import ClientOpened, Send
from heorot.core.tickets import seal_ticket
from tests.core.rigs import HeadRig, held, sign, ticket

KEY = b"k" * 16
UNREADY = {"settle_ms": 2_000}


def new_head(nodes: int, **config: Any) -> HeadRig:
    """Return the head of the second epoch, just elected, and its first client."""
    head = HeadRig(nodes, epoch=2, **UNREADY, **config)
    head.client()
    return head


def hand_over(head: HeadRig, node: int, launch: m.Launch) -> None:
    """Let a node give the head the copy of a launch."""
    head.up(node, m.LaunchCopy(launch.job, launch.ticket, launch.signature))


def again(nodes: str = "n[0-1]", select: str = "list", request: int = 1, detached: bool = False) -> c.Spawn:
    """Return a launch that is asked for once more."""
    return c.Spawn(
        request, nodes, select, [b"prog"], [], b"/", 18, [], b"", b"", b"", [], detached, key=KEY, again=True
    )  # fmt: skip


def answers(head: HeadRig) -> list[Any]:
    """Return what the client was told, without words on why it waits."""
    return [message for message in head.told() if not isinstance(message, c.Notice)]


def refusals(head: HeadRig) -> list[str]:
    """Return the codes of the errors that the client was told."""
    return [message.code for message in head.told() if isinstance(message, c.Error)]


def test_a_client_goes_on_with_its_job_as_soon_as_the_new_head_understands_it() -> None:
    head = new_head(2)
    head.ask(c.AttachJob(1, "1.1", False, True, []))
    assert head.told() == []
    launch = seal_ticket(sign, ticket("1.1", [0, 2]))
    head.attach(0, [held("1.1", running=[0, 100])])
    assert head.told() == []
    head.looked()
    hand_over(head, 0, launch)
    assert head.told()[0] == c.Spawned(1, "1.1", [0, 2], 4096)
    where, command = head.commands(m.Attend)[-1]
    assert (where, command.attended, command.from_start) == ("n0", True, False)


def test_a_question_about_a_job_waits_while_its_launch_is_fetched() -> None:
    head = new_head(1)
    launch = seal_ticket(sign, ticket("1.1", [0, 1]))
    head.attach(0, [held("1.1", running=[0, 100])])
    head.ask(c.Wait(1, "1.1"))
    assert head.told() == []
    hand_over(head, 0, launch)
    assert head.told() == []
    head.report(0, "1.1", exited=[0, 0, 0, 0])
    assert head.kinds() == [c.Result]


def test_that_a_job_is_gone_is_only_said_when_all_nodes_have_spoken() -> None:
    head = new_head(2)
    head.ask(c.AttachJob(1, "1.1", False, True, []))
    head.attach(0)
    head.wait(5_000, "settle")
    assert head.told() == [c.Notice(1, "waiting for n1, of which the new head has not heard yet", [1, 1])]
    head.looked()
    head.wait(100, "settle")
    assert head.told() == [], "it is said once"
    head.attach(1)
    assert refusals(head) == ["no-such-job"]


def test_a_job_whose_nodes_never_come_back_is_given_up_after_the_grace() -> None:
    head = new_head(2)
    head.ask(c.AttachJob(1, "1.1", False, True, []))
    head.wait(59_999, "settle")
    assert answers(head) == []
    head.wait(1, "settle")
    (error,) = answers(head)
    assert (error.code, "n[0-1] have not been heard of" in error.message) == ("no-such-job", True)


def test_a_launch_that_was_started_is_not_started_again() -> None:
    head = new_head(2)
    head.ask(again())
    launch = seal_ticket(sign, ticket("1.1", [0, 2], key=KEY, uid=0))
    head.attach(0, [held("1.1", running=[0, 100])])
    head.attach(1, [held("1.1", running=[1, 200])])
    assert head.told() == [], "the copy of the launch is still on its way"
    hand_over(head, 0, launch)
    assert head.told()[0] == c.Spawned(1, "1.1", [0, 2], 4096)
    assert not head.commands(m.Launch)


def test_a_detached_launch_that_was_started_is_only_acknowledged() -> None:
    head = new_head(1)
    head.ask(again("n0", detached=True))
    launch = seal_ticket(sign, ticket("1.1", [0, 1], key=KEY, uid=0, attended=False))
    head.attach(0, [held("1.1", running=[0, 100])])
    hand_over(head, 0, launch)
    assert head.kinds() == [c.Spawned]
    assert head.machine.jobs.jobs["1.1"].client is None


def test_the_key_of_another_user_means_nothing() -> None:
    head = new_head(1)
    head.ask(again("n0"))
    launch = seal_ticket(sign, ticket("1.1", [0, 1], key=KEY, uid=1000))
    head.attach(0, [held("1.1", running=[0, 100])])
    hand_over(head, 0, launch)
    (spawned,) = [message for message in head.told() if isinstance(message, c.Spawned)]
    assert spawned.job == "2.1"


@pytest.mark.parametrize(("age_ms", "unknown"), [(0, True), (2_900, True), (3_100, False)])
def test_a_node_that_began_anew_meanwhile_cannot_say_that_nothing_was_started(age_ms: int, unknown: bool) -> None:
    head = new_head(2)
    head.ask(replace(again("n[0-1]"), asked_at_ms=head.now - 2_000))
    head.attach(0)
    head.attach(1, age_ms=age_ms)
    (answer,) = head.told()
    if unknown:
        assert isinstance(answer, c.Error)
        assert (answer.code, "n1 began anew" in answer.message) == ("launch-unknown", True)
    else:
        assert isinstance(answer, c.Spawned)


def over_after_a_change_of_heads() -> HeadRig:
    """Return a head that has taken over a job which is over; its list is full, and its client on the way."""
    head = HeadRig(1, epoch=2, max_finished_jobs=0, **UNREADY)
    head.client()
    launch = seal_ticket(sign, ticket("1.1", [0, 1], key=KEY, uid=0))
    head.attach(0, [held("1.1", exited=[0, 0, 0, 0])])
    hand_over(head, 0, launch)
    return head


def others_are_collected(head: HeadRig) -> None:
    """Run and collect two more jobs, which makes the list of jobs too long."""
    for number in (11, 12):
        other = head.spawn("n0", request=number)
        head.report(0, other, [0, 100], [0, 0, 0, 0])
        head.ask(c.ClientRelease(other))
    head.looked()


def test_a_job_makes_no_room_for_others_while_its_client_may_come_back() -> None:
    head = over_after_a_change_of_heads()
    others_are_collected(head)
    head.ask(again("n0"))
    assert head.told()[0] == c.Spawned(1, "1.1", [0, 1], 4096)


def test_what_made_room_for_others_is_not_started_again() -> None:
    head = over_after_a_change_of_heads()
    head.now += 60_000
    others_are_collected(head)
    assert "1.1" not in head.machine.jobs.jobs
    head.ask(again("n0"))
    assert refusals(head) == ["collected"]
    assert head.commands(m.Launch) == []


@pytest.mark.parametrize("select", ["list", "up"])
def test_a_launch_that_no_node_has_heard_of_is_started_once_all_have_said_so(select: str) -> None:
    head = new_head(2)
    head.ask(again("n[0-1]" if select == "list" else "", select))
    head.attach(0)
    assert head.told() == []
    head.attach(1)
    (spawned,) = head.told()
    assert (spawned.job, spawned.runs) == ("2.1", [0, 2])
    assert head.commands(m.Launch)


def test_a_launch_waits_for_its_own_nodes_only() -> None:
    head = new_head(3)
    head.ask(again("n[0-1]"))
    head.attach(0)
    head.attach(1)
    assert head.kinds() == [c.Spawned]


def test_a_launch_that_may_run_on_a_silent_node_is_refused() -> None:
    head = new_head(2)
    head.ask(again())
    head.attach(0)
    head.wait(4_999, "settle")
    assert answers(head) == []
    head.wait(1, "settle")
    assert refusals(head) == ["launch-unknown"]
    assert not head.commands(m.Launch)


def test_a_key_is_good_for_one_launch() -> None:
    head = HeadRig(1)
    head.client()
    head.attach(0)
    for request in (1, 2):
        head.ask(c.Spawn(request, "n0", "list", [b"a"], [], b"/", 18, [], None, None, None, [], False, key=KEY))
    assert [type(message) for message in head.told()] == [c.Spawned, c.Error]
    assert refusals(head) == ["bad-request"]


def test_new_work_waits_until_the_nodes_are_there() -> None:
    head = new_head(2)
    head.ask(c.Spawn(1, "", "up", [b"a"], [], b"/", 18, [], None, b"", b"", [], False))
    head.ask(c.Spawn(2, "n1", "list", [b"a"], [], b"/", 18, [], None, b"", b"", [], False))
    head.attach(0)
    assert head.told() == []
    head.attach(1)
    assert [message.runs for message in head.told()] == [[0, 2], [1, 1]]


def test_a_node_that_stays_away_holds_new_work_up_for_a_while() -> None:
    head = new_head(2)
    head.ask(c.Spawn(1, "", "up", [b"a"], [], b"/", 18, [], None, b"", b"", [], False))
    head.ask(c.Spawn(2, "n1", "list", [b"a"], [], b"/", 18, [], None, b"", b"", [], False))
    head.attach(0)
    head.wait(1_999, "settle")
    assert head.told() == []
    head.wait(1, "settle")
    (spawned,) = answers(head)
    assert "left out n1" in head.machine.jobs.jobs[spawned.job].text
    head.wait(2_999, "settle")
    assert refusals(head) == []
    head.wait(1, "settle")
    assert refusals(head) == ["node-down"]
    head.ask(c.Spawn(3, "", "up", [b"a"], [], b"/", 18, [], None, b"", b"", [], False))
    assert head.machine.jobs.jobs["2.2"].text == "", "it is down, and that is nothing new"


def test_a_question_about_no_node_is_answered_with_nothing_when_the_nodes_are_known() -> None:
    head = new_head(1)
    head.ask(c.ListNodes(1, "up"))
    head.ask(c.ListNodes(2, "error"))
    head.ask(c.ListProcesses(3, "error", None))
    assert head.told() == []
    head.attach(0)
    up, nodes, processes = head.told()
    assert [row["name"] for row in up.value] == ["n0"]
    assert (nodes.value, processes.value) == ([], {"processes": [], "missing": []})
    head.ask(c.Resolve(4, "error", "list"))
    assert refusals(head) == ["no-nodes"]


def test_what_a_client_sends_behind_its_wish_to_go_on_waits_with_it() -> None:
    head = new_head(1)
    head.ask(c.AttachJob(1, "1.1", False, True, [-1, 10]))
    head.ask(c.ClientStdin("1.1", -1, 10, b"more", True))
    launch = seal_ticket(sign, ticket("1.1", [0, 1]))
    head.attach(0, [held("1.1", running=[0, 100], stdin_offset=12)])
    head.looked()
    hand_over(head, 0, launch)
    assert [(s.offset, s.data, s.end) for _, s in head.commands(m.Stdin)] == [(10, b"more", True)]


def test_input_that_is_sent_again_and_was_taken_already_is_acknowledged_as_it_comes() -> None:
    head = new_head(1)
    launch = seal_ticket(sign, ticket("1.1", [0, 1]))
    head.attach(0, [held("1.1", running=[0, 100], stdin_offset=20)])
    hand_over(head, 0, launch)
    head.ask(c.AttachJob(1, "1.1", False, True, [-1, 10]))
    head.ask(c.ClientStdin("1.1", -1, 10, b"more", False))
    head.looked()
    head.up(0, m.StdinAck("1.1", 20))
    assert head.told() == [c.ClientStdinAck("1.1", -1, 14, False)]
    head.looked()
    # The node has this, too, and would not say so again.
    head.ask(c.ClientStdin("1.1", -1, 14, b"more", False))
    assert head.told() == [c.ClientStdinAck("1.1", -1, 18, False)]


def test_a_client_that_leaves_waits_for_nothing() -> None:
    head = new_head(1)
    head.ask(c.Spawn(1, "", "up", [b"a"], [], b"/", 18, [], None, b"", b"", [], False))
    head.leave()
    head.attach(0)
    assert not head.commands(m.Launch)


def test_input_goes_on_where_the_client_knows_all_nodes_to_be() -> None:
    head = new_head(2)
    launch = seal_ticket(sign, ticket("1.1", [0, 2]))
    head.attach(0, [held("1.1", running=[0, 100], stdin_offset=2_000)])
    hand_over(head, 0, launch)
    # The second node, which has taken less than the first, was not heard yet.
    head.ask(c.AttachJob(1, "1.1", False, True, [-1, 1_000]))
    head.ask(c.ClientStdin("1.1", -1, 1_000, b"x" * 1_500, False))
    head.looked()
    head.attach(1, [held("1.1", running=[1, 200], stdin_offset=1_200)])
    assert [(where, s.offset, len(s.data)) for where, s in head.commands(m.Stdin)] == [("n1", 1_200, 1_300)]


def test_an_earlier_connection_of_the_reader_stands_aside() -> None:
    head = HeadRig(1)
    head.client(1)
    head.client(2)
    head.attach(0)
    job = head.spawn("n0")
    head.ask(c.AttachJob(5, job, False, True, []), client=2)
    assert c.Spawned in head.kinds(2)
    head.looked()
    head.leave(1)
    assert not head.commands(m.Query), "the job is not hung up"
    head.report(0, job, started=[0, 100])
    assert head.kinds(2) == [c.Started]


def test_going_on_undoes_a_hang_up_that_has_begun() -> None:
    head = HeadRig(1)
    head.client(1)
    head.client(2)
    head.attach(0)
    job = head.spawn("n0")
    head.leave(1)
    head.ask(c.AttachJob(5, job, False, True, []), client=2)
    head.looked()
    head.wait(2_000, f"kill:{job}")
    assert not head.commands(m.Query)


def test_offsets_that_cannot_be_are_refused() -> None:
    head = HeadRig(1)
    head.client()
    head.attach(0)
    job = head.spawn("n0")
    for offsets in ([-1], [-2, 0], [1, 0], [0, -5]):
        with pytest.raises(ProtocolError):
            head.ask(c.AttachJob(5, job, False, True, offsets))


# ------------------------------------------------------------------ a launch is the same launch under every head


def launch_up(**changes: Any) -> c.Spawn:
    """Return a launch on the nodes that are up, as the library asks for it."""
    ask = c.Spawn(1, "up", "list", [b"prog"], [], b"/", 18, [], b"", b"", b"", [], False, key=KEY)
    return replace(ask, **changes)


def acknowledged(nodes: int, **changes: Any) -> tuple[c.Spawn, c.Spawned]:
    """Let a first head acknowledge a launch; return how its client hands it to the next, and what it was told."""
    former = HeadRig(nodes)
    former.client()
    for node in range(nodes):
        former.attach(node)
    former.ask(launch_up(**changes))
    (spawned,) = former.told()
    return launch_up(again=True, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt, **changes), spawned


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
    head.wait(4_999, "settle")
    assert answers(head) == []
    head.wait(1, "settle")
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
        head.ask(c.Spawn(request, "n0", "list", [b"prog"], [], b"/", 18, [], None, None, None, [], False))
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
    head.wait(60_000, "missing:1")
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
    head.ask(replace(again, **changes))
    assert refusals(head) == ["bad-request"]


def test_the_receipt_of_another_user_means_nothing() -> None:
    again, _ = acknowledged(1)
    head = new_head(1)
    head.attach(0)
    head.give(ClientOpened(2, "user", 1000, 1000, ()))
    head.ask(c.ClientHello(1, "test"), client=2)
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
    head.machine.jobs._keys.drop(job)
    head.ask(launch_up(again=True, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt))
    assert refusals(head) == ["collected"]


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


def test_a_detached_launch_without_any_node_left_is_acknowledged_as_lost() -> None:
    head = HeadRig(1)
    head.client()
    head.attach(0)
    head.ask(launch_up(detached=True))
    head.up(0, m.SpaceGone(7))
    assert [type(message) for message in head.told()] == [c.Spawned]
    assert head.machine.jobs.jobs["1.1"].done


def test_words_for_states_wait_for_a_new_head_to_settle_and_name_the_silent() -> None:
    head = new_head(2)
    head.attach(0)
    head.ask(c.ListNodes(1, ""))
    head.ask(c.Resolve(2, "up", "list"))
    head.ask(c.ListProcesses(3, "", None))
    assert head.told() == []
    head.wait(2_000, "settle")
    rows, resolved = (message for message in head.told() if isinstance(message, c.Result))
    assert [(row["name"], row["state"], row["silent"]) for row in rows.value] == [
        ("n0", "up", False),
        ("n1", "down", True),
    ]
    assert resolved.value == [0]
    (query,) = [query for _, query in head.commands(m.Query)]
    head.up(0, m.Reply(query.id, 0, []))
    assert head.told()[-1] == c.Result(3, {"processes": [], "missing": [1]})
    head.looked()
    head.wait(3_000, "settle")
    head.ask(c.ListNodes(1, ""))
    assert [row["silent"] for row in head.told()[0].value] == [False, False]


# ------------------------------------------------------------------ what a slow node holds is not denied


def test_an_adoption_waits_for_a_holder_that_is_away_for_a_moment() -> None:
    head = new_head(2)
    launch = seal_ticket(sign, ticket("1.1", [0, 2], key=KEY, uid=0))
    for node in (0, 1):
        head.attach(node, [held("1.1", running=[node, 100])])
    head.close(1)
    head.looked()
    head.up(0, m.LaunchCopy("1.1", b"", b""))
    head.ask(c.Wait(1, "1.1"))
    head.ask(again("n[0-1]", request=2))
    assert head.told() == [], "n1 still holds it, and is waited for"
    assert not head.commands(m.Launch)
    head.attach(1, [held("1.1", running=[1, 100])])
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n1"]
    hand_over(head, 1, launch)
    assert head.told()[0] == c.Spawned(2, "1.1", [0, 2], 4096)


def test_another_holder_is_asked_when_the_link_of_the_first_is_lost() -> None:
    head = new_head(2)
    for node in (0, 1):
        head.attach(node, [held("1.1", running=[node, 100])])
    head.looked()
    head.close(0)
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n1"]


def test_an_adoption_is_timed_from_its_offer() -> None:
    head = new_head(2)
    head.attach(1)
    head.wait(59_000, "settle")
    head.attach(0, [held("1.1", running=[0, 100])])
    head.close(0)
    head.now += 4_000
    head.ask(c.Wait(1, "1.1"))
    assert answers(head) == []
    head.attach(0, [held("1.1", running=[0, 100])])
    hand_over(head, 0, seal_ticket(sign, ticket("1.1", [0, 1])))
    head.report(0, "1.1", exited=[0, 0x900, 0, 0])
    (result,) = answers(head)
    assert result.value["statuses"] == {"0": {"code": 9}}


def test_an_adoption_ends_when_its_last_holder_is_gone() -> None:
    head = new_head(1)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.ask(c.Wait(1, "1.1"))
    head.up(0, m.SpaceGone(7))
    head.wait(100, "settle")
    assert refusals(head) == ["no-such-job"]


@pytest.mark.parametrize(
    "ask",
    [
        c.Wait(1, "1.1"),
        c.ShowJob(1, "1.1"),
        c.AttachJob(1, "1.1", False),
        c.Signal(1, "1.1", None, None, 9),
        c.ListProcesses(1, "", "1.1"),
    ],
)
def test_a_job_of_an_earlier_head_is_not_denied_while_a_node_is_silent(ask: c.ClientMessage) -> None:
    head = new_head(2)
    head.attach(0)
    head.ask(ask)
    head.wait(8_000, "settle")
    assert answers(head) == []
    head.attach(1)
    assert refusals(head) == ["no-such-job"]
    head.looked()
    head.machine.members.spoken_mask = 0
    head.ask(replace(ask, job="2.7"))
    assert refusals(head) == ["no-such-job"], "an id of its own is not of anybody else"


def test_who_goes_on_with_a_job_that_this_epoch_has_not_given_waits_for_a_newer_head() -> None:
    again, _ = acknowledged(1)
    head = HeadRig(1, epoch=1, **UNREADY)
    head.client()
    head.ask(again)
    head.ask(c.AttachJob(2, "1.1", False, True, []))
    head.wait(59_000, "settle")
    assert answers(head) == [], "its nodes may obey another head, which is newer"
    head.wait(1_000, "settle")
    assert refusals(head) == ["no-such-job", "no-such-job"]


def test_an_old_receipt_starts_nothing_that_nodes_may_have_forgotten() -> None:
    again, spawned = acknowledged(1)
    head = new_head(1)
    head.now = 600_001
    head.attach(0)
    head.ask(again)
    assert refusals(head) == ["no-such-job"]
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
    former.ask(c.ClientHello(1, "test"), client=2)
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
    head.ask(c.ClientHello(1, "test"), client=2)
    for ask in receipts:
        head.ask(ask, client=2)
    assert sum(isinstance(message, c.Spawned) for message in head.told(2)) == 60
    head.attach(0)
    head.looked()
    head.ask(c.Spawn(1, "n0", "list", [b"a"], [], b"/", 18, [], None, b"", b"", [], False))
    assert head.kinds() == [c.Spawned]


def test_another_holder_is_asked_when_the_first_does_not_answer() -> None:
    head = new_head(2)
    for node in (0, 1):
        head.attach(node, [held("1.1", running=[node, 100])])
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n0"]
    head.wait(1_000, "adopt")
    head.wait(1_000, "adopt")
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n0", "n1", "n0"]
    hand_over(head, 1, seal_ticket(sign, ticket("1.1", [0, 2])))
    assert list(head.machine.jobs.jobs) == ["1.1"]


def test_no_node_fills_what_is_known_of_others_with_jobs_of_its_own() -> None:
    head = HeadRig(2, epoch=2, max_jobs=32, max_finished_jobs=32, **UNREADY)
    head.client()
    head.attach(1, [held(f"1.{number}", running=[0, 100]) for number in range(1, 100)])
    head.attach(0, [held("1.1000", running=[0, 100])])
    assert ("n0", m.FetchLaunch("1.1000")) in head.commands(m.FetchLaunch)
    hand_over(head, 0, seal_ticket(sign, ticket("1.1000", [0, 1])))
    assert "1.1000" in head.machine.jobs.jobs
    # As long as it has more, nothing is denied; when there is room it is asked to say it all again.
    assert not head.machine.settling.complete
    for number in range(1, 33):
        head.up(1, m.LaunchCopy(f"1.{number}", b"", b""))
    head.looked()
    head.wait(1_000, "adopt")
    assert any(isinstance(item, Send) and isinstance(item.message, m.Reattached) for item in head.sent)


def test_a_head_that_knows_no_node_yet_denies_nothing() -> None:
    head = HeadRig(0, epoch=2, **UNREADY)
    head.client()
    head.ask(c.Wait(1, "1.1"))
    head.ask(launch_up(request=2, again=True))
    assert head.told() == [], "the registry of nodes is on its way from another head's host"
    head.attach(0, [held("1.1", running=[0, 100])])
    hand_over(head, 0, seal_ticket(sign, ticket("1.1", [0, 1], key=KEY, uid=0)))
    assert head.told()[0] == c.Spawned(2, "1.1", [0, 1], 4096)
    assert not head.commands(m.Launch)
