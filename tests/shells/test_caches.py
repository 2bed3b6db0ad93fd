"""The image cache of a host: what every shell tells the machine of it."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.images.manifest import mask_of, ranges_of
from heorot.core.machine import (
    CacheFailed,
    CloseLink,
    Compare,
    Compared,
    CopiesDropped,
    DropCopies,
    Examine,
    Examined,
    Forget,
    KeepChunks,
    KeepManifest,
    MakeView,
    SendChunks,
    SendManifest,
    SharedTaken,
    TakeShared,
    ViewMade,
)
from heorot.core.wire.images import ImageManifest, Piece
from heorot.sim.images import PROGRAM
from tests.shells.rigs import IMAGE, Rig

HOSTS = ("daemon-of-a-head", "daemon-of-a-node", "simulated-head", "simulated-node")
NODES = ("daemon-of-a-node", "simulated-node")
ALL = list(range(IMAGE.layout.chunks))
ANSWERS = (Examined, CacheFailed, CopiesDropped, ViewMade)
on_hosts = pytest.mark.parametrize("rig", HOSTS, indirect=True)
on_nodes = pytest.mark.parametrize("rig", NODES, indirect=True)


def told(rig: Rig) -> list[Any]:
    """Let everything come, and return what the machine was told of the cache."""
    rig.settle()
    return rig.machine.of(*ANSWERS)


def keep(rig: Rig, chunks: list[int]) -> None:
    """Put the manifest and these chunks into the cache."""
    rig.do(Examine(IMAGE.image), KeepManifest(IMAGE.image, IMAGE.encoded))
    rig.until(lambda: len(rig.machine.of(Examined)) == 2)
    rig.do(*(KeepChunks(IMAGE.image, chunk, [IMAGE.chunk(chunk)]) for chunk in chunks))
    rig.settle()
    rig.machine.events.clear()


@on_hosts
def test_what_is_not_here_is_said_to_be_not_here(rig: Rig) -> None:
    rig.do(Examine(IMAGE.image))
    assert told(rig) == [Examined(IMAGE.image, b"", [])]


@on_hosts
def test_a_manifest_is_answered_and_chunks_are_not(rig: Rig) -> None:
    rig.do(Examine(IMAGE.image), KeepManifest(IMAGE.image, IMAGE.encoded))
    rig.until(lambda: len(rig.machine.of(Examined)) == 2)
    rig.do(KeepChunks(IMAGE.image, 0, [IMAGE.chunk(0), IMAGE.chunk(1)]), KeepChunks(IMAGE.image, 3, [IMAGE.chunk(3)]))
    absent, kept = told(rig)
    assert absent == Examined(IMAGE.image, b"", [])
    assert kept == Examined(IMAGE.image, IMAGE.encoded, [])
    rig.do(Examine(IMAGE.image))
    assert told(rig)[-1] == Examined(IMAGE.image, IMAGE.encoded, ranges_of(0b1011))


@on_hosts
def test_a_manifest_for_which_there_is_no_room_is_answered_by_that_alone(rig: Rig) -> None:
    rig.fill_disk()
    rig.do(KeepManifest(IMAGE.image, IMAGE.encoded))
    (failed,) = told(rig)
    assert type(failed) is CacheFailed
    assert failed.image == IMAGE.image
    assert failed.error


@on_hosts
def test_what_is_here_is_sent_and_the_machine_is_told_nothing(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    keep(rig, ALL)
    rig.do(SendManifest(IMAGE.image, link), SendChunks(IMAGE.image, link, 1, 2, False))
    rig.do(SendChunks(IMAGE.image, link, 0, 1, True))
    rig.until(lambda: len(neighbour.received) == 3)
    assert neighbour.received == [
        ImageManifest(IMAGE.image, IMAGE.encoded),
        Piece(IMAGE.image, 1, [IMAGE.chunk(1), IMAGE.chunk(2)]),
        Piece(IMAGE.image, 0, [IMAGE.chunk(0)]),
    ]
    assert told(rig) == []


@on_hosts
def test_what_is_to_be_sent_on_a_link_that_is_gone_is_dropped(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    keep(rig, ALL)
    rig.do(CloseLink(link, ""), SendManifest(IMAGE.image, link), SendChunks(IMAGE.image, link, 0, 1, False))
    rig.until(lambda: neighbour.ended)
    assert told(rig) == []
    assert neighbour.received == []


@on_hosts
def test_what_is_forgotten_is_still_here_while_there_is_room(rig: Rig) -> None:
    keep(rig, [0])
    rig.do(Forget(IMAGE.image))
    assert told(rig) == []
    rig.do(Examine(IMAGE.image))
    assert told(rig) == [Examined(IMAGE.image, IMAGE.encoded, ranges_of(0b1))]


@on_hosts
def test_what_is_said_to_be_in_a_store_is_looked_for_and_answered_once(rig: Rig) -> None:
    keep(rig, [0])
    rig.do(TakeShared(IMAGE.image, [0, IMAGE.layout.chunks]))
    rig.until(lambda: rig.machine.of(SharedTaken))
    rig.settle()
    (taken,) = rig.machine.of(SharedTaken)
    assert (taken.image, taken.chunks) == (IMAGE.image, [0, IMAGE.layout.chunks])
    # This host shares no store.
    assert mask_of(taken.found, IMAGE.layout.chunks) & ~1 == 0
    assert told(rig) == []


@on_hosts
def test_dropping_copies_is_answered_once(rig: Rig) -> None:
    rig.do(DropCopies([]))
    assert told(rig) == [CopiesDropped(False)]


@on_nodes
def test_a_view_of_all_that_is_here_is_made(rig: Rig) -> None:
    keep(rig, ALL)
    rig.do(MakeView(IMAGE.image))
    (made,) = told(rig)
    assert type(made) is ViewMade
    assert made.image == IMAGE.image
    assert made.path
    assert made.error == ""


@on_nodes
def test_a_comparison_is_decided_once_whatever_comes_before(rig: Rig) -> None:
    rig.do(Compare("1.1", PROGRAM, bytes(33)))
    rig.until(lambda: [event for event in rig.machine.of(Compared) if event.same is not None])
    rig.settle()
    *before, last = rig.machine.of(Compared)
    assert [event for event in before if event != Compared("1.1", None)] == []
    assert last.job == "1.1"
    assert last.same is not None
