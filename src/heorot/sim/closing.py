"""What is acknowledged to be wanted of nodes, and whether heads go by it: the invariants Drained and WishesKept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heorot.core.errors import RequestError
from heorot.core.head.states import NodeState
from heorot.core.wire import clients as c
from heorot.core.wire.rows import NodesSet
from heorot.core.wire.wishes import DRAIN, UP

if TYPE_CHECKING:
    from heorot.core.head.machine import HeadMachine
    from heorot.sim.run import SomeHead
    from heorot.sim.truth import Truth
    from heorot.sim.world import World


class Closing:
    """Hears what is asked for and acknowledged, and judges what is started, and what a new head knows."""

    def __init__(self, world: World, truth: Truth) -> None:
        self._world = world
        self._drained = truth.drained
        self._asked: dict[tuple[int, int, int], tuple[str, list[int]]] = {}
        """By epoch of the head, client and request: the state that is asked for, and the nodes; until it answers."""
        self.may_be: dict[int, set[str]] = {}
        """By node: what it may be set to, of what was asked for."""

    def asked(self, machine: HeadMachine, client: int, ask: c.SetNodes) -> None:
        """A head is asked to set nodes: from now on it may be so, whether that is acknowledged or not."""
        try:
            nodes, _ = machine.requests.select(ask.nodes, "list")
        except RequestError:
            return
        if ask.state:
            state = "" if ask.state == UP else ask.state
            self._asked[machine.config.epoch, client, ask.request] = state, nodes
            for node in nodes:
                self.may_be.setdefault(node, {""}).add(state)
                if state != DRAIN:
                    self._drained.discard(node)

    def answered(self, machine: HeadMachine, client: int, message: c.Result) -> None:
        """A head acknowledges something, perhaps that."""
        epoch = machine.config.epoch
        state, nodes = self._asked.pop((epoch, client, message.request), ("", []))
        if not isinstance(message.value, NodesSet):
            return
        late = set(message.value.late)
        # What this head is asked for besides it may do before or after.
        others = [asked for (at, *_), asked in self._asked.items() if at == epoch]
        for node in nodes:
            besides = {other for other, named in others if node in named}
            record = machine.members.records[node]
            # While it was waited for what is on its way, another change may have been made.
            self.may_be[node] = {record.wish.state, *besides}
            # Of a node that it cannot reach a head does not know what is on its way there.
            is_reached = record.state is NodeState.UP and machine.members.spoken_mask >> node & 1
            if record.wish.state == state == DRAIN and is_reached and node not in late and not besides - {DRAIN}:
                self._drained.add(node)

    def refused(self, machine: HeadMachine, client: int, request: int) -> None:
        """A head refuses something, perhaps that: it may be so all the same."""
        self._asked.pop((machine.config.epoch, client, request), None)

    def begins(self, host: SomeHead) -> None:
        """WishesKept: a head that begins its term knows what was acknowledged."""
        assert host.machine is not None
        for node, states in self.may_be.items():
            record = host.machine.members.records.get(node)
            if record is not None and record.wish.state not in states:
                known = record.wish.state or UP
                text = f"n{node} was set to {sorted(state or UP for state in states)}, {host.name} takes it for {known}"
                self._world.violated("WishesKept", text)

    def launched(self, job: str, nodes: list[int]) -> None:
        """Drained: no head takes a launch on for a node after its drain was acknowledged."""
        closed = sorted(self._drained.intersection(nodes))
        if closed:
            self._world.violated("Drained", f"{job} is launched on n{closed}, which were drained before")
