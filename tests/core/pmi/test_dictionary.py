"""What ranks tell each other: the same on all nodes, within limits, and given back at the end."""

from __future__ import annotations

import itertools

from heorot.core.pmi import dictionary as d
from heorot.core.pmi.dictionary import Dictionary, flat_entries, join_entries


class Purse:
    """Counts what is held, up to a limit."""

    def __init__(self, limit: int = 1 << 40) -> None:
        self.held, self.limit = 0, limit

    def take(self, size_bytes: int) -> str:
        """Take, or give back."""
        if size_bytes > 0 and self.held + size_bytes > self.limit:
            return "no room"
        self.held += size_bytes
        assert self.held >= 0
        return ""


def test_what_was_put_is_found_here_at_once_and_everywhere_after_the_barrier() -> None:
    one, other = (Dictionary(Purse().take, Purse().take) for _ in range(2))
    assert one.put(b"a", b"1") == ""
    assert (one.find(b"a"), other.find(b"a")) == (b"1", None)
    entries = flat_entries(one.own) + flat_entries(other.own)
    assert (one.learn(entries), other.learn(entries)) == ("", "")
    assert other.find(b"a") == b"1"
    assert (one.own, one.former, other.former) == ({}, {b"a": b"1"}, {})


def test_a_key_has_one_value() -> None:
    purse = Purse()
    own = Dictionary(purse.take, purse.take)
    assert own.put(b"a", b"1") == ""
    held = purse.held
    assert own.put(b"a", b"1") == ""
    assert "another value" in own.put(b"a", b"2")
    own.learn([])
    assert "another value" in own.put(b"a", b"2")
    assert own.find(b"a") == b"1"
    assert purse.held >= held


def test_of_two_values_all_nodes_take_the_same_in_whatever_order_they_come() -> None:
    words = [[b"a", b"2", b"b", b"1"], [b"a", b"1"], [b"c", b"3", b"a", b"3", b"odd"]]
    unions = []
    for order in itertools.permutations(words):
        union: dict[bytes, bytes] = {}
        grown = sum(join_entries(union, word) for word in order)
        assert grown == sum(len(key) + len(value) + d.ENTRY_BYTES for key, value in union.items())
        unions.append(flat_entries(union))
    assert unions == [[b"a", b"1", b"b", b"1", b"c", b"3"]] * 6


def test_what_is_learnt_and_what_it_takes_is_the_same_in_whatever_words_it_comes() -> None:
    told = (
        [b"b", b"1", b"a", b"2"],
        [b"a", b"2"],
        [b"a", b"3", b"b", b"1", b"a", b"2"],
        [b"b", b"1", b"a", b"9", b"odd"],
    )
    for entries in told:
        purse = Purse()
        one = Dictionary(Purse().take, purse.take)
        assert [one.put(b"a", b"2"), one.put(b"b", b"1")] == ["", ""]
        assert one.learn(entries) == ""
        assert one.known == {b"a": b"2", b"b": b"1"}
        assert purse.held == d.size_of(flat_entries(one.known))
        # What is known already stays, and takes nothing more.
        assert one.learn([b"a", b"1", b"c", b"3"]) == ""
        assert one.known == {b"a": b"2", b"b": b"1", b"c": b"3"}
        assert purse.held == d.size_of(flat_entries(one.known))


def test_a_node_puts_no_more_between_two_barriers_than_fits_into_a_message() -> None:
    own = Dictionary(Purse().take, Purse().take)
    taken = 0
    while not own.put(b"%d" % taken, b"v" * 1000):
        taken += 1
    assert 400 < taken * 1000 < d.MAX_OWN_BYTES
    own.learn([])
    assert own.put(b"again", b"v") == ""


def test_what_is_refused_takes_nothing_and_all_is_given_back() -> None:
    mine, known = Purse(1000), Purse(500)
    own = Dictionary(mine.take, known.take)
    assert own.put(b"a", b"1" * 500) == ""
    assert own.put(b"b", b"1" * 500) == "no room"
    held = mine.held
    assert own.learn([b"x", b"1" * 400]) == "no room"
    assert (mine.held, known.held, own.known) == (held, 0, {})
    own.close()
    assert (mine.held, known.held) == (0, 0)


def test_what_a_node_has_said_is_kept_until_the_barrier_after_the_next() -> None:
    mine, known = Purse(), Purse()
    own = Dictionary(mine.take, known.take)
    for number in range(4):
        own.put(b"%d" % number, b"v")
        own.learn([])
        assert list(own.former) == [b"%d" % number]
    one = len(b"0v") + d.ENTRY_BYTES
    assert mine.held == one
    assert known.held == 4 * one
    own.shrink()
    assert (known.held, own.known, list(own.former)) == (0, {}, [b"3"])
    own.close()
    assert (mine.held, known.held) == (0, 0)
