"""Rounds of questions for those who watch processes: whom they ask, when they are complete, and who is slow."""

from __future__ import annotations

import pytest

from heorot.core.head import watched_processes
from heorot.core.head.questions import Questions
from heorot.core.head.timers import GraceDue, QueryDue
from heorot.core.head.watched_processes import FIRST_PATIENCE_MS, PATIENCE_MS, WatchedProcesses
from heorot.core.machine import HeadInstruction, Log
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from tests.core.head.watching import Nodes
from tests.core.rigs import HeadRig, process


class Rounds:
    """The rounds of a head with three nodes, of which some answer."""

    def __init__(self) -> None:
        self.head = HeadRig(3)
        self.nodes = Nodes(self.head, 0, 1, 2)
        self.completed = 0
        self.said: list[HeadInstruction] = []
        """All that the head wanted."""
        questions: Questions = self.head.machine.requests.questions
        self.processes = WatchedProcesses(self.head.machine.context, questions, self._complete)

    def _complete(self) -> None:
        self.completed += 1

    def begin(self, mask: int = 0b111, job: str | None = None) -> list[int]:
        """Begin a round; return whom it asks, and let them answer."""
        self.said += self.head.sent
        self.head.looked()
        self.nodes.asked.clear()
        self.processes.begin(NodeSet(mask), job, 0)
        self.head.sent += self.head.machine.context.take()
        self.nodes.answer()
        return self.nodes.asked

    @property
    def known(self) -> list[int]:
        """The nodes of which processes are known."""
        return sorted({node for node, _pid in self.processes.table.rows})

    def patience(self, ms: int) -> None:
        """Let so much time pass, and see whether the round has lasted for long enough."""
        self.head.now += ms
        self.head.machine.context.now_ms = self.head.now
        self.processes.wait_no_longer()

    def time_out(self) -> None:
        """Let the time of the oldest question be over."""
        number = min(self.head.machine.requests.questions.queries)
        self.head.wait(10_000, QueryDue(number))


def test_a_round_is_complete_when_all_have_answered() -> None:
    rounds = Rounds()
    assert rounds.begin() == [0, 1, 2]
    assert (rounds.completed, rounds.known, rounds.processes.missing) == (1, [0, 1, 2], 0)
    assert rounds.processes.last is not None
    assert rounds.processes.last.covers(NodeSet(0b101), "1.1")
    assert not rounds.processes.last.covers(NodeSet(0b1001), None)


def test_who_is_asked_for_a_job_has_not_said_all() -> None:
    rounds = Rounds()
    rounds.begin(job="1.1")
    last = rounds.processes.last
    assert last is not None
    assert last.covers(NodeSet(0b1), "1.1")
    assert not last.covers(NodeSet(0b1), None)


def test_whose_processes_nobody_watches_is_forgotten_and_who_is_down_is_missing() -> None:
    rounds = Rounds()
    rounds.begin()
    rounds.head.close(2)
    rounds.head.wait(5_000, GraceDue(2))
    rounds.begin(0b101)
    assert (rounds.known, rounds.processes.missing) == ([0], 0b100)


def test_a_node_that_goes_is_not_waited_for() -> None:
    rounds = Rounds()
    rounds.begin()
    rounds.nodes.silent.add(1)
    rounds.begin()
    assert rounds.completed == 1
    rounds.head.up(1, m.SpaceGone(7))
    assert (rounds.completed, rounds.known, rounds.processes.missing) == (2, [0, 2], 0b010)


def test_a_node_that_hangs_is_waited_for_once_and_asked_again_when_its_time_is_over() -> None:
    rounds = Rounds()
    rounds.nodes.silent.add(1)
    rounds.begin()
    assert rounds.completed == 0
    rounds.time_out()
    assert (rounds.completed, rounds.processes.missing) == (1, 0b010)
    assert rounds.begin() == [0, 1, 2]
    assert rounds.completed == 2, "it is slow"
    assert rounds.begin() == [0, 2], "it owes an answer"
    assert rounds.completed == 3
    rounds.time_out()
    assert rounds.begin() == [0, 1, 2]
    assert len(rounds.head.machine.requests.questions.queries) == 1


def test_one_of_which_something_is_known_is_waited_for_less_long_and_shown_as_it_was() -> None:
    rounds = Rounds()
    assert rounds.begin(0b011) == [0, 1]
    rounds.nodes.silent.update((1, 2))
    rounds.begin()
    rounds.patience(PATIENCE_MS)
    assert rounds.processes.current is not None, "of n2 nothing is known yet"
    rounds.patience(FIRST_PATIENCE_MS - PATIENCE_MS)
    assert rounds.processes.current is None
    assert (rounds.known, rounds.processes.missing) == ([0, 1], 0b100)
    rounds.nodes.processes[0] = []
    assert rounds.begin() == [0], "the others owe an answer"
    assert rounds.processes.current is None
    assert (rounds.known, rounds.processes.missing) == ([1], 0b100)
    rounds.time_out()
    assert (rounds.known, rounds.processes.missing) == ([], 0b110)


def test_a_slow_node_that_answers_late_is_believed_and_waited_for_again() -> None:
    rounds = Rounds()
    rounds.nodes.silent.add(1)
    rounds.begin()
    rounds.time_out()
    rounds.begin()
    (query,) = [question.query for question in rounds.head.machine.requests.questions.queries.values()]
    rounds.nodes.reply(1, query)
    assert (rounds.known, rounds.processes.missing) == ([0, 1, 2], 0)
    rounds.begin()
    assert rounds.completed == 2


def test_a_round_of_nobody_is_complete_at_once_and_nobody_is_called() -> None:
    rounds = Rounds()
    assert rounds.begin(0) == []
    assert rounds.processes.current is None
    assert rounds.processes.last is not None
    assert rounds.completed == 0


def test_what_it_holds_is_weighed() -> None:
    rounds = Rounds()
    rounds.begin()
    before = rounds.processes.size_bytes
    rounds.nodes.processes[0] = [process(pid) for pid in range(10)]
    rounds.begin()
    assert rounds.processes.size_bytes == before * 12 // 3
    rounds.nodes.processes = {node: [] for node in range(3)}
    rounds.begin()
    assert rounds.processes.size_bytes == 0


def test_a_node_with_too_much_to_say_takes_no_room_from_the_others() -> None:
    rounds = Rounds()
    rounds.nodes.processes[1] = [process(pid) for pid in range(1, 101)]
    rounds.begin()
    held_bytes, taken_bytes = rounds.processes.size_bytes, rounds.processes._bytes[1]
    assert rounds.known == [0, 1, 2]
    limit_bytes = held_bytes + taken_bytes // 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watched_processes, "MAX_TABLE_BYTES", limit_bytes)
        for _ in range(3):
            rounds.begin()
    assert (rounds.known, rounds.processes.missing) == ([0, 2], 0b010)
    assert rounds.processes.size_bytes == held_bytes - taken_bytes
    (said,) = [item.text for item in rounds.said if isinstance(item, Log) and item.level == "warning"]
    assert "n1 has 0 MiB of processes: who watches does not see them" in said
    rounds.begin()
    assert (rounds.known, rounds.processes.missing) == ([0, 1, 2], 0)
