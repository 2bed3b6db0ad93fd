"""The states of an image on one hop: the usual way, what is spoilt, and answers of the cache that come late."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from heorot.core.images.chunks import CHUNK_BYTES
from heorot.core.images.fetcher import Source
from heorot.core.images.hop import Transfers
from heorot.core.images.one_image import Transfer
from heorot.core.images.states import IMAGE, ImageState
from heorot.core.machine import ChunksGone, Examined
from heorot.core.states import ImpossibleStep
from heorot.core.wire import images as i
from tests.core.images.hops import Sample

PARENT = 1


class Lacking:
    """A host that needs an image of three chunks, and its parent; its cache says what the test says."""

    def __init__(self) -> None:
        self.sample = Sample(Random(1), [3 * CHUNK_BYTES])
        self.asked: list[Any] = []
        self.done: list[bytes] = []
        self.transfers = Transfers(
            lambda item: None,
            lambda source, message: self.asked.append(message),
            lambda image: [Source(PARENT)],
            self.done.append,
            lambda image, why: None,
        )
        self.transfers.need(self.sample.image)

    @property
    def transfer(self) -> Transfer:
        """What this host knows of it."""
        return self.transfers.transfers[self.sample.image]

    def found(self, *chunks: int) -> ImageState:
        """The cache has looked, and has the manifest with these ranges of chunks."""
        self.transfers.examined(Examined(self.sample.image, self.sample.encoded, list(chunks)))
        return self.transfer.state

    def found_nothing(self) -> ImageState:
        """The cache has looked."""
        self.transfers.examined(Examined(self.sample.image, b"", []))
        return self.transfer.state

    def manifest(self) -> ImageState:
        """The parent sends the manifest."""
        self.transfers.manifest(PARENT, i.ImageManifest(self.sample.image, self.sample.encoded))
        return self.transfer.state

    def piece(self, *chunks: int) -> ImageState:
        """The parent sends consecutive chunks."""
        data = [self.sample.chunk(number) for number in chunks]
        self.transfers.piece(PARENT, i.Piece(self.sample.image, chunks[0], data))
        return self.transfer.state

    def gone(self, *chunks: int) -> ImageState:
        """The cache does not have these ranges any more."""
        self.transfers.chunks_gone(ChunksGone(self.sample.image, 0, 0, 0, list(chunks)))
        return self.transfer.state


def test_an_image_is_listed_fetched_spoilt_and_fetched_again() -> None:
    host = Lacking()
    assert host.transfer.state is ImageState.EXAMINING
    assert host.found_nothing() is ImageState.UNLISTED
    assert host.manifest() is ImageState.LISTING
    assert host.found() is ImageState.PARTIAL
    assert host.piece(0, 1) is ImageState.PARTIAL
    assert host.done == []
    assert host.piece(2) is ImageState.WHOLE
    assert host.done == [host.sample.image]
    assert host.gone() is ImageState.WHOLE
    assert host.gone(1, 1) is ImageState.PARTIAL
    assert host.piece(1) is ImageState.WHOLE
    assert IMAGE.story_of(host.transfer) == (
        "examining ─nothing found▶ unlisted ─manifest came▶ listing ─some found▶ partial ─completed▶ whole"
        " ─spoilt▶ partial ─completed▶ whole"
    )


def test_an_image_that_is_in_the_cache_is_whole_at_once() -> None:
    host = Lacking()
    assert host.found(0, 3) is ImageState.WHOLE
    assert (host.done, host.asked) == ([host.sample.image], [])


def test_an_answer_to_an_earlier_question_costs_a_question_and_confuses_nothing() -> None:
    host = Lacking()
    host.found_nothing()
    host.manifest()
    # Of a look before the image was given up, and needed again.
    assert host.found_nothing() is ImageState.UNLISTED
    assert [want.manifest for want in host.asked] == [True, True]
    assert host.found(0, 1) is ImageState.PARTIAL
    # The manifest that was asked for once more is not looked at again.
    assert host.manifest() is ImageState.PARTIAL
    assert host.found_nothing() is ImageState.PARTIAL
    assert host.piece(1, 2) is ImageState.WHOLE
    assert host.found_nothing() is ImageState.WHOLE


def test_a_manifest_that_nobody_lacks_is_a_mistake() -> None:
    host = Lacking()
    host.found(0, 3)
    with pytest.raises(
        ImpossibleStep, match=r"is whole, where manifest came cannot happen; .* examining ─all found▶ whole"
    ):
        host.transfer.manifest_came()
