"""What nodes say within a moment is said once, and the first word does not wait for ever."""

from __future__ import annotations

from heorot.cli.foreground.news import LONGEST_S, QUIET_S, News


def test_words_that_follow_each_other_are_taken_together() -> None:
    news = News()
    assert news.due_at is None
    gap_s = QUIET_S * 0.9
    for rank in range(3):
        news.add(rank, rank * gap_s)
        assert news.due_at == rank * gap_s + QUIET_S
    assert news.take() == [0, 1, 2]
    assert news.due_at is None
    assert news.take() == []


def test_the_first_word_is_not_held_back_by_those_that_go_on_coming() -> None:
    news = News()
    times_s = [step * QUIET_S / 2 for step in range(100)]
    for rank, now_s in enumerate(times_s):
        news.add(rank, now_s)
    assert news.due_at == LONGEST_S
    news.take()
    news.add(0, 1000.0)
    assert news.due_at == 1000.0 + QUIET_S
