"""For whom a node may speak that passes clients on: for nobody of whom no job runs there, and never for root."""

from __future__ import annotations

from heorot.core.machine import ClientOpened, CloseClient, FromClient, NodesRemoved
from heorot.core.wire import clients as c
from tests.core.head.test_quotas import ALICE, BOB, end, enter, launch
from tests.core.rigs import HeadRig

KEY = b"k" * 16


def comes_to(head: HeadRig, node: int, client: int, uid: int, holder: bytes = b"") -> None:
    """Let a user connect to a node's agent and greet."""
    head.give(ClientOpened(client, f"u{uid}", uid, uid, (), node, holder))
    head.give(FromClient(client, c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test")))
    head.looked()


def asks(head: HeadRig, client: int, request: int = 1) -> str:
    """Let a client ask something; return the code of the refusal, or nothing."""
    head.looked()
    head.ask(c.ShowStatus(request), client)
    (answer,) = head.told(client)
    return answer.code if isinstance(answer, c.Error) else ""


def rig() -> HeadRig:
    head = HeadRig(2)
    head.attach(0)
    head.attach(1)
    return head


def test_a_node_speaks_for_whom_a_job_runs_there_and_only_as_long() -> None:
    head = rig()
    enter(head, 1, ALICE)
    job = launch(head, 1)
    comes_to(head, 0, 2, ALICE)
    assert asks(head, 2) == ""
    comes_to(head, 1, 3, ALICE)
    assert asks(head, 3) == "not-permitted"
    comes_to(head, 0, 4, BOB)
    assert asks(head, 4) == "not-permitted"
    end(head, job)
    assert asks(head, 2) == "not-permitted"


def test_what_it_asks_for_is_done_in_the_name_of_that_user() -> None:
    head = rig()
    enter(head, 1, ALICE)
    launch(head, 1)
    comes_to(head, 0, 2, ALICE)
    job = launch(head, 2, request=7)
    assert head.machine.jobs.jobs[job].ticket.uid == ALICE
    enter(head, 3, BOB)
    theirs = launch(head, 3)
    head.looked()
    head.ask(c.Wait(9, theirs), 2)
    (answer,) = head.told(2)
    assert isinstance(answer, c.Error)


def test_a_node_never_speaks_for_root() -> None:
    head = rig()
    enter(head, 1, 0)
    launch(head, 1)
    head.looked()
    head.give(ClientOpened(2, "root", 0, 0, (), 0))
    (answer,) = head.told(2)
    assert (answer.code, answer.request) == ("not-permitted", 0)
    assert CloseClient(2) in head.sent
    head.give(FromClient(2, c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test")))
    assert not head.machine.clients.connected - 1


def test_a_node_that_was_removed_speaks_for_nobody() -> None:
    head = rig()
    enter(head, 1, ALICE)
    launch(head, 1)
    head.give(NodesRemoved((0,)))
    head.looked()
    head.give(ClientOpened(2, "alice", ALICE, ALICE, (), 0, KEY))
    (answer,) = head.told(2)
    assert answer.code == "not-permitted"
    assert "removed" in answer.message


def test_a_head_that_is_new_lets_a_node_wait_until_it_knows_what_runs_there() -> None:
    head = HeadRig(2, settle_ms=5_000)
    comes_to(head, 0, 2, ALICE)
    head.looked()
    head.ask(c.ShowStatus(5), 2)
    assert head.told(2) == []
