"""In which order ranks that wait are started."""

from __future__ import annotations

import msgspec

from heorot.bpinit.plan import Plan
from heorot.bpinit.start_queue import StartQueue
from heorot.core.space.events import SpaceConfig
from heorot.core.wire import tree as m
from tests.bpinit.space_rig import launch

CONFIG = SpaceConfig(node=0, base_pid=0, range_size=0, spool_dir="/")


def plan(job: str, uid: int) -> Plan:
    ticket = msgspec.msgpack.decode(launch(job, b"true", uid=uid).ticket, type=m.Ticket)
    return Plan(job, ticket, 1, 1, CONFIG)


def slots(count: int) -> list[tuple[int, int]]:
    return [(100 + number, number) for number in range(count)]


def drain(queue: StartQueue, most: int = 2) -> list[tuple[str, list[int], bool]]:
    taken = []
    while queue:
        whose, batch, last = queue.take(most)
        assert all(slot == 100 + rank for slot, rank in batch)
        taken.append((whose.job, [rank for _, rank in batch], last))
    return taken


def test_one_user_s_jobs_and_ranks_keep_their_order() -> None:
    queue = StartQueue(frozenset((0,)))
    queue.add(plan("1.1", 7), slots(3))
    queue.add(plan("1.2", 7), slots(1))
    queue.add(plan("1.3", 7), [])
    assert drain(queue) == [("1.1", [0, 1], False), ("1.1", [2], True), ("1.2", [0], True)]


def test_users_have_turns() -> None:
    queue = StartQueue(frozenset((0,)))
    for job, uid, count in (("1.1", 7, 5), ("1.2", 7, 1), ("1.3", 8, 3), ("1.4", 9, 1)):
        queue.add(plan(job, uid), slots(count))
    assert [job for job, _, _ in drain(queue)] == ["1.1", "1.3", "1.4", "1.1", "1.3", "1.1", "1.2"]


def test_root_has_every_second_turn() -> None:
    queue = StartQueue(frozenset((0,)))
    for job, uid, count in (("1.1", 7, 4), ("1.2", 8, 4), ("1.3", 0, 6)):
        queue.add(plan(job, uid), slots(count))
    assert [job for job, _, _ in drain(queue)] == ["1.3", "1.1", "1.3", "1.2", "1.3", "1.1", "1.2"]
    queue.add(plan("1.4", 7), slots(9))
    queue.take(2)
    queue.add(plan("1.5", 0), slots(1))
    assert queue.take(2)[0].job == "1.5"


def test_what_is_cancelled_is_gone() -> None:
    queue = StartQueue(frozenset((0,)))
    first, second, third = plan("1.1", 7), plan("1.2", 7), plan("1.3", 8)
    for each in (first, second, third):
        queue.add(each, slots(3))
    queue.take(2)
    queue.cancel(first)
    queue.cancel(third)
    queue.cancel(third)
    assert drain(queue, 8) == [("1.2", [0, 1, 2], True)]
    assert not queue
