"""What a job has on its way is bounded by its head, whatever turns its client gives."""

from __future__ import annotations

from heorot.core.client import stream_turns
from heorot.core.head.given_turns import TURNS_AT_ONCE
from heorot.core.head.timers import GraceDue
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.rigs import HeadRig

NODES = 64
SPARE_BYTES = 4 * 1024 * 1024
ANY = 1 << 60


class Giver:
    """A client that gives turns to all streams of a job, and a head."""

    def __init__(self) -> None:
        self.head = HeadRig(NODES)
        for node in range(NODES):
            self.head.attach(node)
        self.head.client()
        self.job = self.head.spawn(f"0-{NODES - 1}")
        self.window_bytes = self.head.machine.jobs.jobs[self.job].ticket.window_bytes

    def give(self, *ranks: int, offset: int = 0) -> list[int]:
        """Give a turn to the stdout of these ranks; return the ranks that have one then."""
        self.head.looked()
        for rank in ranks:
            self.head.ask(c.ClientAck(self.job, rank, 1, offset, ANY))
        acks = [ack for _, ack in self.head.commands(m.Ack)]
        assert [ack.rank for ack in acks] == list(ranks)
        assert all(ack.limit <= offset + self.window_bytes + SPARE_BYTES // TURNS_AT_ONCE for ack in acks)
        return [ack.rank for ack in acks if ack.limit]

    def write(self, rank: int, offset: int, size: int, in_turn: bool = True) -> None:
        """Let a rank write to its stdout."""
        self.head.up(rank, m.Output(self.job, rank, 1, offset, bytes(size), in_turn=in_turn))


def test_a_head_lets_as_many_streams_have_turns_as_a_client_gives() -> None:
    assert TURNS_AT_ONCE == stream_turns.TURNS_AT_ONCE


def test_who_gives_turns_to_all_streams_has_few_of_them_send_much() -> None:
    giver = Giver()
    assert giver.give(*range(NODES)) == [0, 1, 2, 3]
    assert giver.give(0, 4) == [0]


def test_a_turn_is_over_when_all_of_it_has_passed_or_its_node_says_so() -> None:
    giver = Giver()
    giver.give(0, 1, 2, 3)
    giver.write(0, 0, giver.window_bytes)
    assert giver.give(4) == []
    giver.write(0, giver.window_bytes, SPARE_BYTES // TURNS_AT_ONCE)
    assert giver.give(4, 5) == [4]
    giver.write(1, 0, 10, in_turn=False)
    assert giver.give(5, 6) == [5]


def test_a_turn_is_over_with_its_rank_when_nothing_more_will_come() -> None:
    giver = Giver()
    giver.give(0, 1, 2, 3)
    giver.write(0, 0, 100)
    giver.head.report(0, giver.job, exited=[0, 0, 101, 0])
    assert giver.give(4) == []
    giver.write(0, 100, 1)
    assert giver.give(4, 5) == [4]
    giver.head.close(1)
    giver.head.wait(5_000, GraceDue(1))
    assert giver.give(5, 6) == [5]
    giver.head.report(2, giver.job, exited=[2, 0, 50, 0])
    giver.head.close(2)
    giver.head.wait(5_000, GraceDue(2))
    assert giver.give(6, 7) == [6], "what it has written is gone with its node"


def test_another_reader_gives_turns_anew() -> None:
    giver = Giver()
    giver.give(0, 1, 2, 3)
    giver.head.ask(c.AttachJob(7, giver.job, False, True))
    assert giver.give(4, 5, 6, 7, 8) == [4, 5, 6, 7]
