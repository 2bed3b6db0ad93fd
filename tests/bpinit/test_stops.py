"""Real processes that stop and go on: what bpinit tells of ranks, and what it leaves unsaid of others."""

from __future__ import annotations

import signal

from heorot.core.wire import tree as m
from heorot.core.wire.reports import STOP_NUMBERS
from tests.bpinit.space_rig import NODE, Agent, SpaceRig

FLIPS = 300


def stands(agent: Agent, job: str) -> dict[int, list[int]]:
    """Return by rank how it stands, as was told last: changes, signal, and what was written."""
    found: dict[int, list[int]] = {}
    for report in agent.reports(job):
        for index in range(0, len(report.stops), STOP_NUMBERS):
            node, rank, *rest = report.stops[index : index + STOP_NUMBERS]
            assert node == NODE
            assert rank not in found or found[rank][0] < rest[0], "an older word after a newer one"
            found[rank] = rest
    return found


def signal_rank(agent: Agent, job: str, rank: int, number: int, query: int) -> None:
    """Send a signal to a rank."""
    assert agent.ask(m.Query(query, job, [rank], None, number, False)).matched == 1


def test_a_rank_that_stops_itself_is_told_of_and_goes_on_with_a_signal(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", b"echo before; kill -TSTP $$; kill -STOP $$; echo after", ranks=2))
    agent.until(lambda: len(stands(agent, "1.1")) == 2, "both ranks to stop")
    # No shell with job control is their parent: SIGTSTP stops nobody who is alone in a session.
    assert stands(agent, "1.1") == {rank: [1, signal.SIGSTOP, 7, 0] for rank in (0, 1)}
    signal_rank(agent, "1.1", 1, signal.SIGCONT, 1)
    agent.until(lambda: 1 in agent.exited("1.1"), "the end of rank 1")
    assert stands(agent, "1.1")[0] == [1, signal.SIGSTOP, 7, 0]
    signal_rank(agent, "1.1", 0, signal.SIGCONT, 2)
    assert agent.wait_over("1.1") == {0: 0, 1: 0}
    assert bytes(agent.output["1.1", 0, 1]) == b"before\nafter\n"


def test_going_on_is_told_and_a_stopped_rank_can_be_killed(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sleep", b"1000"))
    agent.wait_started("1.1")
    signal_rank(agent, "1.1", 0, signal.SIGSTOP, 1)
    agent.until(lambda: stands(agent, "1.1").get(0, [0])[0] == 1, "the rank to stop")
    signal_rank(agent, "1.1", 0, signal.SIGCONT, 2)
    agent.until(lambda: stands(agent, "1.1")[0][0] == 2, "the rank to go on")
    assert stands(agent, "1.1")[0][1] == 0
    signal_rank(agent, "1.1", 0, signal.SIGSTOP, 3)
    agent.until(lambda: stands(agent, "1.1")[0][0] == 3, "the rank to stop again")
    signal_rank(agent, "1.1", 0, signal.SIGKILL, 4)
    assert agent.wait_over("1.1") == {0: signal.SIGKILL}


def test_a_new_agent_is_given_how_ranks_stand(rig: SpaceRig) -> None:
    first = rig.agent()
    first.send(rig.launch("1.1", b"sh", b"-c", b"kill -STOP $$"))
    first.until(lambda: stands(first, "1.1"), "the rank to stop")
    second = rig.agent()
    second.send(m.Inventorize())
    inventory = second.until(lambda: [each for each in second.answers if isinstance(each, m.Inventory)], "a snapshot")
    assert inventory[0].jobs[0].stops == [0, 1, signal.SIGSTOP, 0, 0]
    signal_rank(second, "1.1", 0, signal.SIGCONT, 1)
    assert second.wait_over("1.1") == {0: 0}


def test_of_one_that_is_stopped_and_continued_without_end_the_last_is_told(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sleep", b"1000"))
    pid = agent.wait_started("1.1")[0]
    script = f"i=0; while [ $i -lt {FLIPS} ]; do kill -STOP {pid}; kill -CONT {pid}; i=$((i+1)); done; kill -STOP {pid}"
    agent.send(rig.launch("1.2", b"sh", b"-c", script.encode()))
    assert agent.wait_over("1.2") == {0: 0}
    agent.until(lambda: stands(agent, "1.1").get(0, [0])[0] % 2 == 1, "the rank to be told of as stopped")
    agent.settle()
    assert stands(agent, "1.1")[0][:2] == [stands(agent, "1.1")[0][0], signal.SIGSTOP]
    assert stands(agent, "1.1")[0][0] <= 2 * FLIPS + 1
    assert len([report for report in agent.reports("1.1") if report.stops]) < FLIPS // 2
    signal_rank(agent, "1.1", 0, signal.SIGKILL, 1)
    agent.wait_over("1.1")


def test_what_a_rank_has_started_may_stop_as_it_likes_and_is_not_taken_for_ended(rig: SpaceRig, agent: Agent) -> None:
    # The orphan is a child of bpinit's then, and stops as one.
    script = b"(sh -c 'echo here; kill -STOP $$; echo there' &); (exit 3); exec sleep 1000"
    agent.send(rig.launch("1.1", b"sh", b"-c", script))
    agent.until(lambda: bytes(agent.output.get(("1.1", 0, 1), b"")) == b"here\n", "the orphan to speak")

    def stopped() -> list[int]:
        rows = agent.ask(m.Query(7 + len(agent.answers), "1.1", None, None, 0, True)).processes
        return [row.pid for row in rows if row.state == "T"]

    (orphan,) = agent.until(stopped, "the orphan to stop")
    assert agent.ask(m.Query(5, None, None, [orphan], signal.SIGCONT, False)).matched == 1
    agent.until(lambda: bytes(agent.output["1.1", 0, 1]) == b"here\nthere\n", "the orphan to go on")
    assert stands(agent, "1.1") == {}
    signal_rank(agent, "1.1", 0, signal.SIGKILL, 6)
    assert agent.wait_over("1.1") == {0: signal.SIGKILL}
