"""What the head's queues do when one user wants all of them: in the core, where every table can be seen."""

from __future__ import annotations

from typing import Any

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.machine import ClientOpened, FromClient
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import spawn_of
from tests.core.rigs import HeadRig

ALICE, BOB, OWNER = 1000, 1001, 50


def enter(head: HeadRig, client: int, uid: int) -> None:
    """Let a user connect and greet."""
    head.give(ClientOpened(client, f"u{uid}", uid, uid, ()))
    head.give(FromClient(client, c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test")))
    head.looked()


def launch(head: HeadRig, client: int, request: int = 1, **changes: Any) -> str:
    """Launch a detached job; return its id, or the code of the refusal."""
    head.looked()
    fields = {"detached": True, **changes}
    head.ask(spawn_of(request, "n0", stdin=None, stdout=None, stderr=None, **fields), client)
    if head.commands(m.FetchLaunch):
        head.confirm()
    answer = next(message for message in head.told(client) if isinstance(message, c.Spawned | c.Error))
    return answer.job if isinstance(answer, c.Spawned) else answer.code


def end(head: HeadRig, job: str) -> None:
    """Let the only rank of a job end."""
    head.report(0, job, [0, 5], [0, 0, 0, 0])


def test_waits_are_counted_until_they_are_answered_or_their_client_goes() -> None:
    head = HeadRig(1, max_waits=32)
    head.attach(0)
    enter(head, 1, ALICE)
    enter(head, 2, ALICE)
    first, second = launch(head, 1), launch(head, 1)
    for request in range(10):
        head.ask(c.Wait(request, first), 1)
        head.ask(c.Wait(request, second), 2)
    waits = head.machine.jobs.attendance.waits.held
    assert waits == {ALICE: 15}
    head.leave(2)
    assert waits == {ALICE: 8}
    end(head, first)
    assert waits == {}


def test_while_a_head_settles_one_user_does_not_fill_what_waits() -> None:
    head = HeadRig(2, max_waits=32, settle_ms=5_000)
    enter(head, 1, ALICE)
    enter(head, 2, BOB)
    for request in range(100):
        head.ask(c.Wait(request, "0.1"), 1)
    refused = [message for message in head.told(1) if isinstance(message, c.Error)]
    assert len(refused) == 85
    assert "requests that wait for the head to know its nodes" in refused[0].message
    head.ask(c.Wait(1, "0.1"), 2)
    assert head.told(2) == []
    head.leave(1)
    head.leave(2)
    assert not head.machine.settling.waits


def test_while_a_head_settles_one_user_does_not_fill_its_memory_with_input() -> None:
    head = HeadRig(2, settle_ms=5_000)
    enter(head, 1, ALICE)
    head.ask(c.AttachJob(1, "0.1", False, True), 1)
    for taken in range(30):
        head.ask(c.ClientStdin("0.1", -1, taken << 20, bytes(1 << 20), False), 1)
    with pytest.raises(ProtocolError, match=r"at most 64 MiB of requests that wait .* u1000 has 30 and"):
        head.ask(c.ClientStdin("0.1", -1, 30 << 20, bytes(1 << 20), False), 1)


def test_while_a_head_settles_one_user_does_not_fill_its_memory_with_launches() -> None:
    head = HeadRig(2, settle_ms=5_000)
    enter(head, 1, ALICE)
    for request in range(1, 51):
        ask = spawn_of(request, "n0", argv=[b"a"], environment=[b"x" * (1 << 20)], stdin=None, stdout=None, stderr=None)
        head.ask(ask, 1)
    refused = [message for message in head.told(1) if isinstance(message, c.Error)]
    assert len(refused) == 20, "half of what there is for all"
    assert {message.code for message in refused} == {"busy"}


def test_what_waits_weighs_more_than_its_bytes_if_it_is_a_list_of_many() -> None:
    head = HeadRig(2, settle_ms=5_000)
    enter(head, 1, ALICE)
    for request in range(1, 6):
        head.ask(c.Signal(request, "0.1", [1] * 200_000, None, 9), 1)
    assert [message.request for message in head.told(1)] == [3, 4, 5]


def test_programs_that_are_handed_over_are_shared() -> None:
    head = HeadRig(1, max_stages=16)
    head.attach(0)
    enter(head, 1, ALICE)
    enter(head, 2, BOB)
    for request in range(20):
        head.ask(c.Stage(request + 1, bytes(31) + bytes([request])), 1)
    refused = [message for message in head.told(1) if isinstance(message, c.Error)]
    assert {message.code for message in refused} == {"busy"}
    assert "max_stages" in refused[0].message
    head.looked()
    head.ask(c.Stage(1, bytes(31) + b"x"), 2)
    assert not [message for message in head.told(2) if isinstance(message, c.Error)]
