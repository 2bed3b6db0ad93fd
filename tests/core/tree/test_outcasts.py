"""Who is none of the cluster's any more, as a head knows it and as a relay was told."""

from __future__ import annotations

from heorot.core.tree.outcasts import Outcasts


def test_a_removed_node_is_kept_out_by_its_number() -> None:
    outcasts = Outcasts()
    outcasts.removed = 0b100
    assert [outcasts.keeps_out(node, b"key") for node in (-1, 1, 2)] == [False, False, True]
    outcasts.clear()
    assert not outcasts.keeps_out(2, b"key")


def test_a_former_holder_is_kept_out_by_its_key() -> None:
    relay = Outcasts()
    relay.former = frozenset({(2, b"old")})
    assert [relay.keeps_out(2, key) for key in (b"old", b"new", b"")] == [True, False, False]
    # A head knows who has the number now: so whoever else shows a key is a former one.
    head = Outcasts()
    head.given_to = {2: b"new"}
    assert [head.keeps_out(2, key) for key in (b"old", b"new", b"")] == [True, False, False]


def test_a_placement_says_for_whom_it_is_or_counts_for_a_number_that_was_given_once() -> None:
    relay = Outcasts()
    assert not relay.was_placed_before(2, b"")
    relay.former = frozenset({(2, b"old")})
    assert [relay.was_placed_before(2, key) for key in (b"old", b"new", b"")] == [True, False, True]
    head = Outcasts()
    head.given_to, head.former = {2: b"new", 3: b"only"}, relay.former
    assert [head.was_placed_before(2, key) for key in (b"old", b"new", b"")] == [True, False, True]
    assert [head.was_placed_before(3, key) for key in (b"other", b"only", b"")] == [True, False, False]
