"""Transcripts go as they are kept, can fail, and document failover: see `tests.transcripts.interpreter`."""

from __future__ import annotations

from pathlib import Path

import pytest

from heorot.sim.mutants.catalogue import mutator
from heorot.sim.world import Violation
from tests.transcripts.interpreter import Unexpected, play
from tests.transcripts.stories import STORIES, Story, path_of, tell

WRITTEN = sorted(Path(__file__).parent.glob("*.txt"))
PAGE = Path(__file__).parents[2] / "docs" / "failover.md"
LONGEST_LINES = 80
TELL_APART = {
    "answer-behind-a-wall": "head-gives-no-receipts",
    "client-hangs-up": "head-acknowledges-detached-launches-at-once",
    "client-lost-with-its-head": "space-gives-a-new-reader-nothing-again",
    "command-that-comes-late": "node-obeys-any-epoch",
    "deposed-head-that-nobody-tells": "head-tells-no-other-head",
    "head-lost-after-its-answer": "head-gives-no-receipts",
    "head-lost-before-its-answer": "keeper-keeps-the-lease-of-a-dead-head",
    "head-lost-between-copy-and-answer": "head-ignores-the-key",
    "headless-time-ends": "space-starts-again",
    "holder-flaps-in-an-adoption": "head-denies-early",
    "image-half-way": "node-starts-before-its-program-is-there",
    "input-goes-on": "space-takes-repeated-input-for-new",
    "launch": "head-never-rebalances",
    "link-flaps-in-a-launch": "head-launches-only-once",
    "node-away-beyond-its-grace": "head-lets-the-lost-live",
    "node-lost-with-its-head": "head-denies-early",
    "node-sleeps-through-a-takeover": "head-denies-early",
    "output-goes-on": "space-forgets-what-it-has-sent",
    "paused-head-wakes": "keeper-ignores-that-the-lease-is-gone",
    "relay-killed-in-a-launch": "head-never-rebalances",
    "signal-lost-with-its-head": "head-adopts-on-one-node-only",
    "store-away": "head-hangs-up-what-it-adopts",
    "switch-over": "space-sends-nothing-again",
}
"""A mutant (`heorot.sim.mutants`) with which this transcript goes another way."""


def written(path: Path) -> str:
    return path.read_text("utf-8")


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_it_goes_as_it_is_written(path: Path) -> None:
    assert play(written(path)) == written(path), f"if this was meant: python -m tests.transcripts {path.stem}"


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_it_says_why_and_what_to_expect_and_can_be_read_aloud(path: Path) -> None:
    text = written(path)
    assert text.startswith("# ")
    assert "\nexpect " in text
    assert len(text.splitlines()) <= LONGEST_LINES


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.stem)
def test_it_goes_another_way_without_a_safety_measure(path: Path) -> None:
    try:
        went = play(written(path), mutator(TELL_APART[path.stem]))
    except (Unexpected, Violation):
        return
    assert went != written(path)


def test_the_page_on_failover_tells_of_each() -> None:
    page = PAGE.read_text("utf-8")
    assert [path.name for path in WRITTEN if f"(../tests/transcripts/{path.name})" not in page] == []


def test_the_page_shows_one_as_it_is() -> None:
    assert written(Path(__file__).parent / "head-lost-after-its-answer.txt") in PAGE.read_text("utf-8")


ONE_NODE = "cluster heads=1 nodes=1\n----\n\nspawn user1 n0 sleep 1 0\nstabilize\n----\n\n"


@pytest.mark.parametrize(
    "wrong",
    [
        "expect head1 leads epoch=2",
        "expect 1.1 ran n1",
        "expect 1.1 ran n0 n0",
        "expect 1.1 runs n0",
        "expect user1 has 1.1 1",
        "expect user1 has 1.1 lost",
        "expect user1 has 1.2 0",
        "expect head1 lists 1.1 running",
        "deliver user1",
        "drop user1 n0",
        "hope",
    ],
)
def test_what_is_not_so_fails_whatever_the_answer(wrong: str) -> None:
    with pytest.raises(Unexpected) as caught:
        play(f"{ONE_NODE}{wrong}\n----\n")
    assert wrong in caught.value.__notes__[0]


def test_a_verb_is_never_taken_for_an_answer() -> None:
    with pytest.raises(Unexpected, match="an empty line is missing"):
        play("cluster heads=1 nodes=1\n----\nexpect head1 leads epoch=7\n----\n")
    with pytest.raises(Unexpected, match="---- is missing"):
        play("cluster heads=1 nodes=1\n----\n\nexpect head1 leads epoch=7\n")


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_the_story_is_told_as_it_is_kept(story: Story) -> None:
    assert tell(story) == path_of(story).read_text("utf-8"), "if this was meant: python -m tests.transcripts.stories"
