"""A frame that was begun: how long it may stand still, and how much memory it may take meanwhile."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

from heorot.core.wire.framing import LARGE_BYTES, MAX_FRAME_BYTES, PROGRESS_MS
from heorot.runtime.channel import GROWTH_BYTES, Channel
from heorot.runtime.loop import EpollLoop
from tests.runtime.conftest import Clock

Until = Callable[[Callable[[], object]], None]
PROGRESS_S = PROGRESS_MS / 1000


class End:
    """A channel, and the other end of its socket."""

    def __init__(self, loop: EpollLoop, progress_ms: int | None = PROGRESS_MS) -> None:
        ours, self.peer = socket.socketpair()
        self.frames: list[bytes] = []
        self.reasons: list[str] = []
        self.channel = Channel(
            loop, ours, on_frame=self.frames.append, on_closed=self.reasons.append, progress_ms=progress_ms
        )
        self.channel.start()

    def close(self) -> None:
        """Close both."""
        self.channel.close()
        self.peer.close()


@pytest.fixture
def end(loop: EpollLoop) -> Iterator[End]:
    """One with the usual limit."""
    made = End(loop)
    yield made
    made.close()


@pytest.mark.parametrize("beginning", [b"\0", b"\0\0\1\0", b"\0\0\1\0abc", MAX_FRAME_BYTES.to_bytes(4, "big") + b"x"])
def test_a_begun_frame_that_stands_still_ends_its_connection(
    loop: EpollLoop, clock: Clock, end: End, beginning: bytes
) -> None:
    end.peer.sendall(beginning)
    clock.skip(0, loop)
    clock.skip(PROGRESS_S - 1, loop)
    assert not end.reasons
    clock.skip(2, loop)
    assert end.reasons == ["a frame was begun, and nothing more of it came for 30 s"]
    assert end.channel.held_bytes == 0


def test_whoever_slept_itself_waits_once_more_for_the_rest_of_a_frame(loop: EpollLoop, clock: Clock, end: End) -> None:
    end.peer.sendall(b"\0\0\0\3a")
    clock.skip(0, loop)
    clock.skip(10 * PROGRESS_S, loop)
    assert not end.reasons
    end.peer.sendall(b"bc")
    clock.skip(0, loop)
    assert end.frames == [b"abc"]


def test_one_that_goes_on_may_take_its_time(loop: EpollLoop, clock: Clock, end: End) -> None:
    end.peer.sendall((40).to_bytes(4, "big"))
    for _ in range(40):
        assert not end.frames
        end.peer.sendall(b"x")
        clock.skip(0, loop)
        clock.skip(PROGRESS_S - 1, loop)
    assert end.frames == [b"x" * 40]
    clock.skip(10 * PROGRESS_S, loop)
    assert not end.reasons


def test_who_has_begun_nothing_may_be_silent(loop: EpollLoop, clock: Clock, end: End) -> None:
    end.peer.sendall((3).to_bytes(4, "big") + b"abc")
    clock.skip(0, loop)
    clock.skip(10 * PROGRESS_S, loop)
    assert (end.frames, end.reasons) == ([b"abc"], [])


def test_a_pause_of_ours_is_not_the_peers_fault(loop: EpollLoop, clock: Clock, end: End) -> None:
    end.peer.sendall((3).to_bytes(4, "big") + b"ab")
    clock.skip(0, loop)
    end.channel.pause()
    end.peer.sendall(b"c")
    for _ in range(5):
        clock.skip(PROGRESS_S - 1, loop)
    end.channel.resume()
    clock.skip(0, loop)
    assert (end.frames, end.reasons) == ([b"abc"], [])


def test_a_peer_that_is_trusted_may_stop_in_the_middle(loop: EpollLoop, clock: Clock) -> None:
    end = End(loop, None)
    end.peer.sendall(b"\0\0\1\0abc")
    clock.skip(0, loop)
    clock.skip(100 * PROGRESS_S, loop)
    assert not end.reasons
    end.close()


def test_what_a_begun_frame_takes_is_told_as_it_grows(loop: EpollLoop, until: Until, end: End) -> None:
    grown: list[int] = []
    end.channel.on_growth = lambda: grown.append(end.channel.held_bytes)
    end.peer.setblocking(False)
    end.peer.send(MAX_FRAME_BYTES.to_bytes(4, "big"))
    sent = 0
    while sent < MAX_FRAME_BYTES:
        try:
            sent += end.peer.send(bytes(min(100_000, MAX_FRAME_BYTES - sent)))
        except BlockingIOError:
            loop.run_once(0.01)
        assert end.channel.held_bytes <= max(LARGE_BYTES, 2 * sent)
    until(lambda: end.frames)
    assert grown == sorted(set(grown))
    assert grown[-1] == MAX_FRAME_BYTES
    assert end.channel.held_bytes == 0


def test_what_is_not_read_is_told_as_it_grows(loop: EpollLoop, end: End) -> None:
    grown: list[int] = []
    end.channel.on_growth = lambda: grown.append(end.channel.held_bytes)
    for _ in range(100):
        end.channel.send(bytes(100_000))
    assert len(grown) == 9
    assert all(after - before >= GROWTH_BYTES for before, after in pairwise(grown))


def test_whoever_is_told_may_end_it_at_once(loop: EpollLoop, until: Until, end: End) -> None:
    def close() -> None:
        end.channel.send(b"too much")
        end.channel.finish()

    end.channel.on_growth = close
    end.peer.sendall(MAX_FRAME_BYTES.to_bytes(4, "big") + b"x")
    until(lambda: end.channel.closed)
    assert end.peer.recv(100) == b"\0\0\0\x08too much"
    assert end.peer.recv(100) == b""


def test_what_waits_under_a_name_is_replaced_at_its_place_by_what_is_newer(loop: EpollLoop, until: Until) -> None:
    here = End(loop)
    frames: list[bytes] = []
    reader = Channel(loop, here.peer, on_frame=frames.append, on_closed=here.reasons.append)
    reader.start()
    here.channel.send(b"launch")
    for size in range(100):
        for job in (b"1.1", b"1.2"):
            here.channel.send(b"%s %d" % (job, size), newest_of=job.decode())
    here.channel.send(b"last")
    assert here.channel.backlog_bytes == len(b"launch" + b"1.1 99" + b"1.2 99" + b"last") + 4 * 4
    until(lambda: b"last" in frames)
    assert frames == [b"launch", b"1.1 99", b"1.2 99", b"last"]
    assert here.channel.backlog_bytes == 0
    # What has left is replaced by nothing.
    here.channel.send(b"1.1 100", newest_of="1.1")
    until(lambda: len(frames) == 5)
    reader.close()
    here.close()
