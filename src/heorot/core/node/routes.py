"""Who may say what to a node: `heorot.core.routes` tells how to read this.

What is done stands in the part that is named first in each row.
"""

from __future__ import annotations

from typing import Any

from heorot.core.node.above import Above
from heorot.core.node.answers import Answers
from heorot.core.node.child_links import ChildLinks
from heorot.core.routes import Routes, Side, from_each
from heorot.core.tree.below_links import HEARD_BY_BOTH
from heorot.core.wire import tree as m


def _decoded(payload: bytes) -> Any:
    """Return a command of which the tag has said what it is."""
    return m.decode_head_command(payload)


FROM_ABOVE = Routes(
    "a node",
    {
        (Side.NEWCOMER, m.Hello): Above.greeted,
        (Side.NEWCOMER, m.Refused): Above.refused,
        **from_each(
            (Side.HEAD, Side.PARENT),
            {
                m.Down: Above.down,
                m.Reattached: lambda above, _: above.reattach(),
                m.Refused: Above.refused,
                m.Pong: Above.ponged,
                m.Piece: lambda above, piece: above.images.transfers.piece(above.uplink.link, piece),
                m.Stored: lambda above, word: above.images.transfers.stored.told(above.uplink.link, word),
                m.ImageManifest: lambda above, manifest: above.images.transfers.manifest(above.uplink.link, manifest),
                m.Unavailable: lambda above, word: above.images.transfers.unavailable(above.uplink.link, word),
                m.Swarm: lambda above, swarm: above.images.join(swarm),
            },
        ),
        (Side.HEAD, m.Want): lambda above, want: above.images.head_wants(above.uplink.link, want),
        (Side.HEAD, m.Took): lambda above, took: above.images.transfers.took(above.uplink.link, took),
        (Side.HEAD, m.KeepImage): lambda above, keep: above.images.keep(above.uplink.link, keep),
        (Side.ORDER, m.Launch): lambda above, payload, _: above.launches.launch(payload),
        (Side.ORDER, m.Place): lambda above, payload, _: above.place(_decoded(payload).placement),
        (Side.ORDER, m.TellHeads): lambda above, payload, _: above.heads.told(_decoded(payload)),
        (Side.ORDER, m.Barred): lambda above, payload, _: above.child_links.bar(_decoded(payload)),
        (Side.ORDER, m.TellNames): lambda above, payload, _: above.names.told(_decoded(payload)),
        (Side.ORDER, m.Admit): lambda above, payload, _: above.space.admit(payload),
        (Side.ORDER, m.Release): Above.give_release,
        **from_each(
            (Side.ORDER,),
            dict.fromkeys((m.Stdin, m.Ack, m.Attend, m.Resize, m.Query, m.FetchLaunch, m.Scattered), Above.give),
        ),
    },
)

FROM_SPACE = Routes(
    "a node",
    {
        (Side.SPACE, m.Report): Answers.reported,
        (Side.SPACE, m.Inventory): Answers.listed,
        (Side.SPACE, m.Reply): Answers.replied,
        (Side.SPACE, m.Gathered): Answers.gathered,
        **from_each((Side.SPACE,), dict.fromkeys((m.Output, m.StdinAck, m.LaunchCopy), Answers.pass_up)),
    },
)

FROM_BELOW = Routes(
    "a node",
    {
        **HEARD_BY_BOTH,
        (Side.CHILD, m.Up): ChildLinks.up,
        (Side.CHILD, m.Report): ChildLinks.reported,
        (Side.CHILD, m.Replies): ChildLinks.replied,
        (Side.CHILD, m.Gathered): ChildLinks.gathered,
        (Side.CHILD, m.Want): lambda links, link, want: links.images.child_wants(link, want),
        (Side.VISITOR, m.Want): lambda links, link, want: links.images.visitor_wants(link, want),
        **from_each(
            (Side.CHILD, Side.VISITOR),
            {m.Took: lambda links, link, took: links.images.transfers.took(link.link, took)},
        ),
        (Side.VISITOR, m.Ping): lambda links, link, ping: links.links_below.visited(link, ping),
    },
)
