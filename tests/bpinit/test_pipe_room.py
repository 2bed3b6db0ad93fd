"""Pipes are made larger only by who is exempt from the limits of a user, and only some at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fcntl import F_GETPIPE_SZ, F_SETPIPE_SZ, fcntl

import pytest

from heorot.bpinit import pipe_room
from heorot.bpinit.pipe_room import KEPT_PIPES, MAX_LARGE_PIPES, PIPE_BYTES, PipeRoom

USUAL_BYTES = 64 * 1024
ALICE, BOB = 1000, 1001


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """The ends to read from of three pipes more than may be large."""
    ends = [os.pipe2(os.O_CLOEXEC) for _ in range(MAX_LARGE_PIPES + 3)]
    for reader, _ in ends:
        fcntl(reader, F_SETPIPE_SZ, USUAL_BYTES)
    yield [reader for reader, _ in ends]
    for reader, writer in ends:
        os.close(reader)
        os.close(writer)


def sizes(pipes: list[int]) -> list[int]:
    return [fcntl(pipe, F_GETPIPE_SZ) for pipe in pipes]


def test_so_many_are_large_at_a_time(pipes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe_room, "_is_exempt", lambda: True)
    room = PipeRoom()
    for pipe in pipes:
        room.enlarge(pipe, 0)
    assert sizes(pipes) == [PIPE_BYTES] * MAX_LARGE_PIPES + [USUAL_BYTES] * 3
    assert [pipe in room for pipe in pipes] == [True] * MAX_LARGE_PIPES + [False] * 3
    room.closed(pipes[0])
    room.enlarge(pipes[-1], 0)
    assert sizes(pipes[-2:]) == [USUAL_BYTES, PIPE_BYTES]


def test_a_user_has_no_more_large_ones_than_are_left_for_others(
    pipes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipe_room, "_is_exempt", lambda: True)
    room = PipeRoom()
    held = []
    for uid in (ALICE, BOB, 0):
        mine = [pipe for pipe in pipes if pipe not in room]
        for pipe in mine:
            room.enlarge(pipe, uid)
        held.append(sum(pipe in room for pipe in mine))
    assert held[0] == (MAX_LARGE_PIPES - KEPT_PIPES) // 2
    assert held[1] > held[0] // 2
    assert held[2] >= KEPT_PIPES
    assert sum(held) == MAX_LARGE_PIPES
    for pipe in pipes:
        room.closed(pipe)
    room.enlarge(pipes[0], BOB)
    assert pipes[0] in room


def test_who_is_not_exempt_leaves_them_as_they_are(pipes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe_room, "_is_exempt", lambda: False)
    room = PipeRoom()
    room.enlarge(pipes[0], 0)
    assert sizes(pipes[:1]) == [USUAL_BYTES]
    assert pipes[0] not in room


def test_what_is_no_pipe_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe_room, "_is_exempt", lambda: True)
    room = PipeRoom()
    with open("/dev/null", "rb") as file:
        room.enlarge(file.fileno(), 0)
        assert file.fileno() not in room


def test_another_user_is_not_exempt() -> None:
    child = os.fork()
    if not child:
        try:
            if os.getuid() == 0:
                os.setresuid(65534, 65534, 65534)
            os._exit(10 + pipe_room._is_exempt())
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10
