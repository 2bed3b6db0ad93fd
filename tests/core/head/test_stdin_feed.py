"""What the head keeps of a job's input."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.head.stdin_feed import WINDOW_BYTES, StdinFeed
from heorot.core.streams import TAKES_NO_MORE

PIECE = b"x" * (WINDOW_BYTES // 4)


def send(feed: StdinFeed, pieces: int) -> None:
    for _ in range(pieces):
        assert feed.take(feed.sent, PIECE, False) == PIECE


def test_a_window_is_kept_until_the_slowest_has_it() -> None:
    feed = StdinFeed()
    feed.open([1, 2])
    send(feed, 4)
    with pytest.raises(ProtocolError):
        feed.take(feed.sent, b"y", False)
    assert not feed.ack(1, WINDOW_BYTES)
    assert feed.missing(WINDOW_BYTES // 2)[0] == (WINDOW_BYTES // 2, PIECE, False)
    assert feed.ack(2, WINDOW_BYTES // 2)
    assert sum(len(data) for _, data in feed.chunks) == WINDOW_BYTES // 2


def test_nothing_is_kept_for_nobody() -> None:
    feed = StdinFeed()
    send(feed, 8)
    assert feed.chunks == []
    assert feed.slowest == TAKES_NO_MORE
    feed = StdinFeed()
    feed.open([1])
    send(feed, 2)
    assert feed.drop(1)
    send(feed, 8)
    assert feed.chunks == []
