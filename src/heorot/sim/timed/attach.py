"""Nodes that are attached from the start: what a hundred thousand of them would otherwise spend minutes to arrive at.

Each node's machine goes through its real states (bpinit's inventory, the link upward, the greeting); only what a hop
learns of those below it, and the head of its nodes, is set here. `tests/sim/timed/test_scale.py` compares a launch with
that of a cluster whose nodes have joined by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from heorot.core.head.states import NodeState
from heorot.core.machine import Connect, FromSpace, LinkOpened, Received
from heorot.core.routes import Side
from heorot.core.space import events as e
from heorot.core.tree.nodeset import HEAD
from heorot.core.tree.shape import parent_of
from heorot.core.wire import tree as m

if TYPE_CHECKING:
    from heorot.sim.timed.hosts import Surface, TimedNode

BEFORE_ALL = "1.0"
"""The job before the first."""


def attach_all(cluster: Surface) -> None:
    """Attach every node where it belongs."""
    fanout, nodes = cluster.fanout, cluster.nodes
    masks = [1 << node for node in range(len(nodes))]
    for number in reversed(range(len(nodes))):
        parent = parent_of(number, fanout)
        if parent != HEAD:
            masks[parent] |= masks[number]
    for number, node in enumerate(nodes):
        _attach(cluster, node, masks[number])
    cluster.head.machine.members.up_mask = (1 << len(nodes)) - 1


def _attach(cluster: Surface, node: TimedNode, mask: int) -> None:
    number = node.node
    parent = parent_of(number, cluster.fanout)
    mine, theirs = cluster.next_link(), cluster.next_link()
    above = cluster.head if parent == HEAD else cluster.nodes[parent]
    node.links[mine] = above, theirs
    above.links[theirs] = node, mine
    _know_parent(node, parent, mine)
    if parent == HEAD:
        cluster.head.machine.handle(LinkOpened(theirs, number), 0)
        below = cluster.head.machine.context.below
    else:
        cluster.nodes[parent].machine.handle(LinkOpened(theirs, number), 0)
        below = cluster.nodes[parent].machine.context.below
    link = below.by_link[theirs]
    link.greet(Side.CHILD)
    link.reach(mask)
    below.mask |= mask
    record = cluster.head.machine.members.record(number)
    record.state = NodeState.UP
    record.parent = record.placed_under = parent
    record.incarnation = record.admitted = node.init.space.config.incarnation
    record.admitted_after = BEFORE_ALL
    record.host, record.port, record.release = f"n{number}", 1, "sim"
    # What comes through a child's link is found by that of the head's own child above it.
    top = number
    while (higher := parent_of(top, cluster.fanout)) != HEAD:
        top = higher
    record.link = next(end for peer, end in cluster.nodes[top].links.values() if peer is cluster.head)


def _know_parent(node: TimedNode, parent: int, link: int) -> None:
    """Take the node's machines through what happens when they start."""
    space, machine = node.init.space, node.machine
    incarnation = space.config.incarnation
    space.handle(e.AgentConnected(), 0)
    space.handle(e.FromAgent(m.Inventorize(False, 1)), 0)
    space.handle(e.FromAgent(m.Admit(incarnation, BEFORE_ALL)), 0)
    inventory = m.Inventory(incarnation, [], 1, BEFORE_ALL)
    connect = next(item for item in machine.handle(FromSpace(m.encode(inventory)), 0) if isinstance(item, Connect))
    machine.handle(LinkOpened(link, parent, connect.key), 0)
    greeting = m.Hello(
        m.PROTOCOL_VERSION, m.OLDEST_PROTOCOL_VERSION, machine.config.cluster, parent, 1, machine.config.release
    )
    machine.handle(Received(link, greeting), 0)
    if not machine.uplink.attached:
        raise AssertionError(f"n{node.node} is not attached")
