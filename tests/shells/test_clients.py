"""A head's clients: what every shell tells the machine of them, and what it does not."""

from __future__ import annotations

import pytest

from heorot.core.machine import ClientClosed, ClientOpened, CloseClient, FromClient, Log, ToClient
from heorot.core.wire import clients as c
from tests.shells.rigs import Client, Rig, welcome

pytestmark = pytest.mark.parametrize("rig", ["daemon-of-a-head", "simulated-head"], indirect=True)


def opened(rig: Rig) -> tuple[int, Client]:
    """Let a client connect; return its number."""
    before = len(rig.machine.of(ClientOpened))
    client = rig.client()
    rig.until(lambda: len(rig.machine.of(ClientOpened)) > before)
    number: int = rig.machine.of(ClientOpened)[-1].client
    return number, client


def told(rig: Rig, number: int) -> list[object]:
    """Return what the machine was told of a client after its opening."""
    return [event for event in rig.machine.of(FromClient, ClientClosed) if event.client == number]


def test_a_client_gets_its_answers_in_order(rig: Rig) -> None:
    number, client = opened(rig)
    rig.do(ToClient(number, welcome(0)), ToClient(number, welcome(1)))
    rig.do(ToClient(number, welcome(2)))
    rig.until(lambda: len(client.received) == 3)
    rig.settle()
    assert client.received == ["0", "1", "2"]
    assert told(rig, number) == []


def test_a_client_that_the_machine_closes_gets_its_last_word_and_the_machine_is_not_told(rig: Rig) -> None:
    number, client = opened(rig)
    rig.do(ToClient(number, welcome(0)), CloseClient(number), ToClient(number, welcome(1)))
    rig.until(lambda: client.ended)
    rig.settle()
    assert client.received == ["0"]
    assert told(rig, number) == []


def test_of_a_client_that_the_machine_has_closed_not_even_what_was_on_its_way_is_told(rig: Rig) -> None:
    number, client = opened(rig)
    client.say(1)
    client.say(2)
    rig.do(CloseClient(number))
    rig.until(lambda: client.ended)
    rig.settle()
    assert told(rig, number) == []


def test_the_end_of_a_client_is_told_once_after_all_that_has_come(rig: Rig) -> None:
    number, client = opened(rig)
    client.say(1)
    client.say(2)
    client.close()
    rig.until(lambda: rig.machine.of(ClientClosed))
    rig.do(ToClient(number, welcome(0)), CloseClient(number), Log("info", "that did no harm"))
    rig.settle()
    assert told(rig, number) == [
        FromClient(number, c.ShowStatus(1)),
        FromClient(number, c.ShowStatus(2)),
        ClientClosed(number),
    ]


def test_no_number_of_a_client_is_used_again(rig: Rig) -> None:
    first, client = opened(rig)
    rig.do(CloseClient(first))
    rig.until(lambda: client.ended)
    assert opened(rig)[0] != first
