"""The head's jobs as transcripts: what nodes and clients say, and what the head makes of it."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.attendance import HUNG_UP
from heorot.core.head.reports import ESTALE
from heorot.core.head.timers import GraceDue, MissingDue, ReleaseDue, ReturnDue, SettleDue
from heorot.core.machine import Received, Send
from heorot.core.tickets import open_launch, seal_ticket
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig, held, sign, ticket, verify


def test_a_launch_goes_down_once_and_its_news_come_up_merged() -> None:
    head = HeadRig(3)
    for node in range(3):
        head.attach(node)
    head.client()
    job = head.spawn("n[0-2]")
    launches = head.commands(m.Launch)
    assert [nodes for nodes, _ in launches] == ["n0", "n1", "n2"]
    opened = open_launch(verify, launches[0][1], cluster="test", wall_ms=0)
    assert (opened.job, opened.runs, opened.spec.argv) == (job, [0, 3], [b"prog"])
    for node in range(3):
        head.report(node, job, [node, 100 + node], [node, 0, 0, 0])
    assert head.kinds() == [c.Spawned, *[c.Started, c.Exited] * 3, c.Done]


def test_news_that_come_twice_are_told_once() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0,n0")
    head.report(0, job, [0, 100], [0, 0, 0, 0])
    head.looked()
    head.report(0, job, [0, 100], [0, 0, 0, 0])
    head.attach(0, [held(job, exited=[0, 0, 0, 0])])
    assert head.told() == []


def test_a_node_that_missed_a_launch_gets_it_with_its_next_inventory() -> None:
    head = HeadRig(2)
    head.attach(0)
    head.attach(1)
    head.client()
    head.close(1)
    job = head.spawn("n[0-1]")
    assert [nodes for nodes, _ in head.commands(m.Launch)] == ["n0"]
    head.looked()
    head.attach(1)
    assert [(nodes, launch.job) for nodes, launch in head.commands(m.Launch)] == [("n1", job)]


def test_no_word_of_a_node_hides_another_and_each_is_told_once() -> None:
    head = HeadRig(2)
    for node in range(2):
        head.attach(node)
    head.client()
    job = head.spawn("n[0-1]")
    head.looked()

    def note(node: int, text: str) -> None:
        head.give(Received(head.links[node], m.Report(job, [], [], [], notes=[m.Failure(node, node, 0, text)])))

    for node in range(2):
        note(node, "it ran in /")
        note(node, f"it was ended on n{node}")
    for node in range(2):
        head.report(node, job, exited=[node, 9, 0, 0])
    told = head.told()[-1]
    assert isinstance(told, c.Done)
    assert told.text == "it ran in /; it was ended on n0; it was ended on n1"


def test_a_thousand_different_words_are_cut_and_that_is_said() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    notes = [m.Failure(0, 0, 0, f"reason {number}") for number in range(1000)]
    head.give(Received(head.links[0], m.Report(job, [], [0, 0, 9, 0, 0], [], notes=notes)))
    (done,) = [message for message in head.told() if isinstance(message, c.Done)]
    assert done.text == "reason 0; reason 1; reason 2; reason 3; other nodes say more of this kind"


@pytest.mark.parametrize("notes", [0, 1, 4, 5])
def test_why_a_job_was_ended_is_told_however_much_its_nodes_say_and_is_taken_back(notes: int) -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    said = [m.Failure(0, 0, 0, f"note {number}") for number in range(notes)]
    head.give(Received(head.links[0], m.Report(job, [0, 0, 9], [], [], notes=said)))
    before = head.machine.jobs.jobs[job].text
    head.leave(lost=True)
    head.wait(30_000, ReturnDue(job))
    assert head.machine.jobs.jobs[job].text == "; ".join(filter(None, [HUNG_UP, before]))
    head.client(2)
    head.ask(c.AttachJob(1, job, False, resume=True), client=2)
    assert head.machine.jobs.jobs[job].text == before


def test_a_launch_is_not_repeated_on_an_incarnation_that_came_after_it() -> None:
    head = HeadRig(1)
    head.attach(0, incarnation=7)
    head.client()
    job = head.spawn("n0")
    head.close(0)
    head.looked()
    head.attach(0, incarnation=8, after="")
    assert head.commands(m.Launch) == []
    assert head.commands(m.Admit) == [("n0", m.Admit(8, job))]
    assert head.kinds() == [c.Lost, c.Done]


def test_an_admission_that_was_lost_is_repeated_as_it_was() -> None:
    # A later mark would forbid the launches that were sent since.
    head = HeadRig(1)
    head.attach(0, after="")
    head.client()
    job = head.spawn("n0")
    head.close(0)
    head.looked()
    head.attach(0, after="")
    assert head.commands(m.Admit) == [("n0", m.Admit(7, "1.0"))]
    assert [launch.job for _, launch in head.commands(m.Launch)] == [job]


def test_a_rank_that_was_given_up_and_comes_back_alive_is_killed() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    head.report(0, job, [0, 100])
    head.close(0)
    head.wait(5_000, GraceDue(0))
    assert head.kinds()[-2:] == [c.Lost, c.Done]
    head.looked()
    head.attach(0, [held(job, running=[0, 100])])
    (query,) = [query for _, query in head.commands(m.Query)]
    assert (query.job, query.ranks, query.signal) == (job, [0], 9)
    assert head.told() == []


def test_a_rank_that_was_given_up_and_only_starts_afterwards_is_killed_too() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    head.close(0)
    head.wait(5_000, GraceDue(0))
    head.attach(0, [held(job)])
    head.looked()
    head.report(0, job, [0, 100])
    assert [(query.ranks, query.signal) for _, query in head.commands(m.Query)] == [([0], 9)]


def test_a_node_is_not_given_up_before_its_grace_is_over() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    head.close(0)
    head.now += 3_000
    head.attach(0, [held(job, running=[0, 100])])
    head.close(0)
    head.looked()
    head.wait(2_000, GraceDue(0))  # the timer of the first time
    assert head.told() == []
    head.wait(3_000, GraceDue(0))
    assert head.kinds() == [c.Lost, c.Done]


def test_output_that_went_with_its_node_is_waited_for_no_longer() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0")
    head.report(0, job, [0, 100], [0, 0, 4096, 0])
    head.close(0)
    head.looked()
    head.wait(5_000, GraceDue(0))
    (lost,) = head.told()
    assert isinstance(lost, c.Lost)
    assert lost.ranks[0][:2] == (0, 0)


def test_whoever_attaches_later_hears_that_output_is_gone() -> None:
    head = HeadRig(1)
    head.attach(0)
    head.client()
    job = head.spawn("n0", detached=True)
    head.report(0, job, [0, 100], [0, 0, 4096, 0])
    head.close(0)
    head.wait(5_000, GraceDue(0))
    head.looked()
    head.ask(c.AttachJob(2, job, True))
    assert head.kinds() == [c.Spawned, c.Started, c.Exited, c.Lost, c.Done]


def test_a_released_job_that_a_node_still_holds_is_released_again() -> None:
    head = HeadRig(2)
    head.attach(0)
    head.attach(1)
    head.client()
    job = head.spawn("n[0-1]")
    head.report(0, job, [0, 100], [0, 0, 0, 0])
    head.report(1, job, [1, 200], [1, 0, 0, 0])
    head.close(1)
    head.ask(c.ClientRelease(job))
    head.wait(250, ReleaseDue())
    assert [nodes for nodes, _ in head.commands(m.Release)] == ["n0"]
    head.looked()
    head.attach(1, [held(job, exited=[1, 0, 0, 0])])
    assert head.commands(m.Release) == [("n1", m.Release(job))]


def test_a_forgotten_job_that_a_node_still_holds_is_released() -> None:
    head = HeadRig(1, max_finished_jobs=1)
    head.attach(0)
    head.client()
    for number in range(3):
        job = head.spawn("n0", request=number)
        head.report(0, job, [0, 100], [0, 0, 0, 0])
        head.ask(c.ClientRelease(job))
    head.wait(250, ReleaseDue())
    assert list(head.machine.jobs.jobs) == ["1.3"]
    head.looked()
    head.attach(0, [held("1.1", exited=[0, 0, 0, 0])])
    assert head.commands(m.Release) == [("n0", m.Release("1.1"))]


def test_input_that_a_node_has_not_taken_is_sent_again_when_it_is_back() -> None:
    head = HeadRig(2)
    head.attach(0)
    head.attach(1)
    head.client()
    job = head.spawn("n[0-1]")
    head.ask(c.ClientStdin(job, -1, 0, b"first", False))
    head.ask(c.ClientStdin(job, 1, 0, b"own", True))
    head.up(1, m.StdinAck(job, 2))
    head.close(1)
    head.looked()
    head.attach(1, [held(job, running=[1, 200], stdin_offset=2)])
    again = [command for nodes, command in head.commands(m.Stdin) if nodes == "n1"]
    assert [(command.ranks, command.offset, command.data, command.end) for command in again] == [
        (None, 2, b"rst", False),
        ([1], 0, b"own", False),
        ([1], 3, b"", True),
    ]


def test_a_rank_that_is_over_holds_nobody_up_who_waits_for_input_to_be_taken() -> None:
    head = HeadRig(2)
    head.attach(0)
    head.attach(1)
    head.client()
    job = head.spawn("n[0-1]")
    head.ask(c.ClientStdin(job, -1, 0, b"data", False))
    head.up(0, m.StdinAck(job, 4))
    head.looked()
    head.report(1, job, failed=[m.Failure(1, 1, 2, "cannot execute prog")])
    assert c.ClientStdinAck(job, -1, 4, False) in head.told()


def test_a_report_by_the_way_that_a_node_has_left_counts_for_nothing() -> None:
    head = HeadRig(3, fanout=2)
    head.attach(0)
    head.attach(1)
    head.attach(2, below=[0])
    head.client()
    job = head.spawn("n2")
    head.looked()
    head.give(Received(head.links[1], m.Report(job, [2, 0, 300], [], [])))
    assert head.told() == []
    with pytest.raises(ProtocolError):
        head.give(Received(head.links[0], m.Report(job, [0, 0, 300], [], [])))


def test_a_signal_says_which_nodes_it_could_not_reach() -> None:
    head = HeadRig(2, epoch=2)
    launch = seal_ticket(sign, ticket("1.1", [0, 2]))
    head.attach(0, [held("1.1", running=[0, 100])])
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    head.client()
    head.ask(c.Signal(1, "1.1", None, None, 15))
    assert not head.commands(m.Query), "n1 may be back in a moment"
    head.wait(5_000, SettleDue())
    (query,) = [query for _, query in head.commands(m.Query)]
    head.looked()
    head.up(0, m.Reply(query.id, 1, []))
    assert head.told() == [c.Signalled(1, 1, [1])]


# ------------------------------------------------------------------ jobs of an earlier head


def adopted_head(nodes: int) -> tuple[HeadRig, m.Launch]:
    """Return a head of epoch 2, and the launch of job 1.1 with a rank on each node."""
    return HeadRig(nodes, epoch=2), seal_ticket(sign, ticket("1.1", [0, nodes]))


def test_a_new_head_takes_over_a_job_from_what_its_nodes_hold() -> None:
    head, launch = adopted_head(2)
    head.attach(0, [held("1.1", running=[0, 100])])
    assert head.commands(m.FetchLaunch) == [("n0", m.FetchLaunch("1.1"))]
    head.attach(1, [held("1.1", exited=[1, 0, 3, 0])])
    assert len(head.commands(m.FetchLaunch)) == 1
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    job = head.machine.jobs.jobs["1.1"]
    assert (job.state, job.running, job.over, job.attended) == ("running", 1, 1, False)
    assert ("n0", m.Attend("1.1", False)) in head.commands(m.Attend)


def test_another_node_is_asked_if_the_first_one_goes() -> None:
    head, launch = adopted_head(2)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.attach(1, [held("1.1", running=[1, 200])])
    head.up(0, m.SpaceGone(7))
    assert [nodes for nodes, _ in head.commands(m.FetchLaunch)] == ["n0", "n1"]
    head.up(1, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    assert head.machine.jobs.jobs["1.1"].running == 1


def test_a_node_without_the_launch_does_not_take_the_job_from_the_others() -> None:
    head, launch = adopted_head(2)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.attach(1, [held("1.1", running=[1, 200])])
    head.up(0, m.LaunchCopy("1.1", b"", b""))
    assert [nodes for nodes, _ in head.commands(m.FetchLaunch)] == ["n0", "n1"]
    head.up(1, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    assert "1.1" in head.machine.jobs.jobs


def test_what_a_node_reports_while_the_launch_is_fetched_is_asked_for_again() -> None:
    head, launch = adopted_head(1)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.report(0, "1.1", [], [0, 0, 0, 0])
    head.looked()
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    assert [command.job for _, command in head.commands(m.Launch)] == ["1.1"]
    head.report(0, "1.1", [0, 100], [0, 0, 0, 0])
    assert head.machine.jobs.jobs["1.1"].done


def test_a_launch_that_one_head_began_the_next_one_completes() -> None:
    head, launch = adopted_head(2)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.attach(1, after="1.0")
    head.looked()
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    ((nodes, again),) = head.commands(m.Launch)
    assert nodes == "n1"
    assert open_launch(verify, again, cluster="test", wall_ms=0).epoch == 2


def test_a_node_that_was_restarted_after_the_launch_gets_it_from_no_later_head() -> None:
    head, launch = adopted_head(2)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.attach(1, after="1.1")
    head.looked()
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    assert head.commands(m.Launch) == []
    assert head.machine.jobs.jobs["1.1"].over == 1


def test_nodes_that_do_not_come_back_after_a_change_of_heads_are_not_waited_for_forever() -> None:
    head, launch = adopted_head(2)
    head.attach(0, [held("1.1", exited=[0, 0, 0, 0])])
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    assert not head.machine.jobs.jobs["1.1"].done
    head.wait(60_000, MissingDue(1))
    assert head.machine.jobs.jobs["1.1"].done


def test_a_job_that_one_node_has_released_already_is_released_everywhere() -> None:
    head, launch = adopted_head(2)
    head.attach(0, [held("1.1", exited=[0, 0, 0, 0])])
    head.attach(1, after="1.0")
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    head.looked()
    head.report(1, "1.1", failed=[m.Failure(1, 1, ESTALE, "released already")])
    head.wait(250, ReleaseDue())
    assert [nodes for nodes, _ in head.commands(m.Release)] == ["n0", "n1"]


def test_a_job_of_an_earlier_head_that_was_forgotten_does_not_come_back() -> None:
    head = HeadRig(1, epoch=2, max_finished_jobs=0)
    launch = seal_ticket(sign, ticket("1.1", [0, 1]))
    head.attach(0, [held("1.1", running=[0, 100])])
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    head.close(0)
    head.wait(5_000, GraceDue(0))
    head.client()
    head.ask(c.AttachJob(1, "1.1", True))
    head.ask(c.ClientRelease("1.1"))
    head.wait(250, ReleaseDue())
    assert head.machine.jobs.jobs == {}
    head.looked()
    head.attach(0, [held("1.1", running=[0, 100])])
    assert head.commands(m.Release) == [("n0", m.Release("1.1"))]


def test_a_reader_of_a_job_that_was_taken_over_goes_on_with_its_input_where_the_slowest_node_stands() -> None:
    head, launch = adopted_head(2)
    head.attach(0, [held("1.1", running=[0, 100], stdin_offset=2_000_000)])
    head.attach(1, [held("1.1", running=[1, 200], stdin_offset=1_500_000)])
    head.up(0, m.LaunchCopy("1.1", launch.ticket, launch.signature))
    head.client()
    head.ask(c.AttachJob(1, "1.1", True))
    assert c.ClientStdinAck("1.1", -1, 1_500_000, False) in head.told()
    head.looked()
    head.ask(c.ClientStdin("1.1", -1, 1_500_000, b"more", False))
    assert {command.offset for _, command in head.commands(m.Stdin)} == {1_500_000}


def test_a_forged_launch_is_not_taken_over() -> None:
    head, launch = adopted_head(1)
    head.attach(0, [held("1.1", running=[0, 100])])
    head.up(0, m.LaunchCopy("1.1", launch.ticket, b"forged"))
    assert head.machine.jobs.jobs == {}


def test_no_two_heads_number_their_questions_alike() -> None:
    numbers = []
    for epoch in (1, 2):
        head = HeadRig(1, epoch=epoch)
        head.attach(0)
        head.client()
        head.spawn("n0")
        head.ask(c.ListProcesses(5, "", None))
        head.leave()
        numbers.append({query.id for _, query in head.commands(m.Query)})
    assert not numbers[0] & numbers[1]


def test_a_new_size_replaces_an_older_one_of_the_same_job_that_waits() -> None:
    head = HeadRig(2)
    head.attach(0)
    head.attach(1)
    head.client()
    job = head.spawn("0,1")
    head.looked()
    head.ask(c.ClientResize(job, 24, 80))
    assert [nodes for nodes, _ in head.commands(m.Resize)] == ["n0", "n1"]
    assert {item.newest_of for item in head.sent if isinstance(item, Send)} == {job}
    head.looked()
    head.ask(c.ClientStdin(job, -1, 0, b"data", False))
    assert {item.newest_of for item in head.sent if isinstance(item, Send)} == {""}
