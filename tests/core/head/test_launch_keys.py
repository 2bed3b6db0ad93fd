"""What a head remembers of launches whose jobs are on its list no more."""

from __future__ import annotations

from heorot.core.head.job import HeadJob
from heorot.core.head.launch_keys import LaunchKeys
from heorot.core.head.rank_places import RankPlaces
from heorot.core.head.releases import MAX_FORGOTTEN
from heorot.core.head.timers import SettleDue
from heorot.core.tickets import seal_ticket
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.rigs import held, sign, ticket
from tests.core.successors import KEY, answers, hand_over, launch_up, new_head

ALICE, BOB = 1000, 1001


def drop(keys: LaunchKeys, uid: int, number: int) -> None:
    """Let a job that nobody has collected leave the list."""
    job = HeadJob(ticket(f"1.{number}", [0, 1], uid=uid, key=b"%d" % number), RankPlaces([0, 1]), True, 0)
    keys.remember(job)
    keys.drop(job)


def test_one_user_does_not_have_the_launches_of_others_forgotten() -> None:
    keys = LaunchKeys()
    drop(keys, ALICE, 1)
    for number in range(2, MAX_FORGOTTEN + 100):
        drop(keys, BOB, number)
    assert keys.dropped(ALICE, b"1") == "1.1"
    assert keys.dropped(BOB, b"2") == ""
    assert keys.dropped(BOB, b"%d" % (MAX_FORGOTTEN + 99)) == f"1.{MAX_FORGOTTEN + 99}"


def test_what_comes_back_and_goes_again_is_counted_once() -> None:
    keys = LaunchKeys()
    for _ in range(MAX_FORGOTTEN + 1):
        drop(keys, BOB, 1)
    drop(keys, BOB, 2)
    assert keys.dropped(BOB, b"1") == "1.1"


def test_a_launch_that_was_made_again_is_known_when_it_is_over_collected_and_off_the_list() -> None:
    head = new_head(2, max_finished_jobs=0)
    head.ask(launch_up(again=True))
    head.attach(0)
    head.wait(5_000, SettleDue())
    (spawned,) = answers(head)
    head.report(0, spawned.job, [0, 100], [0, 0, 0, 0])
    head.ask(c.ClientRelease(spawned.job))
    assert not head.machine.jobs.jobs
    # A node that was silent all the while has it from the former head.
    launch = seal_ticket(sign, ticket("1.1", [0, 2], key=KEY, uid=0))
    head.attach(1, [held("1.1", running=[1, 100])])
    head.looked()
    hand_over(head, 1, launch)
    assert head.commands(m.Release) == [("n1", m.Release("1.1"))]
    assert not head.commands(m.Launch), "the other ranks have run already"
