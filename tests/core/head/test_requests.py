"""What a request costs the head, in calls: nobody else is served while it is answered."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import MAX_RANKS
from tests.core.head.test_quotas import enter
from tests.core.rigs import HeadRig

NODES = 6
ALICE = 1000


def head_of(nodes: int = NODES) -> HeadRig:
    """Return a head with nodes that are up, and a user."""
    head = HeadRig(nodes, pid_range=1000)
    for node in range(nodes):
        head.attach(node)
    enter(head, 2, ALICE)
    head.looked()
    return head


def asked(head: HeadRig) -> list[int]:
    """Return the nodes that got a question; each is a child of the head here."""
    return sorted(int(where[1:]) for where, _ in head.commands(m.Query))


def calls_of(act: Callable[[], Any]) -> int:
    """Return how many functions `act` calls."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def steps_of(act: Callable[[], Any]) -> int:
    """Return how many instructions the interpreter takes for `act`."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(None)
    return count


@pytest.mark.parametrize(
    "pids", [range(100, 16_100), range(1000, 7000), [5 << 40] * 16_000], ids=["all", "own", "huge"]
)
def test_a_signal_costs_no_set_for_each_pid(pids: range | list[int]) -> None:
    head = head_of()
    assert calls_of(lambda: head.ask(c.Signal(1, None, None, list(pids), 0, ""), 2)) < 3 * len(pids)
    assert asked(head) == list(range(NODES))


def test_a_signal_goes_to_the_nodes_whose_pids_it_names_and_else_to_all() -> None:
    head = head_of()
    everywhere = list(range(NODES))
    for pids, nodes in (([1005, -3001, 1006], [0, 2]), ([6999], [5]), ([1005, 7000], everywhere), ([5], everywhere)):
        head.looked()
        head.ask(c.Signal(1, None, None, pids, 0, ""), 2)
        assert asked(head) == nodes


def test_more_ranks_than_a_job_may_have_are_refused() -> None:
    head = head_of()
    job = head.spawn("n0", 2)
    head.ask(c.Signal(9, job, [0] * (MAX_RANKS + 1), None, 0, ""), 2)
    assert [message.code for message in head.told(2) if isinstance(message, c.Error)] == ["bad-request"]


@pytest.mark.parametrize(
    "text", ["n0," * 43_000 + "n1", "n[" + "0," * 65_000 + "1]", "0-1," * 32_000 + "n1", "!n5!up," * 5 + "n1," * 40_000]
)
def test_a_list_is_read_once_and_costs_few_calls_for_each_term(text: str) -> None:
    head = head_of()
    assert calls_of(lambda: head.ask(c.Resolve(1, text, "list"), 2)) < 12 * (text.count(",") + 10)
    (answer,) = head.told(2)
    assert isinstance(answer, c.Result)
    assert answer.value[-1] == 1


def test_a_list_without_nodes_is_not_repeated_at_length() -> None:
    head = head_of()
    head.ask(c.Resolve(1, "," * 100_000, "list"), 2)
    (answer,) = head.told(2)
    assert (answer.code, len(answer.message) < 200) == ("no-nodes", True)


def test_what_is_launched_just_now_costs_a_step_for_each_job_under_way_and_none_for_its_ranks() -> None:
    head = HeadRig(NODES)
    for node in range(NODES):
        head.attach(node)
    head.client()
    jobs = head.machine.jobs

    def steps(nodes: str) -> int:
        job = head.spawn(nodes)
        head.report(5, job, [5, 100])
        assert jobs.launching() == NodeSet.of(range(NODES - 1 if nodes == "n[0-5]" else NODES))
        taken = steps_of(jobs.launching)
        head.ask(c.ClientRelease(job))
        for node in range(NODES):
            ranks = range(node, len(jobs.jobs[job].nodes), NODES)
            head.report(node, job, [], [value for rank in ranks for value in (rank, 0, 0, 0)])
        assert jobs.launching() == NodeSet()
        return taken

    few = steps("n[0-5]")
    assert steps(",".join(["n[0-5]"] * 500)) == few
    for _ in range(100):
        steps("n[0-5]")
    assert steps("n[0-5]") == few
