"""Users share a limit: nobody can use it up, whoever comes next finds room, and a part is root's and the owner's."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.quota import MIB, Ledger, Quota

ROOT, OWNER = 0, 50


def fill(quota: Quota, held: Counter[int], uid: int) -> int:
    """Let a user take one after the other until it is refused; return how many it got."""
    got = 0
    while not quota.refusal(uid, held):
        held[uid] += 1
        got += 1
    return got


def test_one_user_alone_gets_half_of_what_is_not_kept() -> None:
    quota = Quota("jobs", 4096, "max_jobs")
    assert quota.kept == 256
    assert fill(quota, Counter(), 1000) == 1920


@given(st.integers(2, 300), st.lists(st.sampled_from([1000, 1001, 1002, 1003, OWNER, ROOT]), max_size=600))
def test_whoever_asks_in_what_order_something_is_left_for_root_and_the_limit_holds(
    limit: int, users: list[int]
) -> None:
    quota, held = Quota("jobs", limit, "max_jobs", OWNER), Counter[int]()
    for uid in users:
        if not quota.refusal(uid, held):
            held[uid] += 1
    users_hold = sum(count for uid, count in held.items() if uid not in (ROOT, OWNER))
    assert users_hold <= limit - quota.kept
    fill(quota, held, ROOT)
    assert held[ROOT] + held[OWNER] >= quota.kept
    assert sum(held.values()) == limit
    assert "root raise max_jobs" in quota.refusal(OWNER, held)


def test_the_next_user_gets_half_of_what_greedy_ones_have_left() -> None:
    quota, held = Quota("questions", 1024, "max_questions"), Counter[int]()
    assert [fill(quota, held, uid) for uid in (1000, 1001, 1002)] == [480, 240, 120]


@pytest.mark.parametrize("greedy", [1, 2, 5])
def test_what_greedy_users_hold_evens_out_as_it_comes_and_goes(greedy: int) -> None:
    quota, held = Quota("questions", 1024, "max_questions"), Counter[int]()
    users = range(1000, 1000 + greedy)
    for _ in range(40):
        for uid in users:
            fill(quota, held, uid)
        for uid in users:
            held[uid] -= held[uid] // 4
    for uid in users:
        fill(quota, held, uid)
    fair = 960 // (greedy + 1)
    assert all(fair // 2 <= held[uid] <= fair * 2 for uid in users), held


def test_what_root_has_beyond_what_is_kept_is_no_longer_free() -> None:
    quota = Quota("jobs", 160, "max_jobs")
    assert fill(quota, Counter({ROOT: 10}), 7) == 75
    assert fill(quota, Counter({ROOT: 110}), 7) == 25
    assert fill(quota, Counter({ROOT: 160}), 7) == 0


def test_the_smallest_limits_are_of_use() -> None:
    assert fill(Quota("jobs", 1, "max_jobs"), Counter(), 7) == 1
    held = Counter[int]()
    assert fill(Quota("jobs", 2, "max_jobs"), held, 7) == 1
    assert fill(Quota("jobs", 2, "max_jobs"), held, ROOT) == 1


def test_what_is_large_is_weighed_as_a_whole() -> None:
    quota = Quota("bytes", 1600, "max_bytes")
    assert not quota.refusal(7, {}, 1500)
    assert quota.refusal(7, {}, 1501)
    assert not quota.refusal(7, {8: 700}, 800)
    assert quota.refusal(7, {8: 700}, 801)


def test_a_refusal_says_which_limit_whose_and_who_may_raise_it() -> None:
    text = Quota("jobs that run or are read", 32, "max_jobs").refusal(7, {7: 15, 8: 3, ROOT: 1}, name="alice")
    assert text == (
        "of at most 32 jobs that run or are read, alice has 15 and others have 4, and nobody but root may hold more of "
        "them than are left for others (12 now); wait until there are fewer, or let root raise max_jobs ([limits] in "
        "head.toml)"
    )


def test_bytes_are_told_as_people_read_them() -> None:
    text = Quota("MiB of answers", 512 << 20, "max_bytes", unit=MIB).refusal(7, {7: 250 << 20}, 1 << 20)
    assert "of at most 512 MiB of answers, user 7 has 250 and others have 0" in text
    assert "(230 now)" in text


def test_a_ledger_forgets_who_holds_nothing() -> None:
    ledger = Ledger[int]()
    ledger.add(7, 3)
    ledger.add(8, 1)
    ledger.add(7, -3)
    assert ledger.held == {8: 1}
    with pytest.raises(AssertionError):
        ledger.add(8, -2)
