"""The words for what is wanted of nodes, and which of two wishes is the newer one."""

from __future__ import annotations

import itertools

import pytest

from heorot.core.wire.wishes import MEANINGS, NodeWish, complaint, newest, shown_state


@pytest.mark.parametrize("state", [*MEANINGS, "being-mended", "x", "A1_b.c-d", "abcdefghijklmno"])
def test_these_may_be_wanted(state: str) -> None:
    assert complaint(state, "a reason, maybe in Ålesund") == ""


@pytest.mark.parametrize(
    "state",
    [
        "down", "boot", "unknown", "abcdefghijklmnop", "", "1a", "a b", "a+b", "a,b", "a!", "ä", "n7", "n7a", "all",
        "allup", "not", "notup", "master", "self", "localhost", "a\n", "-a",
    ],
)  # fmt: skip
def test_and_these_may_not(state: str) -> None:
    assert complaint(state, "") != ""


@pytest.mark.parametrize("reason", ["x" * 256, "a\nb", "\x1b]0;x\x07", "a\u202eb", "\ud800"])
def test_a_reason_is_one_short_line(reason: str) -> None:
    assert "reason" in complaint("drain", reason)


def test_what_is_shown_is_made_of_the_fact_and_the_wish() -> None:
    facts, wishes = ("up", "boot", "down", "unknown"), ("", "drain")
    assert [shown_state(*both) for both in itertools.product(facts, wishes)] == [
        "up", "drain", "boot", "boot+drain", "down", "down+drain", "unknown", "unknown+drain",
    ]  # fmt: skip


def test_the_newer_of_two_wishes_has_the_higher_epoch_and_then_the_higher_number() -> None:
    wishes = [NodeWish(0, 1, 9), NodeWish(0, 2, 1, "drain"), NodeWish(0, 2, 2), NodeWish(0, 2, 2, "error")]
    for ours, theirs in itertools.product(wishes, wishes):
        assert newest(ours, theirs) == newest(theirs, ours)
        assert newest(ours, theirs).version == max(ours.version, theirs.version)
