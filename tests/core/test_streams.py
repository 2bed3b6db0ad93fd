"""Streams by offset: whatever is repeated, cut, spooled or refused, every byte comes out once and in order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import ProtocolError
from heorot.core.streams import INPUT_LIMIT_BYTES, InboundStream, InputStream, OutputStream


class MemorySpool:
    """A spool whose disk has a size, and may be full for a while."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.files: dict[int, bytearray] = {}

    def append(self, key: int, data: bytes) -> int:
        """Store what there is room for."""
        room = max(0, self.size - sum(map(len, self.files.values())))
        if room:
            self.files.setdefault(key, bytearray()).extend(data[:room])
        return min(room, len(data))

    def read(self, key: int, position: int, size: int) -> bytes:
        """Give a part."""
        return bytes(self.files[key][position : position + size])

    def drop(self, key: int) -> None:
        """Forget a stream."""
        self.files.pop(key, None)


def data_at(offset: int, size: int) -> bytes:
    return bytes((offset + i) * 7 % 251 for i in range(size))


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["write", "send", "ack", "rewind", "settle", "disk"]), st.integers(0, 300)), max_size=80
)


@given(operations=OPERATIONS, memory=st.integers(0, 200), limit=st.integers(0, 400), disk=st.integers(0, 500))
def test_output_is_exact_whatever_happens(
    operations: list[tuple[str, int]], memory: int, limit: int, disk: int
) -> None:
    spool = MemorySpool(disk)
    stream = OutputStream(1, spool)
    reader = InboundStream()
    for what, number in operations:
        if what == "write" and not stream.stuck:
            stream.append(data_at(stream.end, number), memory, limit)
        elif what == "send":
            data = stream.peek(number)
            assert data == data_at(stream.sent, len(data))
            assert bool(data) == (number > 0 and stream.sent < stream.end)
            fresh = reader.take(stream.sent, data)
            assert fresh == data_at(reader.offset - len(fresh), len(fresh))
            stream.sent += len(data)
        elif what == "ack":
            stream.ack(min(reader.offset, stream.acked + number))
        elif what == "rewind":
            stream.rewind()
        elif what == "settle":
            stream.settle(limit)
        elif what == "disk":
            spool.size = number
        assert stream.acked <= stream.sent <= stream.end
        assert stream.spooled_bytes <= limit
        # Beyond the limit only what one write brought, before anything else can be said to have been read.
        assert stream.memory_bytes <= memory + 600
    stream.rewind()
    while data := stream.peek(64):
        assert data == data_at(stream.sent, len(data))
        stream.sent += len(data)
    assert stream.sent == stream.end
    stream.ack(stream.end)
    assert (stream.kept_bytes, stream.memory_bytes, spool.files) == (0, 0, {})


def test_a_stream_that_is_stuck_goes_on_when_there_is_room() -> None:
    spool = MemorySpool(10)
    stream = OutputStream(1, spool)
    stream.append(data_at(0, 100), 100, 1000)
    stream.append(data_at(100, 50), 100, 1000)
    assert stream.stuck
    spool.size = 1000
    stream.settle(1000)
    assert not stream.stuck
    assert stream.spooled_bytes == 50
    stream.ack(10_000)
    assert (stream.acked, stream.kept_bytes, stream.spooled_bytes) == (150, 0, 0)
    stream.append(b"x", 100, 1000)
    stream.close()
    assert (stream.peek(), stream.kept_bytes) == (b"", 0)


@given(pieces=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 150)), max_size=60))
def test_input_takes_what_is_new_and_no_more(pieces: list[tuple[int, int]]) -> None:
    stream = InputStream()
    for offset, size in pieces:
        before = stream.end
        taken = stream.take(offset, data_at(offset, size), False)
        assert taken == (offset <= before)
        assert stream.end == (max(before, offset + size) if taken else before)
        assert stream.peek(stream.start) == data_at(stream.start, stream.end - stream.start)
        stream.forget(stream.start + size // 2)
    assert not stream.ended
    stream.take(stream.end, b"last", True)
    assert stream.ended
    end = stream.end
    assert stream.take(end, b"after the end", False)
    assert stream.end == end


def test_input_beyond_its_bound_is_left_to_the_sender() -> None:
    stream = InputStream()
    assert not stream.take(0, b"x" * (INPUT_LIMIT_BYTES + 5), True)
    assert stream.end == INPUT_LIMIT_BYTES
    assert not stream.ended
    stream.forget(10)
    assert stream.take(INPUT_LIMIT_BYTES, b"x" * 5, True)
    assert stream.ended


def test_a_gap_is_an_error_of_the_peer() -> None:
    stream = InboundStream()
    assert stream.take(0, b"abc") == b"abc"
    assert stream.take(1, b"bcde") == b"de"
    assert stream.take(0, b"ab") == b""
    with pytest.raises(ProtocolError, match="bytes 5 to 6"):
        stream.take(6, b"g")


def test_what_is_forgotten_of_a_piece_is_in_memory_until_all_of_it_is() -> None:
    stream = OutputStream(1, MemorySpool(1 << 30))
    for _ in range(2):
        stream.append(bytes(64 * 1024), 1 << 20, 1 << 30)
    stream.ack(64 * 1024 - 1)
    assert stream.memory_bytes == 128 * 1024
    stream.ack(64 * 1024)
    assert stream.memory_bytes == 64 * 1024
    stream.ack(128 * 1024 - 1)
    assert (stream.kept_bytes, stream.memory_bytes) == (1, 64 * 1024)
    stream.ack(128 * 1024)
    assert stream.memory_bytes == 0
