"""Refusals are told once in a while: the first at once, then how many there were, within a bound."""

from __future__ import annotations

import pytest

from heorot.runtime.loop import EpollLoop
from heorot.runtime.refusals import MAX_KINDS, WINDOW_S, Refusals
from tests.runtime.conftest import Clock


@pytest.fixture
def lines() -> list[str]:
    """What the log says: warnings alone."""
    return []


@pytest.fixture
def refusals(loop: EpollLoop, lines: list[str]) -> Refusals:
    """Those at one socket."""
    return Refusals(loop, lambda level, text: lines.append(text) if level == "warning" else None)


def test_the_first_is_told_and_the_others_are_counted(
    loop: EpollLoop, clock: Clock, refusals: Refusals, lines: list[str]
) -> None:
    for number in range(500):
        refusals.say("alice", "too many clients", f"refused client {number} of alice")
    refusals.say("bob", "too many clients", "refused client 1 of bob")
    assert lines == ["refused client 0 of alice", "refused client 1 of bob"]
    del lines[:]
    clock.skip(WINDOW_S + 1, loop)
    assert lines == ["refused 499 more of alice in 10 minutes: too many clients"]
    refusals.say("alice", "too many clients", "no news")
    refusals.say("bob", "too many clients", "news")
    assert lines[1:] == ["news"]


def test_whoever_was_quiet_is_forgotten(loop: EpollLoop, clock: Clock, refusals: Refusals, lines: list[str]) -> None:
    for _ in range(3):
        refusals.say("alice", "why", "refused")
        clock.skip(WINDOW_S + 1, loop)
        clock.skip(WINDOW_S + 1, loop)
    assert lines == ["refused"] * 3


def test_however_many_kinds_there_are_the_lines_are_bounded(
    loop: EpollLoop, clock: Clock, refusals: Refusals, lines: list[str]
) -> None:
    for again in range(2):
        for number in range(10_000):
            refusals.say(f"user {number}", "why", f"refused {again}")
    clock.skip(WINDOW_S + 1, loop)
    assert len(lines) == 2 * MAX_KINDS + 1
    assert lines[-1] == f"refused {2 * (10_000 - MAX_KINDS)} of still others in 10 minutes"
