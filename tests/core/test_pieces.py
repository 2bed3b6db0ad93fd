"""A queue of bytes in pieces is what one long string would be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heorot.core.pieces import JOINED_BYTES, SMALL_BYTES, Pieces

SIZES = st.one_of(
    st.integers(0, 300), st.sampled_from([SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, 3 * SMALL_BYTES])
)
OPERATIONS = st.lists(st.tuples(st.sampled_from(["append", "peek", "forget"]), SIZES, st.integers(0, 1 << 18)))


@given(operations=OPERATIONS)
def test_pieces_are_one_string(operations: list[tuple[str, int, int]]) -> None:
    pieces, whole, count = Pieces(), b"", 0
    for what, size, at in operations:
        if what == "append":
            count += 1
            data = bytes([count % 251]) * size
            pieces.append(data)
            whole += data
        elif what == "forget":
            pieces.forget(size)
            whole = whole[size:]
        else:
            at %= len(whole) + 1
            data = pieces.peek(at, size)
            assert data == whole[at : at + len(data)]
            assert len(data) <= size
            assert bool(data) == bool(size and at < len(whole))
        assert pieces.size == len(whole)


def test_large_pieces_are_given_as_they_came() -> None:
    data = bytes(2 * JOINED_BYTES)
    pieces = Pieces()
    pieces.append(b"before")
    pieces.append(data)
    assert pieces.peek(6, len(data)) is data
    pieces.forget(6)
    assert pieces.peek(0, 1 << 30) is data


def test_small_pieces_are_put_together() -> None:
    pieces = Pieces()
    for _ in range(3 * JOINED_BYTES // 64):
        pieces.append(bytes(64))
    assert len(pieces.peek(0, 1 << 30)) == JOINED_BYTES
