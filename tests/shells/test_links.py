"""Links, timers and the end: what every shell tells its machine, and what it does not."""

from __future__ import annotations

import pytest

from heorot.core.machine import (
    CloseClient,
    CloseLink,
    Connect,
    ConnectFailed,
    LinkClosed,
    LinkOpened,
    Log,
    Received,
    Send,
    SetTimer,
    Stop,
    TimerFired,
    ToSpace,
)
from heorot.core.timers import HeartbeatDue
from heorot.sim.timed.timeline import Unexpected
from tests.shells.rigs import Rig, word

CONNECT = ("daemon-of-a-head", "daemon-of-a-node", "simulated-head", "simulated-node", "timed-node")
"""Who looks for others."""
END = ("daemon-of-a-head", "daemon-of-a-node", "simulated-head", "simulated-node")
"""Who may be told to end."""


def test_a_neighbour_gets_the_messages_of_a_link_in_order(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    rig.do(*(Send(link, word(number)) for number in range(3)))
    rig.do(Send(link, word(3)))
    rig.until(lambda: len(neighbour.received) == 4)
    rig.settle()
    assert neighbour.received == [word(number) for number in range(4)]
    assert rig.machine.of_link(link) == []


def test_what_was_sent_before_a_close_arrives_and_then_the_end(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    rig.do(Send(link, word(0)), Send(link, word(1)), CloseLink(link, "enough"), Send(link, word(2)))
    rig.until(lambda: neighbour.ended)
    rig.settle()
    assert neighbour.received == [word(0), word(1)]
    # The machine has closed it: it is not told so.
    assert rig.machine.of_link(link) == []


def test_of_a_link_that_the_machine_has_closed_not_even_what_was_on_its_way_is_told(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    neighbour.say(word(0))
    neighbour.say(word(1))
    rig.do(CloseLink(link, "enough"))
    rig.until(lambda: neighbour.ended)
    rig.settle()
    assert rig.machine.of_link(link) == []


def test_the_end_of_a_link_is_told_once_after_all_that_has_come(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    neighbour.say(word(0))
    neighbour.say(word(1))
    neighbour.close()
    rig.until(lambda: rig.machine.of(LinkClosed))
    rig.do(Send(link, word(2)), CloseLink(link, "it is gone"), Log("info", "that did no harm"))
    rig.settle()
    reason = rig.machine.of(LinkClosed)[0].reason
    expected = [Received(link, word(0)), Received(link, word(1)), LinkClosed(link, reason)]
    assert rig.machine.of_link(link) == expected


def test_no_number_of_a_link_is_used_again(rig: Rig) -> None:
    numbers = []
    for _ in range(3):
        link, neighbour = rig.neighbour()
        numbers.append(link)
        rig.do(CloseLink(link, "the next one, please"))
        rig.until(lambda closing=neighbour: closing.ended)  # type: ignore[misc]
    assert len(set(numbers)) == 3


@pytest.mark.parametrize("rig", CONNECT, indirect=True)
def test_a_connection_that_is_made_is_answered_once_by_its_key(rig: Rig) -> None:
    neighbour, host, port = rig.listening()
    rig.do(Connect("that one", host, port, 60_000))
    rig.until(lambda: rig.machine.of(LinkOpened))
    rig.settle()
    (opened,) = rig.machine.of(LinkOpened, ConnectFailed)
    assert opened.connected_for == "that one"
    assert opened.peer == 1
    rig.do(Send(opened.link, word(0)), CloseLink(opened.link, "that is all"))
    rig.until(lambda: neighbour.ended)
    assert neighbour.received == [word(0)]


@pytest.mark.parametrize("rig", CONNECT, indirect=True)
def test_a_connection_that_cannot_be_made_is_answered_once_by_its_key(rig: Rig) -> None:
    host, port = rig.nobody()
    rig.do(Connect("nobody", host, port, 5_000))
    rig.until(lambda: rig.machine.of(ConnectFailed))
    rig.settle()
    (failed,) = rig.machine.of(LinkOpened, LinkClosed, ConnectFailed)
    assert failed.key == "nobody"


def test_a_timer_that_is_moved_fires_once_and_never_too_early(rig: Rig) -> None:
    moved, second = HeartbeatDue(), rig.now_ms() + 60
    rig.do(SetTimer(moved, second - 40), SetTimer(moved, second))
    rig.until(lambda: rig.machine.of(TimerFired))
    assert rig.machine.times_ms[rig.machine.events.index(TimerFired(moved))] >= second
    rig.settle()
    assert rig.machine.of(TimerFired) == [TimerFired(moved)]


def test_a_timer_that_is_due_fires_after_the_turn_in_which_it_was_set(rig: Rig) -> None:
    # The machine itself sees that it is told of nothing in the midst of what it says.
    rig.do(SetTimer(HeartbeatDue(), 0), Log("info", "before"), Log("info", "the end of the turn"))
    rig.until(lambda: rig.machine.of(TimerFired))
    rig.settle()
    assert rig.machine.of(TimerFired) == [TimerFired(HeartbeatDue())]


@pytest.mark.parametrize("rig", END, indirect=True)
def test_a_machine_that_has_stopped_is_told_nothing_more_and_what_it_has_closed_ends_in_order(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    told = len(rig.machine.events)
    rig.do(Send(link, word(0)), CloseLink(link, "the end"), SetTimer(HeartbeatDue(), 0), Stop("enough"))
    rig.until(lambda: neighbour.ended)
    rig.settle()
    assert neighbour.received == [word(0)]
    assert rig.machine.events[told:] == []


@pytest.mark.parametrize("rig", ["timed-head", "timed-node"], indirect=True)
def test_the_simulator_of_launch_times_has_no_end(rig: Rig) -> None:
    with pytest.raises(Unexpected, match="enough"):
        rig.do(Stop("enough"))


def test_what_only_the_other_kind_of_machine_may_say_raises(rig: Rig) -> None:
    link, neighbour = rig.neighbour()
    foreign = ToSpace(b"") if rig.is_head else CloseClient(1)
    with pytest.raises(AssertionError, match=f"cannot carry out {type(foreign).__name__}"):
        rig.do(Send(link, word(0)), foreign, Send(link, word(1)))
    rig.settle()
    assert neighbour.received == [word(0)]


@pytest.mark.parametrize("rig", ["timed-head"], indirect=True)
@pytest.mark.parametrize("item", [CloseClient(1), Connect("k", "n1", 1, 1)])
def test_a_head_whose_launch_is_timed_has_one_client_and_no_rival(rig: Rig, item: object) -> None:
    with pytest.raises(Unexpected):
        rig.do(item)
