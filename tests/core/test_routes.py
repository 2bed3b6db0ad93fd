"""Who may say what: each message from each side, and what is not in the table ends the link and nothing else."""

from __future__ import annotations

import importlib
import pkgutil
import random
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from heorot.core import wire
from heorot.core.errors import ProtocolError
from heorot.core.head import routes as head_routes
from heorot.core.machine import ClientOpened, Connect, FromClient, FromSpace, LinkClosed, LinkOpened, Received
from heorot.core.node import routes as node_routes
from heorot.core.node.peers import FROM_PEERS
from heorot.core.routes import Routes, Side
from heorot.core.space import events as e
from heorot.core.space import routes as space_routes
from heorot.core.space.machine import Space
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from scripts.tables import ALL
from tests.core.node.test_peers import Rig as PeerRig
from tests.core.rigs import HEAD, LEFT, HeadRig, NodeRig, hello, placement, relay
from tests.core.test_streams import MemorySpool
from tests.fuzz.test_machines import Speaker

Say: TypeAlias = Callable[[Any], object]


def tagged() -> list[type[m.Message]]:
    """Return every message that stands for itself: what is only a part of others has no tag."""
    found: dict[type[m.Message], None] = {}
    for module in pkgutil.iter_modules(wire.__path__):
        for value in vars(importlib.import_module(f"{wire.__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, m.Message) and value.__struct_config__.tag is not None:
                found[value] = None
    return list(found)


NOT_HEARD = {
    **dict.fromkeys(("JoinGreeting", "JoinRequest", "JoinAccepted", "JoinRefused", "RenewalRequest"), "before joining"),
    **dict.fromkeys(("PassOn", "PassAccepted", "PassLeft"), "between the hosts of two heads"),
    "SignedPlacement": "a field of Place and Attach",
    "Look": "answered by bpinit, for whoever asks it directly",
    "SpaceView": "the answer to that",
}
"""Messages that no machine hears, and where they are."""
TO_CLIENTS = set(c.HeadMessage.__args__)


def test_every_message_is_in_a_table_or_is_said_to_be_in_none() -> None:
    heard = {kind for routes in ALL for side in routes.sides() for kind in routes.heard_from(side)} | TO_CLIENTS
    assert {kind.__name__ for kind in tagged()} - {kind.__name__ for kind in heard} == NOT_HEARD.keys()


def to_head_as_newcomer() -> Say:
    rig = HeadRig(3)
    rig.give(LinkOpened(7, 0))
    return lambda message: rig.give(Received(7, message))


def to_head_as_child() -> Say:
    rig = HeadRig(3)
    rig.attach(0)
    return lambda message: rig.give(Received(rig.links[0], message))


def to_head_as_node() -> Say:
    rig = HeadRig(3)
    rig.attach(0)
    return lambda message: rig.up(0, message)


def to_head_as_rival() -> Say:
    rig = HeadRig(1, others=(("other", 1),))
    machine = rig.machine
    machine.rivals.announce()
    (connect,) = [item for item in machine.context.take() if isinstance(item, Connect)]
    rig.give(LinkOpened(7, HEAD, connect.key))
    return lambda message: rig.give(Received(7, message))


def to_head_as_client() -> Say:
    rig = HeadRig(3)
    rig.client()
    return lambda message: rig.give(FromClient(1, message))


def to_head_as_new_client() -> Say:
    rig = HeadRig(3)
    rig.give(ClientOpened(1, "root", 0, 0, ()))
    return lambda message: rig.give(FromClient(1, message))


def to_node_as_newcomer_above() -> Say:
    rig = NodeRig(0)
    rig.give(LinkOpened(1, HEAD, rig.wanted().key))
    return lambda message: rig.give(Received(1, message))


def to_node_as_head() -> Say:
    rig = NodeRig(0)
    link = rig.attach()
    return lambda message: rig.give(Received(link, message))


def to_node_as_parent() -> Say:
    rig = NodeRig(5, placement=placement(5, [2]))
    link = rig.attach(2)
    return lambda message: rig.give(Received(link, message))


def to_node_as_order() -> Say:
    rig = NodeRig(0)
    rig.attach()
    return lambda message: rig.down([0], message)


def to_node_as_space() -> Say:
    rig = NodeRig(0)
    rig.attach()
    return lambda message: rig.give(FromSpace(m.encode(message)))


def to_node_as_newcomer_below() -> Say:
    rig = relay()
    rig.give(LinkOpened(60, 5))
    return lambda message: rig.give(Received(60, message))


def to_node_as_child() -> Say:
    rig = relay()
    return lambda message: rig.give(Received(LEFT, message))


def to_node_as_visitor() -> Say:
    rig = relay()
    rig.give(LinkOpened(60, 5))
    rig.give(Received(60, hello(5, peer=True)))
    return lambda message: rig.give(Received(60, message))


def to_node_as_new_peer() -> Say:
    rig = PeerRig()
    rig.connect(1, 2, greets=False)
    return lambda message: rig.peers.received(1, message, 0)


def to_node_as_peer() -> Say:
    rig = PeerRig()
    rig.connect(1, 2)
    return lambda message: rig.peers.received(1, message, 0)


def to_space_as_agent() -> Say:
    space = Space(e.SpaceConfig(node=0, incarnation=7, init_pid=5), MemorySpool(1 << 20))
    space.handle(e.AgentConnected(), 0)
    return lambda message: space.handle(e.FromAgent(message), 0)


SIDES: list[tuple[Routes, Side, Callable[[], Say]]] = [
    (head_routes.FROM_BELOW, Side.NEWCOMER, to_head_as_newcomer),
    (head_routes.FROM_BELOW, Side.CHILD, to_head_as_child),
    (head_routes.FROM_BELOW, Side.NODE, to_head_as_node),
    (head_routes.FROM_RIVALS, Side.RIVAL, to_head_as_rival),
    (head_routes.FROM_CLIENTS, Side.CLIENT, to_head_as_client),
    (head_routes.FROM_CLIENTS, Side.NEWCOMER, to_head_as_new_client),
    (node_routes.FROM_ABOVE, Side.NEWCOMER, to_node_as_newcomer_above),
    (node_routes.FROM_ABOVE, Side.HEAD, to_node_as_head),
    (node_routes.FROM_ABOVE, Side.PARENT, to_node_as_parent),
    (node_routes.FROM_ABOVE, Side.ORDER, to_node_as_order),
    (node_routes.FROM_SPACE, Side.SPACE, to_node_as_space),
    (node_routes.FROM_BELOW, Side.NEWCOMER, to_node_as_newcomer_below),
    (node_routes.FROM_BELOW, Side.CHILD, to_node_as_child),
    (node_routes.FROM_BELOW, Side.VISITOR, to_node_as_visitor),
    (FROM_PEERS, Side.NEWCOMER, to_node_as_new_peer),
    (FROM_PEERS, Side.PEER, to_node_as_peer),
    (space_routes.FROM_AGENT, Side.AGENT, to_space_as_agent),
]


def test_every_side_of_every_table_is_tried() -> None:
    tried = {(routes, side) for routes, side, _ in SIDES}
    assert tried == {(routes, side) for routes in ALL for side in routes.sides()}


@pytest.mark.parametrize(("routes", "side", "speaker"), SIDES, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_not_in_the_table_is_a_breach_of_the_protocol(
    routes: Routes, side: Side, speaker: Callable[[], Say]
) -> None:
    words = Speaker(random.Random(1))
    taken = []
    for kind in tagged():
        if kind not in routes.heard_from(side):
            say = speaker()
            try:
                say(words.say(kind))
            except ProtocolError:
                continue
            taken.append(kind.__name__)
    assert taken == []


def test_a_node_says_nothing_before_its_greeting_and_greets_once() -> None:
    say = to_head_as_child()
    with pytest.raises(ProtocolError, match="a child may not say Hello to a head"):
        say(hello(0))
    with pytest.raises(ProtocolError, match="whoever has not been greeted may not say Ping to a node"):
        to_node_as_newcomer_below()(m.Ping())


@pytest.mark.parametrize("kind", tagged(), ids=lambda kind: kind.__name__)
def test_no_message_of_a_node_ends_a_head(kind: type[m.Message]) -> None:
    rig = HeadRig(3)
    words = Speaker(random.Random(2))
    for inside in (False, True):
        rig.attach(0)
        message = words.say(kind)
        link = rig.links[0]
        try:
            if inside:
                rig.up(0, message)
            else:
                rig.give(Received(link, message))
        except ProtocolError:
            rig.give(LinkClosed(link, "broken"))
        if link not in rig.machine.context.below.by_link:
            rig.links.pop(0)
    # The others are served as before.
    rig.attach(1)
    rig.client()
    assert rig.spawn("n1") == "1.1"
