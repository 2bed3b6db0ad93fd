"""PMI in the process space's machine: ranks are answered, nodes speak up, and a job ends as a whole."""

from __future__ import annotations

from typing import Any

from heorot.core.space import events as e
from heorot.core.space.pmi import OWN_BYTES
from heorot.core.wire import tree as m
from tests.core.space.test_machine import NODE, Driver, launch, sent

INIT = b"cmd=init pmi_version=1 pmi_subversion=1\n"
RUNS = [NODE, 1, NODE, 1, NODE + 1, 1]
"""Two ranks here, and one elsewhere."""


def running(driver: Driver, job: str = "1.1", **fields: Any) -> list[int]:
    """Launch a job of MPI, and let its ranks run and say ``init``; return their slots."""
    slots = driver.launch(job, pmi=True, **{"runs": RUNS, **fields})
    for number, slot in enumerate(slots):
        driver.give(e.ProcessStarted(slot, 500 + number))
        driver.give(e.PmiSaid(slot, INIT))
    driver.wanted.clear()
    return slots


def answers(driver: Driver, slot: int) -> bytes:
    """Return what a rank was told."""
    return b"".join(item.data for item in driver.wanted if isinstance(item, e.PmiAnswer) and item.slot == slot)


def destroyed(driver: Driver) -> list[int]:
    """Return the slots that are to be destroyed."""
    return [slot for item in driver.wanted if isinstance(item, e.Destroy) for slot in item.slots]


def test_a_node_speaks_up_when_all_of_its_ranks_wait() -> None:
    driver = Driver()
    first, second = running(driver)
    driver.give(e.PmiSaid(first, b"cmd=put kvsname=heorot_1.1 key=a value=1\ncmd=barrier_in\n"))
    assert sent(driver.wanted, m.Gathered) == []
    driver.give(e.PmiSaid(second, b"cmd=barrier_in\n"))
    assert sent(driver.wanted, m.Gathered) == [m.Gathered("1.1", 0, [NODE, NODE], [b"a", b"1"])]
    driver.wanted.clear()
    driver.command(m.Scattered("1.1", 0, 0, 1, [b"a", b"1", b"z", b"9"]))
    assert answers(driver, first) == answers(driver, second) == b"cmd=barrier_out rc=0\n"
    driver.give(e.PmiSaid(first, b"cmd=get kvsname=heorot_1.1 key=z\n"))
    assert answers(driver, first).endswith(b"value=9\n")


def test_a_question_is_answered_aside_and_only_to_ranks_of_mpi() -> None:
    driver = Driver()
    first, _ = running(driver)
    (plain,) = driver.launch("1.2")
    question = b"cmd=get_my_kvsname\n"
    assert driver.space.pmi.answer_aside(first, question) == b"cmd=my_kvsname rc=0 kvsname=heorot_1.1\n"
    assert driver.space.pmi.answer_aside(plain, question) == b""
    assert driver.space.pmi.answer_aside(max(first, plain) + 100, question) == b""
    driver.command(m.Release("1.1"))
    assert driver.space.pmi.answer_aside(first, question) == b""


def test_the_mapping_is_that_of_the_ticket() -> None:
    driver = Driver()
    first, _ = running(driver)
    driver.give(e.PmiSaid(first, b"cmd=get kvsname=heorot_1.1 key=PMI_process_mapping\n"))
    assert answers(driver, first).endswith(b"value=(vector,(0,1,2),(1,1,1))\n")


def test_the_inventory_says_how_far_it_is_and_a_new_agent_hears_nothing_before() -> None:
    driver = Driver()
    slots = running(driver)
    for slot in slots:
        driver.give(e.PmiSaid(slot, b"cmd=put key=%d value=x\ncmd=barrier_in\n" % slot))
    driver.command(m.Scattered("1.1", 0, 0, 1, []))
    driver.give(e.AgentLost())
    driver.give(e.AgentConnected())
    driver.wanted.clear()
    for slot in slots:
        driver.give(e.PmiSaid(slot, b"cmd=put key=next-%d value=x\ncmd=barrier_in\n" % slot))
    assert sent(driver.wanted, m.Gathered) == []
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    entries = [item for slot in slots for item in (b"next-%d" % slot, b"x")]
    former = [item for slot in slots for item in (b"%d" % slot, b"x")]
    assert inventory.jobs[0].collective == m.Collective(1, True, entries, former)


def test_a_repeated_launch_has_it_said_again() -> None:
    driver = Driver()
    slots = running(driver)
    for slot in slots:
        driver.give(e.PmiSaid(slot, b"cmd=barrier_in\n"))
    out = driver.command(launch("1.1", pmi=True, runs=RUNS))
    assert sent(out, m.Gathered) == [m.Gathered("1.1", 0, [NODE, NODE], [])]


def test_abort_ends_the_ranks_here_and_is_reported_at_once_and_to_each_new_head() -> None:
    driver = Driver()
    first, second = running(driver)
    driver.give(e.PmiSaid(first, b"cmd=abort exitcode=7\n"))
    assert sorted(destroyed(driver)) == [first, second]
    (report,) = sent(driver.advance(0), m.Report)
    abort = m.Failure(NODE, 0, 7, f"rank 0 on n{NODE} called MPI_Abort with 7")
    assert report.aborts == [abort]
    driver.end(first, 7 << 8)
    driver.end(second, 9)
    assert [report.aborts for report in sent(driver.advance(1000), m.Report)] == [[]]
    (inventory,) = sent(driver.command(m.Inventorize()), m.Inventory)
    assert inventory.jobs[0].aborts == [abort]
    driver.command(launch("1.1", pmi=True, runs=RUNS))
    assert sent(driver.advance(0), m.Report)[0].aborts == [abort]


def test_a_rank_that_is_killed_ends_the_others() -> None:
    driver = Driver()
    first, second = running(driver)
    driver.give(e.ProcessExited(first, 11, True))
    assert second in destroyed(driver)
    (report,) = sent(driver.advance(0), m.Report)
    assert report.aborts == [m.Failure(NODE, 0, 139, f"rank 0 on n{NODE} was killed by signal 11 before MPI_Finalize")]


def test_a_rank_that_cannot_be_started_leaves_nobody_waiting() -> None:
    driver = Driver()
    first, second = driver.launch(pmi=True, runs=RUNS)
    driver.give(e.ProcessStarted(first, 500))
    driver.give(e.StartFailed(second, 2, "no such file"))
    driver.give(e.PmiSaid(first, INIT + b"cmd=barrier_in\n"))
    assert destroyed(driver) == [first]


def test_nonsense_closes_the_connection_of_that_rank() -> None:
    driver = Driver()
    first, _ = running(driver)
    driver.give(e.PmiSaid(first, b"GET / HTTP/1.1\r\n"))
    assert [item for item in driver.wanted if isinstance(item, e.PmiClose)] == [e.PmiClose(first)]
    assert answers(driver, first).startswith(b"cmd=error rc=-1")
    assert destroyed(driver) == []


def test_what_is_said_of_no_rank_or_of_a_job_without_pmi_is_nothing() -> None:
    driver = Driver()
    (slot,) = driver.launch()
    driver.give(e.ProcessStarted(slot, 500))
    driver.wanted.clear()
    driver.give(e.PmiSaid(slot, INIT))
    driver.give(e.PmiSaid(99, INIT))
    driver.command(m.Scattered("1.1", 0, 0, 1, []))
    driver.command(m.Scattered("1.9", 0, 0, 1, []))
    assert driver.wanted == []


def test_one_user_leaves_room_for_what_others_put_and_gives_it_back() -> None:
    driver = Driver()
    jobs = [f"1.{number}" for number in range(1, 20)]
    refused = 0
    for job in jobs:
        first, _ = running(driver, job, uid=1000)
        for number in range(600):
            driver.give(e.PmiSaid(first, b"cmd=put key=%d value=%s\n" % (number, b"v" * 700)))
        refused += b"rc=-1" in answers(driver, first)
    assert refused
    assert driver.space.pmi.held_bytes <= OWN_BYTES // 2
    # Another one has as much as is left.
    first, _ = running(driver, "2.1", uid=1001)
    driver.give(e.PmiSaid(first, b"cmd=put key=a value=%s\n" % (b"v" * 700)))
    assert answers(driver, first) == b"cmd=put_result rc=0\n"
    for job in (*jobs, "2.1"):
        driver.command(m.Release(job))
    assert driver.space.pmi.held_bytes == 0
