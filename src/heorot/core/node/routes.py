"""Who may say what to a node: `heorot.core.routes` tells how to read this.

What is done stands in the part that is named first in each row.
"""

from __future__ import annotations

from typing import Any

from heorot.core.routes import Routes, Side, from_each
from heorot.core.wire import tree as m


def _decoded(payload: bytes) -> Any:
    """Return a command of which the tag has said what it is."""
    return m.decode_head_command(payload)


FROM_ABOVE = Routes(
    "a node",
    {
        (Side.NEWCOMER, m.Hello): lambda node, hello: node._greeted(hello),
        (Side.NEWCOMER, m.Refused): lambda node, refused: node._refused(refused),
        **from_each(
            (Side.HEAD, Side.PARENT),
            {
                m.Down: lambda node, down: node._down(down),
                m.Reattached: lambda node, _: node._attach(),
                m.Refused: lambda node, refused: node._refused(refused),
                m.Pong: lambda node, pong: node._pong(pong),
                m.Piece: lambda node, piece: node.images.from_parent(node.uplink.link, piece),
                m.ImageManifest: lambda node, manifest: node.images.from_parent(node.uplink.link, manifest),
                m.Unavailable: lambda node, word: node.images.from_parent(node.uplink.link, word),
                m.Swarm: lambda node, swarm: node.images.from_parent(node.uplink.link, swarm),
            },
        ),
        (Side.HEAD, m.Want): lambda node, want: node.images.from_parent(node.uplink.link, want),
        (Side.HEAD, m.Took): lambda node, took: node.images.from_parent(node.uplink.link, took),
        (Side.HEAD, m.KeepImage): lambda node, keep: node.images.from_parent(node.uplink.link, keep),
        (Side.ORDER, m.Launch): lambda node, payload, _: node.launches.launch(payload),
        (Side.ORDER, m.Place): lambda node, payload, _: node._place(_decoded(payload).placement),
        (Side.ORDER, m.TellHeads): lambda node, payload, _: node.heads.told(_decoded(payload)),
        (Side.ORDER, m.Barred): lambda node, payload, _: node._child_links.bar(_decoded(payload)),
        (Side.ORDER, m.Admit): lambda node, payload, _: node.space.admit(payload),
        (Side.ORDER, m.Release): lambda node, payload, newest_of: node._give_release(payload, newest_of),
        **dict.fromkeys(
            [(Side.ORDER, kind) for kind in (m.Stdin, m.Ack, m.Attend, m.Resize, m.Query, m.FetchLaunch)],
            lambda node, payload, newest_of: node._give(payload, newest_of),
        ),
        (Side.SPACE, m.Report): lambda node, payload: node._own_report(payload),
        (Side.SPACE, m.Inventory): lambda node, payload: node._own_inventory(payload),
        **dict.fromkeys(
            [(Side.SPACE, kind) for kind in (m.Output, m.StdinAck, m.Reply, m.LaunchCopy)],
            lambda node, payload: node._pass_up(payload),
        ),
    },
)

ORDERS = FROM_ABOVE.by_tag(Side.ORDER)
ANSWERS = FROM_ABOVE.by_tag(Side.SPACE)
"""What passes through as bytes is told apart by its tag."""

FROM_BELOW = Routes(
    "a node",
    {
        (Side.NEWCOMER, m.Hello): lambda links, child, message: links._greeted(child, message),
        (Side.CHILD, m.Up): lambda links, child, message: links._up(child, message),
        (Side.CHILD, m.Report): lambda links, child, message: links._reported(child, message),
        (Side.CHILD, m.Detached): lambda links, child, message: links._detached(child, message),
        (Side.CHILD, m.Ping): lambda links, child, message: links._ping(child, message),
        (Side.CHILD, m.Refused): lambda links, child, message: links._refused(child, message),
        (Side.CHILD, m.Want): lambda links, child, message: links._asked(child, message),
        (Side.CHILD, m.Took): lambda links, child, message: links._asked(child, message),
        (Side.VISITOR, m.Want): lambda links, child, message: links._asked(child, message),
        (Side.VISITOR, m.Took): lambda links, child, message: links._asked(child, message),
        (Side.VISITOR, m.Ping): lambda links, child, message: links._visitor_ping(child, message),
    },
)

FROM_PEERS = Routes(
    "a node",
    {
        (Side.NEWCOMER, m.Hello): lambda peers, peer, link, message: peers._greeted(peer, link, message),
        (Side.NEWCOMER, m.Refused): lambda peers, peer, link, message: peers._refused(peer, link, message),
        (Side.PEER, m.Piece): lambda peers, peer, link, message: peers._piece(peer, link, message),
        (Side.PEER, m.Unavailable): lambda peers, peer, link, message: peers._unavailable(peer, link, message),
        (Side.PEER, m.Refused): lambda peers, peer, link, message: peers._refused(peer, link, message),
        (Side.PEER, m.Pong): lambda peers, peer, link, message: peers._is_there(peer, link, message),
    },
)
