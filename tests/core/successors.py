"""A head of the second epoch, and what clients of the first bring to it."""

from __future__ import annotations

from typing import Any

from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from tests.core.launches import changed, spawn_of
from tests.core.rigs import HeadRig

KEY = b"k" * 16
UNREADY = {"settle_ms": 2_000}


def new_head(nodes: int, **config: Any) -> HeadRig:
    """Return the head of the second epoch, just elected, and its first client."""
    head = HeadRig(nodes, epoch=2, **UNREADY, **config)
    head.client()
    return head


def hand_over(head: HeadRig, node: int, launch: m.Launch) -> None:
    """Let a node give the head the copy of a launch."""
    head.up(node, m.LaunchCopy(launch.job, launch.ticket, launch.signature))


def again(nodes: str = "n[0-1]", select: str = "list", request: int = 1, detached: bool = False) -> c.Spawn:
    """Return a launch that is asked for once more."""
    return spawn_of(request, nodes, select=select, detached=detached, key=KEY, again=True)


def answers(head: HeadRig) -> list[Any]:
    """Return what the client was told, without words on why it waits."""
    return [message for message in head.told() if not isinstance(message, c.Notice)]


def refusals(head: HeadRig) -> list[str]:
    """Return the codes of the errors that the client was told."""
    return [message.code for message in head.told() if isinstance(message, c.Error)]


def launch_up(**changes: Any) -> c.Spawn:
    """Return a launch on the nodes that are up, as the library asks for it."""
    ask = spawn_of(1, "up", key=KEY)
    return changed(ask, **changes)


def acknowledged(nodes: int, **changes: Any) -> tuple[c.Spawn, c.Spawned]:
    """Let a first head acknowledge a launch; return how its client hands it to the next, and what it was told."""
    former = HeadRig(nodes)
    former.client()
    for node in range(nodes):
        former.attach(node)
    former.ask(launch_up(**changes))
    (spawned,) = former.told()
    return launch_up(again=True, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt, **changes), spawned
