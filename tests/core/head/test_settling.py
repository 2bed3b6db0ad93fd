"""What clients of a lost head hear from the next one, and when."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from heorot.core.errors import ProtocolError
from heorot.core.head.timers import AdoptDue, KillDue, SettleDue
from heorot.core.machine import Send
from heorot.core.tickets import seal_ticket
from heorot.core.wire import clients as c
from heorot.core.wire import rows as r
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig, held, sign, ticket
from tests.core.successors import KEY, UNREADY, acknowledged, again, answers, hand_over, launch_up, new_head, refusals


def test_a_client_goes_on_with_its_job_as_soon_as_the_new_head_understands_it() -> None:
    head = new_head(2)
    head.ask(c.AttachJob(1, "1.1", False, True, []))
    assert head.told() == []
    head.attach(0, [held("1.1", running=[0, 100])])
    assert head.told() == []
    head.looked()
    hand_over(head, 0, seal_ticket(sign, ticket("1.1", [0, 2])))
    assert head.told()[0] == c.Spawned(1, "1.1", [0, 2], 4096)
    where, command = head.commands(m.Attend)[-1]
    assert (where, command.attended, command.from_start) == ("n0", True, False)


def test_a_question_about_a_job_waits_while_its_launch_is_fetched() -> None:
    head = new_head(1)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.ask(c.Wait(1, "1.1"))
    assert head.told() == []
    hand_over(head, 0, seal_ticket(sign, ticket("1.1", [0, 1])))
    assert head.told() == []
    head.report(0, "1.1", exited=[0, 0, 0, 0])
    assert head.kinds() == [c.Result]


def test_that_a_job_is_gone_is_only_said_when_all_nodes_have_spoken() -> None:
    head = new_head(2)
    head.ask(c.AttachJob(1, "1.1", False, True, []))
    head.attach(0)
    head.wait(5_000, SettleDue())
    assert head.told() == [c.Notice(1, "waiting for n1, of which the new head has not heard yet", [1, 1])]
    head.looked()
    head.wait(100, SettleDue())
    assert head.told() == [], "it is said once"
    head.attach(1)
    assert refusals(head) == ["no-such-job"]


def test_a_job_whose_nodes_never_come_back_is_given_up_after_the_grace() -> None:
    head = new_head(2)
    head.ask(c.AttachJob(1, "1.1", False, True, []))
    head.wait(59_999, SettleDue())
    assert answers(head) == []
    head.wait(1, SettleDue())
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
    head.wait(4_999, SettleDue())
    assert answers(head) == []
    head.wait(1, SettleDue())
    assert refusals(head) == ["launch-unknown"]
    assert not head.commands(m.Launch)


def test_a_key_is_good_for_one_launch() -> None:
    head = HeadRig(1)
    head.client()
    head.attach(0)
    for request in (1, 2):
        head.ask(spawn_of(request, "n0", argv=[b"a"], stdin=None, stdout=None, stderr=None, key=KEY))
    assert [type(message) for message in head.told()] == [c.Spawned, c.Error]
    assert refusals(head) == ["bad-request"]


def test_new_work_waits_until_the_nodes_are_there() -> None:
    head = new_head(2)
    head.ask(spawn_of(1, "", select="up", argv=[b"a"], stdin=None))
    head.ask(spawn_of(2, "n1", argv=[b"a"], stdin=None))
    head.attach(0)
    assert head.told() == []
    head.attach(1)
    assert [message.runs for message in head.told()] == [[0, 2], [1, 1]]


def test_a_node_that_stays_away_holds_new_work_up_for_a_while() -> None:
    head = new_head(2)
    head.ask(spawn_of(1, "", select="up", argv=[b"a"], stdin=None))
    head.ask(spawn_of(2, "n1", argv=[b"a"], stdin=None))
    head.attach(0)
    head.wait(1_999, SettleDue())
    assert head.told() == []
    head.wait(1, SettleDue())
    (spawned,) = answers(head)
    assert "left out n1" in head.machine.jobs.jobs[spawned.job].text
    head.wait(2_999, SettleDue())
    assert refusals(head) == []
    head.wait(1, SettleDue())
    assert refusals(head) == ["node-down"]
    head.ask(spawn_of(3, "", select="up", argv=[b"a"], stdin=None))
    assert head.machine.jobs.jobs["2.2"].text == "", "it is down, and that is nothing new"


def test_a_question_about_no_node_is_answered_with_nothing_when_the_nodes_are_known() -> None:
    head = new_head(1)
    head.ask(c.ListNodes(1, "up"))
    head.ask(c.ListNodes(2, "error"))
    head.ask(c.ListProcesses(3, "error", None))
    assert head.told() == []
    head.attach(0)
    up, nodes, processes = head.told()
    assert [row.name for row in up.value] == ["n0"]
    assert (nodes.value, processes.value) == ([], r.ProcessList([], []))
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
    head.ask(spawn_of(1, "", select="up", argv=[b"a"], stdin=None))
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
    head.wait(2_000, KillDue(job))
    assert not head.commands(m.Query)


def test_offsets_that_cannot_be_are_refused() -> None:
    head = HeadRig(1)
    head.client()
    head.attach(0)
    job = head.spawn("n0")
    for offsets in ([-1], [-2, 0], [1, 0], [0, -5]):
        with pytest.raises(ProtocolError):
            head.ask(c.AttachJob(5, job, False, True, offsets))


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
    head.wait(59_000, SettleDue())
    head.attach(0, [held("1.1", running=[0, 100])])
    head.close(0)
    head.now += 4_000
    head.ask(c.Wait(1, "1.1"))
    assert answers(head) == []
    head.attach(0, [held("1.1", running=[0, 100])])
    hand_over(head, 0, seal_ticket(sign, ticket("1.1", [0, 1])))
    head.report(0, "1.1", exited=[0, 0x900, 0, 0])
    assert [answer.value.statuses for answer in answers(head)] == [{"0": r.RankStatus(code=9)}]


def test_an_adoption_ends_when_its_last_holder_is_gone() -> None:
    head = new_head(1)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.ask(c.Wait(1, "1.1"))
    head.up(0, m.SpaceGone(7))
    head.wait(100, SettleDue())
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
    head.wait(8_000, SettleDue())
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
    head.wait(59_000, SettleDue())
    assert answers(head) == [], "its nodes may obey another head, which is newer"
    head.wait(1_000, SettleDue())
    assert refusals(head) == ["no-such-job", "no-such-job"]


def test_another_holder_is_asked_when_the_first_does_not_answer() -> None:
    head = new_head(2)
    for node in (0, 1):
        head.attach(node, [held("1.1", running=[node, 100])])
    assert [where for where, _ in head.commands(m.FetchLaunch)] == ["n0"]
    head.wait(1_000, AdoptDue())
    head.wait(1_000, AdoptDue())
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
    head.wait(1_000, AdoptDue())
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


def test_a_job_that_another_node_holds_and_never_gives_holds_up_no_launch() -> None:
    head = new_head(3)
    for node in (0, 1):
        head.attach(node)
    head.attach(2, [held("1.9", running=[0, 100])])
    head.ask(again("n[0-1]"))
    assert head.kinds() == [c.Spawned], "no node of this launch holds anything that is not known"
    head.looked()
    head.ask(replace(again("n[1-2]", request=2), key=b"x" * 16))
    head.ask(replace(again("", "up", request=3), key=b"y" * 16))
    head.wait(4_999, SettleDue())
    assert answers(head) == []
    head.wait(1, SettleDue())
    refused, spawned = answers(head)
    assert (refused.request, refused.code, "n2 cannot be asked" in refused.message) == (2, "launch-unknown", True)
    assert (spawned.request, spawned.runs) == (3, [0, 2]), "on n2 it may be what nobody knows"
    assert head.machine.jobs.jobs[spawned.job].text == "left out n2, which holds a job that nobody knows"


def test_a_node_that_offers_another_job_each_time_is_waited_for_only_once() -> None:
    head = new_head(2)
    head.attach(0)
    head.ask(again("", "up"))
    for number in range(1, 10):
        head.attach(1, [held(f"1.{other}", running=[0, 100]) for other in range(1, number + 1)])
        head.wait(1_000, SettleDue())
    (spawned,) = answers(head)
    assert spawned.runs == [0, 1]


def test_what_one_node_never_gives_does_not_keep_other_jobs_from_being_denied() -> None:
    head = new_head(2)
    head.attach(0)
    head.attach(1, [held("1.9", running=[0, 100])])
    head.ask(c.ShowJob(1, "1.8"))
    assert refusals(head) == ["no-such-job"]
    head.ask(c.ShowJob(2, "1.9"))
    assert refusals(head) == ["no-such-job"], "this one may be understood yet"
