"""Who is asked for an image that several users offer: nobody can keep it from another by offering it."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from heorot.core.head.offers import SILENT_LOOKS
from heorot.core.head.timers import SeekDue
from heorot.core.machine import Examined, KeepChunks, Received, Send
from heorot.core.wire import clients as c
from heorot.core.wire import images as i
from tests.core.head.test_quotas import enter
from tests.core.images.hops import Sample
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig

ALICE, BOB = 1000, 1001
BOBS = range(200, 260)
SAMPLE = Sample(Random(1), [200_000])
IMAGE = SAMPLE.image


def launch(head: HeadRig, client: int) -> None:
    """Launch the program of the image."""
    fields: dict[str, Any] = {"detached": False, "image": IMAGE, "program": b"/f0"}
    head.ask(spawn_of(1, "n0", argv=[b"/f0"], stdin=None, stdout=None, stderr=None, **fields), client)


def stage(head: HeadRig, client: int) -> None:
    """Let a client offer the image."""
    head.ask(c.Stage(2, IMAGE), client)


def lack(head: HeadRig) -> None:
    """Let the node lack the image, as does the head's cache."""
    head.give(Received(head.links[0], i.Want(IMAGE, manifest=True, chunks=[])))
    head.give(Examined(IMAGE, b"", []))


def asked(head: HeadRig, *clients: int) -> list[int]:
    """Return which of these clients were asked since it was looked at last."""

    def is_asked(message: object) -> bool:
        return isinstance(message, c.ImageWanted) and bool(message.manifest or message.chunks)

    return [client for client in clients if any(is_asked(message) for message in head.told(client))]


def refusals(head: HeadRig) -> list[str]:
    """Return why the node was told that it cannot have the image."""
    found = [item.message for item in head.sent if isinstance(item, Send)]
    return [message.text for message in found if isinstance(message, i.Unavailable)]


@pytest.fixture
def head() -> HeadRig:
    """A head with one node, Alice, and Bob with many clients."""
    made = HeadRig(1)
    made.attach(0)
    enter(made, 1, ALICE)
    for client in BOBS:
        enter(made, client, BOB)
    return made


def pass_looks(head: HeadRig) -> None:
    """Let the time pass after which a silent client is left."""
    head.looked()
    for _ in range(SILENT_LOOKS):
        head.wait(1000, SeekDue())


@pytest.mark.parametrize("offer", [stage, launch])
def test_a_client_that_says_nothing_is_left_for_another_users(
    head: HeadRig, offer: Callable[[HeadRig, int], None]
) -> None:
    offer(head, BOBS[0])
    lack(head)
    assert asked(head, 1, *BOBS) == [BOBS[0]]
    for client in BOBS[1:]:
        offer(head, client)
    launch(head, 1)
    pass_looks(head)
    assert asked(head, 1, *BOBS) == [1]
    assert c.ImageWanted(IMAGE, False, []) in head.told(BOBS[0])


def test_who_launched_it_is_asked_before_who_offers_it(head: HeadRig) -> None:
    for client in BOBS:
        stage(head, client)
    head.give(Examined(IMAGE, b"", []))
    assert asked(head, 1, *BOBS) == [BOBS[0]]
    launch(head, 1)
    head.looked()
    head.give(Received(head.links[0], i.Want(IMAGE, manifest=True, chunks=[])))
    assert asked(head, 1, *BOBS) == [1]


def test_a_refusal_is_the_end_for_one_client_alone(head: HeadRig) -> None:
    launch(head, BOBS[0])
    launch(head, 1)
    lack(head)
    assert asked(head, 1, *BOBS) == [BOBS[0]]
    head.looked()
    head.ask(c.NotOffered(IMAGE, "ha ha"), BOBS[0])
    assert asked(head, 1, *BOBS) == [1]
    assert refusals(head) == []
    head.ask(c.NotOffered(IMAGE, "the file has changed"), 1)
    head.give(Received(head.links[0], i.Unavailable(IMAGE, "it is not all here")))
    assert refusals(head) == ["no client that has the program could send it: launch it again on these nodes"]


def test_a_user_is_told_the_words_of_his_own_client(head: HeadRig) -> None:
    launch(head, 1)
    lack(head)
    head.ask(c.NotOffered(IMAGE, "not asked, and heard by nobody"), BOBS[0])
    assert refusals(head) == []
    head.ask(c.NotOffered(IMAGE, "the file has changed"), 1)
    head.give(Received(head.links[0], i.Unavailable(IMAGE, "it is not all here")))
    assert refusals(head) == ["the file has changed"]


def test_damage_of_one_user_does_not_spoil_it_for_others(head: HeadRig) -> None:
    launch(head, BOBS[0])
    launch(head, 1)
    lack(head)
    head.ask(c.OfferedManifest(IMAGE, SAMPLE.encoded), BOBS[0])
    head.give(Examined(IMAGE, SAMPLE.encoded, []))
    head.looked()
    head.give(Received(head.links[0], i.Want(IMAGE, manifest=False, chunks=[0, 1])))
    head.give(Examined(IMAGE, SAMPLE.encoded, []))
    assert asked(head, 1, *BOBS) == [BOBS[0]]
    head.looked()
    for _ in range(20):
        head.ask(c.OfferedPiece(IMAGE, 0, [b"damaged"]), BOBS[0])
        head.ask(c.OfferedPiece(IMAGE, 0, [b"damaged"]), BOBS[1])
    assert refusals(head) == []
    assert asked(head, 1, *BOBS) == [1]
    head.ask(c.OfferedPiece(IMAGE, 0, [SAMPLE.chunk(0)]), 1)
    assert refusals(head) == []
    kept = [item for item in head.sent if isinstance(item, KeepChunks)]
    assert [(item.first, item.chunks) for item in kept] == [(0, [SAMPLE.chunk(0)])]


def test_of_one_client_alone_nothing_is_asked_twice(head: HeadRig) -> None:
    launch(head, 1)
    lack(head)
    pass_looks(head)
    assert asked(head, 1) == []
