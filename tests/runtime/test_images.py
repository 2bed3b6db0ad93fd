"""What the hands of a daemon do for images: what has come is passed on from memory, and little of it is kept there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heorot.core.images.chunks import CHUNK_BYTES
from heorot.core.machine import ChunksGone, Examine, Forget, KeepChunks, KeepManifest, SendChunks
from heorot.core.wire.images import Piece
from heorot.core.wire.tree import decode_link
from heorot.images.cache import Cache
from heorot.runtime.images import ENCODED_BYTES, Images
from heorot.runtime.loop import EpollLoop
from tests.images.samples import Sample

CHUNKS = 64
SAMPLE = Sample({b"/a": b"".join(bytes([number]) * CHUNK_BYTES for number in range(CHUNKS))})


class Host:
    """A cache, what is sent, and what the machine is told."""

    def __init__(self, loop: EpollLoop, directory: Path) -> None:
        self.loop = loop
        self.directory = directory
        self.events: list[Any] = []
        self.sent: list[tuple[int, bytes]] = []
        self.images = Images(loop, Cache(str(directory), 1 << 30, "n0"), self.events.append, lambda level, text: None)
        self.images.attach(self)  # type: ignore[arg-type]

    def send_encoded(self, link: int, payload: bytes, bulk: bool) -> None:
        assert bulk
        self.sent.append((link, payload))

    def keep(self, first: int, count: int) -> None:
        self.images.keep_chunks(
            KeepChunks(SAMPLE.image, first, [SAMPLE.chunk(number) for number in range(first, first + count)])
        )

    def rot(self) -> None:
        """Change what is on the disk."""
        for folder in ("partial", "files"):
            for path in (self.directory / folder).iterdir():
                os.chmod(path, 0o600)
                path.write_bytes(b"?" * path.stat().st_size)

    def assert_sent(self, link: int, first: int, count: int) -> None:
        to, payload = self.sent[-1]
        expected = Piece(SAMPLE.image, first, [SAMPLE.chunk(number) for number in range(first, first + count)])
        assert (to, decode_link(payload)) == (link, expected)


@pytest.fixture
def host(loop: EpollLoop, tmp_path: Path) -> Iterator[Host]:
    """A host that has the manifest."""
    made = Host(loop, tmp_path / "cache")
    made.images.examine(Examine(SAMPLE.image))
    made.images.keep_manifest(KeepManifest(SAMPLE.image, SAMPLE.encoded))
    yield made
    made.images.close()


def test_what_has_come_is_passed_on_from_memory_and_encoded_once(host: Host) -> None:
    host.keep(0, 8)
    host.rot()
    for link in range(3):
        host.images.send_chunks(SendChunks(SAMPLE.image, link, 2, 4, False))
        host.assert_sent(link, 2, 4)
    assert host.sent[0][1] is host.sent[1][1] is host.sent[2][1]


def test_what_came_earlier_is_read(host: Host) -> None:
    host.keep(0, 8)
    host.loop.run_once(0)
    host.keep(8, 8)
    host.images.send_chunks(SendChunks(SAMPLE.image, 1, 6, 4, False))
    host.assert_sent(1, 6, 4)
    host.loop.run_once(0)
    host.images.send_chunks(SendChunks(SAMPLE.image, 1, 12, 4, False))
    host.assert_sent(1, 12, 4)


def test_in_doubt_the_disk_is_looked_at_and_nothing_else_is_sent_any_more(host: Host) -> None:
    host.keep(0, 8)
    host.images.send_chunks(SendChunks(SAMPLE.image, 1, 0, 8, False))
    host.images.send_chunks(SendChunks(SAMPLE.image, 2, 0, 8, True))
    host.assert_sent(2, 0, 8)
    host.rot()
    for check in (True, False):
        host.images.send_chunks(SendChunks(SAMPLE.image, 3, 0, 8, check))
        assert len(host.sent) == 2
        assert isinstance(host.events[-1], ChunksGone)
        host.loop.run_once(0)


def test_little_is_kept_in_memory_and_nothing_after_the_transfer(host: Host) -> None:
    for first in range(0, CHUNKS, 8):
        host.keep(first, 8)
        host.images.send_chunks(SendChunks(SAMPLE.image, 1, first, 8, False))
        host.loop.run_once(0)
        kept_bytes = sum(map(len, host.images._encoded.values()))
        assert kept_bytes == host.images._encoded_bytes <= ENCODED_BYTES
    host.images.forget(Forget(SAMPLE.image))
    assert not host.images._encoded
    assert not host.images._encoded_bytes
    assert host.images._arrived is None
