"""Hosts share a port: a flood of one shuts nobody out, and all together stay within the bound."""

from __future__ import annotations

from heorot.security.request_rate import RequestRate


def flood(rate: RequestRate, host: str, now_s: float) -> int:
    """Ask until it is refused; return how often it was not."""
    taken = 0
    while not rate.refusal(host, now_s):
        taken += 1
    return taken


def test_whoever_floods_leaves_as_many_as_he_takes() -> None:
    rate = RequestRate(200, 100, 0)
    assert [flood(rate, host, 0) for host in "abc"] == [100, 50, 25]
    assert "no host may make more than are left" in rate.refusal("c", 0)
    assert rate.refusal("d", 0) == ""


def test_all_hosts_together_make_no_more_than_so_many() -> None:
    rate = RequestRate(200, 100, 0)
    assert 150 < sum(flood(rate, f"host {number}", 0) for number in range(1000)) <= 200
    assert rate.refusal("another", 0) == "too many hosts join at this moment; try again"


def test_one_host_alone_has_nearly_the_whole_rate_and_the_next_one_finds_room() -> None:
    rate = RequestRate(200, 100, 0)
    taken = [flood(rate, "a", second) for second in range(20)]
    assert taken[0] == 100
    assert all(90 <= count <= 100 for count in taken[1:])
    assert flood(rate, "b", 19) >= 25


def test_who_was_quiet_is_forgotten() -> None:
    rate = RequestRate(200, 100, 0)
    for host in range(100_000):
        rate.refusal(f"host {host}", host / 1000)
    assert len(rate._made) <= 400
    assert rate.refusal("another", 1_000_000) == ""
    assert len(rate._made) == 1
