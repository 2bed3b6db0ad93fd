"""One stream as its reader sees it: each byte once, and when it is whole."""

from __future__ import annotations

from heorot.core.client.read_stream import ReadStream


def test_what_comes_again_is_left_out_and_a_gap_is_waited_for() -> None:
    stream = ReadStream(0, 1)
    assert stream.accept(0, b"abc") == b"abc"
    assert stream.accept(1, b"bcd") == b"d"
    assert stream.accept(9, b"later") == b""
    assert stream.received == 4


def test_a_late_reader_begins_where_a_former_one_has_stopped() -> None:
    stream = ReadStream(0, 1)
    stream.joined_late = True
    assert stream.accept(10, b"abc", 10) == b"abc"
    assert (stream.received, stream.consumed, stream.acknowledged) == (13, 10, 10)


def test_it_is_whole_when_all_of_it_is_here() -> None:
    stream = ReadStream(0, 1)
    stream.accept(0, b"abc")
    assert not stream.whole, "nobody has said how much there is"
    assert not stream.missing
    stream.total = 5
    assert (stream.whole, stream.missing) == (False, True)
    stream.accept(3, b"de")
    assert (stream.whole, stream.missing) == (True, False)
