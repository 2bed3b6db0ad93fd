"""Frames survive any cutting of the byte stream, and hostile lengths are refused before anything is kept for them."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import ProtocolError
from heorot.core.wire.framing import EAGER_BYTES, HEADER_BYTES, LARGE_BYTES, MAX_FRAME_BYTES, FrameDecoder, encode_frame


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    """Return the stream in pieces, cut at these places."""
    bounds = sorted({0, len(stream), *(place % (len(stream) + 1) for place in places)})
    return [stream[first:last] for first, last in pairwise(bounds)]


@given(st.lists(st.binary(max_size=300), max_size=20), st.lists(st.integers(0, 10_000), max_size=40))
def test_frames_arrive_whole_and_in_order_however_the_stream_is_cut(payloads: list[bytes], places: list[int]) -> None:
    decoder = FrameDecoder()
    received = [
        frame
        for piece in cut(b"".join(map(encode_frame, payloads)), places)
        for frame in decoder.feed(memoryview(piece))
    ]
    assert received == payloads
    assert decoder.buffered_bytes == 0


@given(st.lists(st.binary(max_size=50), max_size=5), st.binary(min_size=1, max_size=50))
def test_an_incomplete_frame_is_held_and_nothing_else(payloads: list[bytes], last: bytes) -> None:
    decoder = FrameDecoder()
    incomplete = encode_frame(last)[:-1]
    assert decoder.feed(b"".join(map(encode_frame, payloads)) + incomplete) == payloads
    assert decoder.buffered_bytes == len(incomplete)
    assert decoder.feed(last[-1:]) == [last]


@given(
    st.lists(st.integers(0, LARGE_BYTES + 100) | st.integers(LARGE_BYTES - 3, LARGE_BYTES + 3), max_size=6),
    st.lists(st.integers(0, 500_000), max_size=40),
    st.booleans(),
)
def test_large_frames_may_be_put_at_their_place(sizes: list[int], places: list[int], into_place: bool) -> None:
    payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
    decoder = FrameDecoder()
    received: list[bytes] = []
    for piece in cut(b"".join(map(encode_frame, payloads)), places):
        while piece and into_place and (rest := decoder.rest()) is not None:
            count = min(len(rest), len(piece))
            rest[:count], piece = piece[:count], piece[count:]
            large = decoder.advance(count)
            received += [bytes(large)] if large is not None else []
        received += decoder.feed(piece)
        assert decoder.buffered_bytes <= HEADER_BYTES + max(sizes, default=0)
    assert received == payloads
    assert decoder.buffered_bytes == 0
    assert decoder.rest() is None


@pytest.mark.parametrize("into_place", [True, False])
@pytest.mark.parametrize("eager_bytes", [LARGE_BYTES, EAGER_BYTES])
@pytest.mark.parametrize("length", [LARGE_BYTES, EAGER_BYTES, EAGER_BYTES + 1, 3 * EAGER_BYTES, MAX_FRAME_BYTES])
def test_memory_is_taken_for_what_has_come_and_not_for_what_is_announced(
    length: int, eager_bytes: int, into_place: bool
) -> None:
    payload = bytes(range(256)) * (length // 256) + bytes(length % 256)
    stream = memoryview(encode_frame(payload) + encode_frame(b"next"))
    decoder = FrameDecoder()
    decoder.eager_bytes = eager_bytes
    received: list[bytes] = []
    came = 0
    while stream:
        rest = decoder.rest()
        if rest is not None:
            assert came + len(rest) <= max(eager_bytes, 2 * came)
        if rest is not None and into_place:
            count = min(len(rest), 100_000, len(stream))
            rest[:count] = stream[:count]
            large = decoder.advance(count)
            received += [bytes(large)] if large is not None else []
        else:
            count = min(len(stream), 100_000)
            received += decoder.feed(stream[:count])
        came += count - (0 if came else HEADER_BYTES)
        stream = stream[count:]
    assert received == [payload, b"next"]
    assert decoder.buffered_bytes == 0


def test_one_byte_at_a_time() -> None:
    decoder = FrameDecoder()
    stream = encode_frame(b"hello") + encode_frame(b"") + encode_frame(b"x" * 1000)
    assert [frame for byte in stream for frame in decoder.feed(bytes([byte]))] == [b"hello", b"", b"x" * 1000]


@pytest.mark.parametrize("limit_bytes", [0, 16, 1000])
def test_the_limit_is_exact(limit_bytes: int) -> None:
    assert FrameDecoder(limit_bytes).feed(encode_frame(bytes(limit_bytes))) == [bytes(limit_bytes)]
    with pytest.raises(ProtocolError, match=f"{limit_bytes + 1} bytes; the limit is {limit_bytes}"):
        FrameDecoder(limit_bytes).feed(struct.pack(">I", limit_bytes + 1))


@given(st.integers(MAX_FRAME_BYTES + 1, (1 << 32) - 1), st.integers(1, HEADER_BYTES))
def test_a_hostile_length_is_refused_with_the_header_s_last_byte(length: int, pieces: int) -> None:
    decoder = FrameDecoder()
    header = struct.pack(">I", length)
    assert decoder.feed(header[:-pieces]) == []
    with pytest.raises(ProtocolError, match=f"a frame of {length} bytes"):
        decoder.feed(header[-pieces:])


def test_a_limit_that_grows_with_trust_applies_to_the_next_frame() -> None:
    decoder = FrameDecoder(limit_bytes=8)
    decoder.feed(encode_frame(b"greeting"))
    decoder.limit_bytes = MAX_FRAME_BYTES
    assert decoder.feed(encode_frame(b"x" * 100_000)) == [b"x" * 100_000]


def test_nothing_too_large_is_ever_sent() -> None:
    assert len(encode_frame(bytes(MAX_FRAME_BYTES))) == HEADER_BYTES + MAX_FRAME_BYTES
    with pytest.raises(ProtocolError, match="exceeds the limit"):
        encode_frame(bytes(MAX_FRAME_BYTES + 1))
