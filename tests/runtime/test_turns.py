"""Users are served by turns: root first, nobody for long, and between two turns the loop goes on."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from heorot.core.client.messages import CLIENT_PROTOCOL_VERSION
from heorot.core.machine import ClientClosed, ClientOpened, FromClient
from heorot.runtime.clients import Clients
from heorot.runtime.loop import EpollLoop
from heorot.runtime.turns import TURN_S, USER_S, Turns
from tests.runtime.conftest import Clock

ROOT, ALICE, BOB = 0, 1000, 1001


class Served:
    """What was served, and with what each message takes."""

    def __init__(self, loop: EpollLoop, clock: Clock) -> None:
        self.loop = loop
        self.clock = clock
        self.turns = Turns(loop, lambda uid: uid == ROOT, lambda n: self.held.append(n), lambda n: self.freed.append(n))
        self.held: list[int] = []
        self.freed: list[int] = []
        self.clients: list[int] = []

    def put(self, uid: int, client: int, messages: int = 1, takes_s: float = USER_S) -> None:
        """Let a client send messages."""
        for _ in range(messages):
            self.turns.put(uid, client, lambda: self._act(client, takes_s))

    def _act(self, client: int, takes_s: float) -> None:
        self.clients.append(client)
        self.clock.pass_over(takes_s)

    def turn(self) -> list[int]:
        """Let the loop go round once; return who was served."""
        del self.clients[:]
        self.loop.run_once(0)
        return list(self.clients)


@pytest.fixture
def served(loop: EpollLoop, clock: Clock) -> Served:
    """Turns on a clock of the test."""
    return Served(loop, clock)


def test_what_is_little_is_served_in_the_same_round(served: Served) -> None:
    served.put(ALICE, 1, 10, takes_s=0)
    served.put(BOB, 2, takes_s=0)
    assert served.turn() == [1] * 10 + [2]
    assert served.held == []


def test_root_goes_first_however_much_others_want(served: Served) -> None:
    for client in range(1, 100):
        served.put(ALICE, client, 100)
    assert len(served.turn()) == 1
    served.put(BOB, 200)
    served.put(ROOT, 300)
    assert served.turn()[::2] == [300, 200]


def test_clients_of_a_user_are_served_by_turns(served: Served) -> None:
    for client in (1, 2, 3):
        served.put(ALICE, client, 100)
    assert [served.turn() for _ in range(6)] == [[1], [2], [3], [1], [2], [3]]


def test_many_users_do_not_make_a_turn_longer_and_each_has_its_turn(served: Served) -> None:
    users = range(2000, 2100)
    for uid in users:
        served.put(uid, uid, 2)
    turns = [served.turn() for _ in range(100)]
    assert max(len(turn) for turn in turns) <= TURN_S / USER_S + 1
    flat = [client for turn in turns for client in turn]
    assert flat[:100] == list(users)
    assert sorted(flat) == sorted([*users, *users])


def test_timers_have_their_turn_in_between(served: Served) -> None:
    served.put(ALICE, 1, 10)
    beats: list[int] = []
    for _ in range(10):
        served.loop.call_at(served.loop.time(), lambda: beats.append(1))
        served.turn()
    assert len(beats) == 10


def test_of_a_client_that_waits_nothing_is_read_until_it_was_served(served: Served) -> None:
    served.put(ALICE, 1, 3)
    served.turn()
    assert (served.held, served.freed) == ([1], [])
    served.turn()
    served.turn()
    assert (served.held, served.freed) == ([1], [1])


def test_what_a_client_wanted_is_forgotten_with_it(served: Served) -> None:
    served.put(ALICE, 1, 3)
    served.put(ALICE, 2, 1)
    served.turn()
    served.turns.drop(ALICE, 1)
    assert not served.turns.is_waiting(ALICE, 1)
    assert [served.turn(), served.turn()] == [[2], []]


def test_an_end_comes_after_all_that_was_sent(
    loop: EpollLoop, clock: Clock, tmp_path: Path, until: Callable[[Callable[[], object]], None]
) -> None:
    events: list[Any] = []

    def feed(event: Any) -> None:
        events.append(event)
        clock.pass_over(USER_S)

    clients = Clients(loop, tmp_path / "head.sock", feed, lambda level, text: None)
    clients.listen()
    frame = msgpack.packb(["hello", CLIENT_PROTOCOL_VERSION, "test"])
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "head.sock"))
        sock.sendall((struct.pack(">I", len(frame)) + frame) * 20)
    until(lambda: events and type(events[-1]) is ClientClosed)
    clients.close()
    assert [type(event) for event in events] == [ClientOpened] + [FromClient] * 20 + [ClientClosed]


def test_a_client_that_floods_is_read_no_faster_than_it_is_served(
    loop: EpollLoop, clock: Clock, tmp_path: Path
) -> None:
    served: list[Any] = []

    def feed(event: Any) -> None:
        served.append(event)
        clock.pass_over(USER_S)

    clients = Clients(loop, tmp_path / "head.sock", feed, lambda level, text: None)
    clients.listen()
    payload = msgpack.packb(["hello", CLIENT_PROTOCOL_VERSION, "x" * 60_000])
    flood = (struct.pack(">I", len(payload)) + payload) * 10
    sent_bytes = 0
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(tmp_path / "head.sock"))
        sock.setblocking(False)
        while len(served) < 100:
            with contextlib.suppress(BlockingIOError):
                sent_bytes += sock.send(flood[sent_bytes % len(flood) :])
            loop.run_once(0)
        # What was served, one read, and what the kernel holds.
        assert sent_bytes < 100 * len(payload) + 2 * 1024 * 1024
        clients.close()
