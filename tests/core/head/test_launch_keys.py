"""What a head remembers of launches whose jobs are on its list no more."""

from __future__ import annotations

from heorot.core.head.job import HeadJob
from heorot.core.head.launch_keys import LaunchKeys
from heorot.core.head.rank_places import RankPlaces
from heorot.core.head.releases import MAX_FORGOTTEN
from tests.core.rigs import ticket

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
