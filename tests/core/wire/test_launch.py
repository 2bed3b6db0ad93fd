"""What is to be started is the same from the client to the process space, and what cannot be meant starts nothing."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from heorot.core.errors import RequestError
from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import (
    MAX_RANKS,
    MAX_RANKS_PER_NODE,
    LaunchSpec,
    check_spec,
    nodes_used,
    rank_count,
    reads_stdin,
)
from tests.core.launches import SPEC, spawn_of
from tests.core.rigs import HeadRig, ticket
from tests.core.test_streams import MemorySpool

EVERYTHING = LaunchSpec(
    [b"prog", b"-x"], [b"A=b"], b"/tmp", 0o27, [7, 1024, -1], b"", b"/out", None, [24, 80], 9, 5000, b"i" * 32,
    b"/bin/prog", b"p" * 32, True, False, 3, 4, True, 90_000, "0:1",
    [0, 2],
)  # fmt: skip
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"argv": []}, "no command"),
    ({"limits": [7, 1024]}, "limit"),
    ({"terminal": [24]}, "rows and its columns"),
    ({"image": b"short", "program": b"/bin/prog"}, "image"),
    ({"image": b"i" * 32, "program": b"prog"}, "image"),
    ({"image": b"i" * 32, "program": b"/bin/prog", "program_id": b"short"}, "image"),
    ({"ranks": MAX_RANKS + 1}, "at most 131072 ranks"),
    ({"ranks_per_node": MAX_RANKS_PER_NODE + 1}, "4096 for each node"),
    ({"stdout": b"out.%x", "patterns": True}, "means nothing"),
    ({"bind": "0:x"}, "binds to nothing"),
    ({"stdin_ranks": [3]}, "no list of ranges"),
    ({"stdin_ranks": [3, 2]}, "no list of ranges"),
    ({"stdin_ranks": [0, 3, 3, 4]}, "no list of ranges"),
]


@pytest.mark.parametrize("spec", [SPEC, EVERYTHING], ids=["little", "everything"])
def test_what_can_be_meant_passes(spec: LaunchSpec) -> None:
    check_spec(spec)


def test_a_ticket_carries_what_the_client_has_sent_as_it_is() -> None:
    head = HeadRig(1)
    head.client()
    head.attach(0)
    ask = spawn_of(1, "n0")
    head.ask(replace(ask, spec=EVERYTHING))
    ((_, launch),) = head.commands(m.Launch)
    assert m.decode_ticket(launch.ticket).spec == EVERYTHING


def test_the_cluster_says_how_many_processes_a_job_may_have_if_its_client_does_not() -> None:
    head = HeadRig(1, max_processes=70)
    head.client()
    head.attach(0)
    head.ask(spawn_of(1, "n0"))
    ((_, launch),) = head.commands(m.Launch)
    assert m.decode_ticket(launch.ticket).spec == replace(SPEC, max_processes=70)


@pytest.mark.parametrize(("changes", "text"), WRONG)
def test_a_head_refuses_what_cannot_be_meant(changes: dict[str, Any], text: str) -> None:
    head = HeadRig(1)
    head.client()
    head.attach(0)
    head.ask(spawn_of(1, "n0", **changes))
    (error,) = head.told()
    assert isinstance(error, c.Error)
    assert (error.code, text in error.message) == ("bad-request", True)
    assert head.commands(m.Launch) == []


@pytest.mark.parametrize(("changes", "text"), WRONG)
def test_a_process_space_starts_nothing_of_it_and_says_so(changes: dict[str, Any], text: str) -> None:
    space = Space(e.SpaceConfig(node=0, incarnation=7), MemorySpool(1 << 20))
    space.handle(e.AgentConnected(), 0)
    out = space.handle(e.FromAgent(m.Launch(m.encode(ticket("1.1", [0, 1], **changes)), b"signature")), 0)
    (report,) = [item.message for item in out if isinstance(item, e.ToAgent) and isinstance(item.message, m.Report)]
    assert text in report.failed[0].text
    assert not any(isinstance(item, e.StartRanks) for item in out)


def test_the_error_is_that_of_a_request() -> None:
    with pytest.raises(RequestError, match="no command"):
        check_spec(replace(SPEC, argv=[]))


@pytest.mark.parametrize(
    ("ranks", "per_node", "nodes", "used", "total"),
    [
        (0, 0, 5, 5, 5),
        (0, 3, 5, 5, 15),
        (7, 0, 5, 5, 7),
        (3, 0, 5, 3, 3),
        (7, 4, 5, 2, 7),
        (8, 4, 2, 2, 8),
    ],
)
def test_ranks_are_on_the_first_nodes_that_it_takes(
    ranks: int, per_node: int, nodes: int, used: int, total: int
) -> None:
    spec = replace(SPEC, ranks=ranks, ranks_per_node=per_node)
    assert nodes_used(spec, nodes) == used
    assert rank_count(spec, used) == total


@pytest.mark.parametrize(
    ("ranks", "per_node", "nodes", "text"),
    [
        (9, 4, 2, "9 ranks, 4 on each node, need 3 nodes; the list has 2"),
        (MAX_RANKS_PER_NODE + 1, 0, 1, "4097 ranks on 1 node are too many; at most 4096 on each"),
        (0, 4000, 100, "400000 ranks are too many"),
        (0, 0, MAX_RANKS + 1, "131073 ranks are too many"),
    ],
)
def test_nodes_that_are_too_few_for_the_ranks_get_none(ranks: int, per_node: int, nodes: int, text: str) -> None:
    with pytest.raises(RequestError, match=text):
        nodes_used(replace(SPEC, ranks=ranks, ranks_per_node=per_node), nodes)


def test_input_is_for_the_ranks_that_are_chosen_and_these_must_exist() -> None:
    assert [reads_stdin(replace(SPEC, stdin_ranks=[0, 0, 2, 4]), rank) for rank in range(6)] == [
        True, False, True, True, True, False,
    ]  # fmt: skip
    assert reads_stdin(SPEC, 5)
    assert not reads_stdin(replace(SPEC, stdin=None, stdin_ranks=[0, 9]), 5)
    assert not reads_stdin(replace(SPEC, stdin_ranks=[]), 5)
    with pytest.raises(RequestError, match="there is no rank 4 to give input to: the job has the ranks 0 to 2"):
        nodes_used(replace(SPEC, stdin_ranks=[4, 4]), 3)
