"""What is shown to who asks once is what is shown to who watches."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from heorot.core.errors import RequestError
from heorot.core.wire import clients as c
from tests.core.head.watching import Nodes, Watcher
from tests.core.rigs import HeadRig, process


def head_of() -> tuple[HeadRig, Nodes]:
    """Return a new head that has not heard of one of its nodes yet, with a job on the others."""
    head = HeadRig(4, node_grace_ms=600_000)
    nodes = Nodes(head, 0, 1, 2)
    head.client()
    job = head.spawn("n[0-1]")
    nodes.processes[0] = [process(7, job, 0), process(8)]
    head.report(0, job, started=[0, 7])
    head.looked()
    return head, nodes


def answer(head: HeadRig, nodes: Nodes, ask: Any) -> Any:
    """Return the answer to a question, decoded as a client has it."""
    head.looked()
    head.ask(ask)
    nodes.answer()
    (result,) = [message for message in head.told() if isinstance(message, c.Result)]
    head.looked()
    return msgspec.msgpack.decode(msgspec.msgpack.encode(result.value))


@pytest.mark.parametrize("names", ["", "up", "n[0-1]", "n3,n0", "!down", "all!n1", "unknown"])
def test_nodes_and_processes_are_the_same(names: str) -> None:
    head, nodes = head_of()
    rows = answer(head, nodes, c.ListNodes(8, names))
    listed = answer(head, nodes, c.ListProcesses(9, names, None))
    head.client(2)
    watcher = Watcher(head, "nodes", "processes", client=2, nodes=names)
    nodes.answer()
    watcher.take()
    tables = watcher.request.tables
    assert list(tables["nodes"].values()) == rows
    assert list(tables["processes"].values()) == listed["processes"]
    assert watcher.request.missing == listed["missing"]


def test_jobs_are_the_same() -> None:
    head, nodes = head_of()
    rows = answer(head, nodes, c.ListJobs(8))
    watcher = Watcher(head, "jobs")
    watcher.take()
    assert list(watcher.request.tables["jobs"].values()) == rows


def test_whose_nodes_are_to_be_asked() -> None:
    head, _ = head_of()
    overview = head.machine.clients.overview
    (job,) = head.machine.jobs.jobs
    assert str(overview.nodes_of_processes("", None)) == "n[0-3]"
    assert str(overview.nodes_of_processes("up", job)) == "n[0-1]"
    with pytest.raises(RequestError, match="there is no job"):
        overview.nodes_of_processes("", "9.9")
