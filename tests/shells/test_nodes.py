"""What a node's agent keeps, and what it says to its process space: the same in every shell."""

from __future__ import annotations

import pytest

from heorot.core.machine import FromSpace, Kept, Remember, Send, SendEncoded, ToSpace
from heorot.core.wire import tree as m
from tests.shells.rigs import Rig, word

NODES = ("daemon-of-a-node", "simulated-node", "timed-node")
WITH_DISK = ("daemon-of-a-node", "simulated-node")


@pytest.mark.parametrize("rig", NODES, indirect=True)
def test_only_what_must_survive_is_answered_and_once(rig: Rig) -> None:
    rig.do(Remember("placement", b"here"), Remember("epoch", b"7", True))
    rig.until(lambda: rig.machine.of(Kept))
    rig.settle()
    assert rig.machine.of(Kept) == [Kept("epoch", b"7", "")]


@pytest.mark.parametrize("rig", WITH_DISK, indirect=True)
def test_the_next_machine_is_given_the_newest_value(rig: Rig) -> None:
    rig.do(Remember("placement", b"there"), Remember("placement", b"here"), Remember("epoch", b"7", True))
    rig.until(lambda: rig.machine.of(Kept))
    assert rig.restarted("placement") == b"here"
    assert rig.restarted("epoch") == b"7"


@pytest.mark.parametrize("rig", NODES, indirect=True)
def test_the_process_space_is_asked_in_order(rig: Rig) -> None:
    jobs = ["1.3", "1.1", "1.2"]
    before = len(rig.machine.of(FromSpace))
    rig.do(*(ToSpace(m.encode(m.FetchLaunch(job))) for job in jobs))
    rig.until(lambda: len(rig.machine.of(FromSpace)) == before + 3)
    answers = [m.decode_space_answer(event.payload) for event in rig.machine.of(FromSpace)[before:]]
    assert answers == [m.LaunchCopy(job, b"", b"") for job in jobs]


@pytest.mark.parametrize("rig", NODES, indirect=True)
def test_what_is_encoded_already_stays_in_order_with_the_rest(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    encoded = m.encode(word(1))
    rig.do(Send(link, word(0)), SendEncoded(link, encoded), Send(link, word(2)), SendEncoded(99_999, encoded))
    rig.until(lambda: len(neighbour.received) == 3)
    assert neighbour.received == [word(0), word(1), word(2)]
