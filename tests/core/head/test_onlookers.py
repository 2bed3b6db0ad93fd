"""Onlookers are shown what the reader is given as far as they take it, told what they miss, and never waited for."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.head.onlookers import WINDOW_BYTES
from heorot.core.machine import ClientOpened, FromClient
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig

READER, ONLOOKER, STRANGER = 1, 2, 3


@pytest.fixture
def head() -> HeadRig:
    """A head with n0, a reader, and somebody who may look on."""
    rig = HeadRig(1)
    rig.attach(0)
    rig.client(READER)
    rig.client(ONLOOKER)
    return rig


def write(head: HeadRig, job: str, offset: int, size: int) -> None:
    head.up(0, m.Output(job, 0, 1, offset, bytes(size)))


def shown(head: HeadRig) -> list[tuple[int, int, int]]:
    """Return offset, length and missed bytes of what the onlooker was shown."""
    told = [told for told in head.told(ONLOOKER) if isinstance(told, c.Shown)]
    return [(told.offset, len(told.data), told.missed_bytes) for told in told]


def look_on(head: HeadRig, job: str, client: int = ONLOOKER, request: int = 7) -> list[Any]:
    head.looked()
    head.ask(c.LookOn(request, job), client)
    return head.told(client)


def test_it_is_shown_what_comes_from_now_on_and_the_reader_is_told_as_ever(head: HeadRig) -> None:
    job = head.spawn("n0")
    write(head, job, 0, 10)
    assert look_on(head, job) == []
    write(head, job, 10, 5)
    assert shown(head) == [(10, 5, 0)]
    assert [told.offset for told in head.told(READER)] == [10]
    # Nodes hear nothing of it.
    assert head.commands() == []


def test_who_takes_nothing_misses_the_rest_and_is_told_how_much(head: HeadRig) -> None:
    job = head.spawn("n0")
    look_on(head, job)
    half = WINDOW_BYTES // 2
    for number in range(5):
        write(head, job, number * half, half)
    assert shown(head) == [(0, half, 0), (half, half, 0)]
    assert len([told for told in head.told(READER) if isinstance(told, c.ClientOutput)]) == 5
    head.looked()
    head.ask(c.LookTook(7, half), ONLOOKER)
    write(head, job, 5 * half, half)
    assert shown(head) == [(5 * half, half, 3 * half)]


def test_the_end_is_told_with_what_was_missed_last(head: HeadRig) -> None:
    job = head.spawn("n0")
    look_on(head, job)
    write(head, job, 0, WINDOW_BYTES)
    write(head, job, WINDOW_BYTES, 9)
    head.looked()
    head.report(0, job, started=[0, 100], exited=[0, 256, WINDOW_BYTES + 9, 0])
    assert head.told(ONLOOKER) == [], "what was written last may still come to the reader"
    head.ask(c.ClientRelease(job), READER)
    *_, last, answer = head.told(ONLOOKER)
    assert (last.data, last.missed_bytes) == (b"", 9)
    assert (answer.request, answer.value.state, answer.value.statuses["0"].code) == (7, "done", 1)


def test_a_job_that_is_over_is_answered_at_once(head: HeadRig) -> None:
    job = head.spawn("n0")
    head.report(0, job, started=[0, 100], exited=[0, 0, 0, 0])
    head.ask(c.ClientRelease(job), READER)
    (answer,) = look_on(head, job)
    assert answer.value.state == "done"


def test_a_reader_that_goes_leaves_nothing_to_be_seen(head: HeadRig) -> None:
    job = head.spawn("n0")
    look_on(head, job)
    head.report(0, job, started=[0, 100], exited=[0, 0, 5, 0])
    head.leave(READER)
    (answer,) = head.told(ONLOOKER)
    assert answer.value.state == "done"


def test_nobody_looks_at_the_jobs_of_others_but_root(head: HeadRig) -> None:
    job = head.spawn("n0")
    head.give(ClientOpened(STRANGER, "eve", 1001, 1001, ()))
    head.give(FromClient(STRANGER, c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test")))
    (error,) = look_on(head, job, STRANGER)
    assert error.code == "not-permitted"


def test_one_that_nobody_reads_is_said_to_show_nothing(head: HeadRig) -> None:
    job = head.spawn("n0", detached=True)
    (notice,) = look_on(head, job)
    assert "nobody reads job" in notice.text


def test_who_is_gone_is_forgotten_and_a_request_is_used_once(head: HeadRig) -> None:
    job = head.spawn("n0")
    look_on(head, job)
    (error,) = look_on(head, job)
    assert error.code == "bad-request"
    head.leave(ONLOOKER)
    write(head, job, 0, 5)
    assert shown(head) == []
    onlookers = head.machine.jobs.onlookers
    assert (onlookers._by_job, onlookers._held.held) == ({}, {})


def test_what_nobody_is_shown_is_not_taken(head: HeadRig) -> None:
    head.ask(c.LookTook(99, 5), ONLOOKER)
    assert head.told(ONLOOKER) == []


def test_a_limit_is_a_limit(head: HeadRig) -> None:
    small = HeadRig(1, max_watches=1)
    small.attach(0)
    small.client(READER)
    small.client(ONLOOKER)
    job = small.spawn("n0")
    look_on(small, job)
    (error,) = look_on(small, job, request=8)
    assert error.code == "busy"
