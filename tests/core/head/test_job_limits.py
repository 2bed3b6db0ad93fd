"""How many jobs a head keeps and for whom there is room, as users see it."""

from __future__ import annotations

import pytest

from heorot.core.wire import clients as c
from tests.core.head.test_quotas import ALICE, BOB, OWNER, end, enter, launch
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig


def test_collected_jobs_are_forgotten_before_those_that_nobody_has_collected() -> None:
    head = HeadRig(1, max_finished_jobs=1)
    head.attach(0)
    head.client()
    kept = head.spawn("n0", detached=True)
    head.report(0, kept, [0, 100], [0, 0, 0, 0])
    collected = head.spawn("n0", request=2)
    head.report(0, collected, [0, 100], [0, 0, 0, 0])
    head.ask(c.ClientRelease(collected))
    assert list(head.machine.jobs.jobs) == [kept]


def test_short_jobs_of_one_user_do_not_push_out_what_another_has_not_collected() -> None:
    head = HeadRig(1, max_finished_jobs=8)
    head.attach(0)
    enter(head, 1, ALICE)
    enter(head, 2, BOB)
    precious = launch(head, 2)
    end(head, precious)
    for request in range(50):
        end(head, launch(head, 1, request))
    head.looked()
    head.ask(c.Wait(9, precious), 2)
    assert [type(message) for message in head.told(2)] == [c.Result]
    assert len(head.machine.jobs.jobs) <= 9


@pytest.mark.parametrize("uid", [0, OWNER])
def test_root_and_the_owner_may_use_what_is_left(uid: int) -> None:
    head = HeadRig(1, max_jobs=32, owner=OWNER)
    head.attach(0)
    enter(head, 1, ALICE)
    enter(head, 2, uid)
    assert [launch(head, 1, number) for number in range(16)][-1] == "too-many-jobs"
    assert [launch(head, 2, number) for number in range(18)][-2:] == ["1.32", "too-many-jobs"]


def test_what_ends_makes_room_again() -> None:
    head = HeadRig(1, max_jobs=32)
    head.attach(0)
    enter(head, 1, ALICE)
    jobs = [launch(head, 1, number) for number in range(15)]
    assert launch(head, 1) == "too-many-jobs"
    end(head, jobs[0])
    assert launch(head, 1) == "1.16"


def launch_large(head: HeadRig, client: int, environment: list[bytes]) -> str:
    """Launch a job with this environment; return its id, or the code of the refusal."""
    head.looked()
    head.ask(spawn_of(9, "n0", environment=environment, stdin=None, stdout=None, stderr=None, detached=True), client)
    answer = next((message for message in head.told(client) if isinstance(message, c.Spawned | c.Error)), None)
    if isinstance(answer, c.Error):
        return answer.code
    return answer.job if answer is not None else head.machine.jobs.latest


def test_commands_and_environments_are_shared_until_their_jobs_are_collected() -> None:
    head = HeadRig(1, max_launch_bytes=1 << 20)
    head.attach(0)
    enter(head, 1, ALICE)
    enter(head, 2, BOB)
    jobs = [launch(head, 1, number, key=bytes([number])) for number in range(4)]
    large = [b"x" * (200 << 10)]
    first = launch_large(head, 1, large)
    launch_large(head, 1, large)
    assert launch_large(head, 1, large) == "too-many-jobs"
    assert launch_large(head, 2, large) != "too-many-jobs"
    for job in (*jobs, first):
        end(head, job)
        head.ask(c.AttachJob(50, job, True), 1)
        head.ask(c.ClientRelease(job), 1)
    held = head.machine.jobs.limits.launch_bytes.held
    assert sorted(held) == [ALICE, BOB]
    assert all(200 << 10 < size_bytes < 201 << 10 for size_bytes in held.values())
    assert launch_large(head, 1, large) != "too-many-jobs"
