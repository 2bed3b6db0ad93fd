"""Output that waits: in memory while it is little, in an unnamed file beyond, never lost and never without a bound."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from heorot.cli.foreground.held import Held
from heorot.core.client.job import STDERR, STDOUT
from heorot.core.client.read_stream import ReadStream


class Rig:
    """A `Held` with small limits, and what it reported as kept."""

    def __init__(self, max_file_bytes: int | None = None) -> None:
        self.kept: list[tuple[int, int, int]] = []
        self.held = Held(self._keep, max_file_bytes, max_memory_bytes=100)
        self._streams: dict[tuple[int, int], ReadStream] = {}

    def _keep(self, stream: ReadStream, count: int) -> None:
        self.kept.append((stream.rank, stream.stream, count))

    def add(self, rank: int, number: int, data: bytes) -> None:
        self.held.add(self._streams.setdefault((rank, number), ReadStream(rank, number)), data)

    def taken(self, rank: int) -> list[tuple[int, bytes]]:
        """Take a rank's output; neighbouring pieces of one stream are put together."""
        whole: list[tuple[int, bytes]] = []
        for stream, data in self.held.take(rank):
            if whole and whole[-1][0] == stream.stream:
                whole[-1] = (stream.stream, whole[-1][1] + data)
            else:
                whole.append((stream.stream, data))
        return whole


MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig() -> Iterator[MakeRig]:
    """Make rigs and close them."""
    with ExitStack() as stack:

        def make(max_file_bytes: int | None = None) -> Rig:
            rig = Rig(max_file_bytes)
            stack.callback(rig.held.close)
            return rig

        yield make


def test_order_and_bytes_survive_memory_and_file(make_rig: MakeRig) -> None:
    rig = make_rig()
    big = os.urandom(700_000)
    rig.add(0, STDOUT, b"a" * 60)
    rig.add(1, STDOUT, b"other")
    rig.add(0, STDERR, big)
    rig.add(1, STDERR, b"b" * 80)
    rig.add(0, STDOUT, b"end")
    assert rig.kept == [(0, 1, 60), (1, 1, 5), (0, 2, 700_000), (1, 2, 80), (0, 1, 3)]
    assert b"".join(rig.held.read(0, STDOUT)) == b"a" * 60 + b"end"
    assert b"".join(rig.held.read(0, STDERR)) == big
    assert rig.taken(1) == [(STDOUT, b"other"), (STDERR, b"b" * 80)]
    assert rig.taken(0) == [(STDOUT, b"a" * 60), (STDERR, big), (STDOUT, b"end")]
    assert rig.taken(0) == []


def test_beyond_the_file_nothing_is_acknowledged_and_nothing_lost(make_rig: MakeRig) -> None:
    rig = make_rig(1000)
    for letter in b"abcdef":
        rig.add(0, STDOUT, bytes([letter]) * 300)
    # Three fit into the file, the others are for the window of their stream to bound.
    assert rig.kept == [(0, 1, 300)] * 3
    assert rig.taken(0) == [(STDOUT, b"".join(bytes([letter]) * 300 for letter in b"abcdef"))]


def test_a_file_that_is_read_is_used_again(make_rig: MakeRig) -> None:
    rig = make_rig(1000)
    for _ in range(5):
        rig.add(0, STDOUT, b"x" * 900)
        assert rig.taken(0) == [(STDOUT, b"x" * 900)]
    assert rig.kept == [(0, 1, 900)] * 5


def test_digests_tell_outputs_apart_however_they_were_cut(make_rig: MakeRig) -> None:
    rig = make_rig()
    rig.add(0, STDOUT, b"same text")
    rig.add(1, STDOUT, b"same ")
    rig.add(1, STDOUT, b"text")
    rig.add(2, STDOUT, b"Same text")
    assert rig.held.digest(0, STDOUT) == rig.held.digest(1, STDOUT) != rig.held.digest(2, STDOUT)
    assert rig.held.has(0, STDOUT)
    assert not rig.held.has(0, STDERR)


def test_a_directory_that_takes_no_file_is_named(
    make_rig: MakeRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "missing"))
    with pytest.raises(OSError, match="missing") as caught:
        make_rig().add(0, STDOUT, b"x" * 101)
    assert caught.value.filename == str(tmp_path / "missing")
