"""The list of the cluster's heads at the active one: what the keeper says of it goes to every node that has another.

The list is one of addresses: who of them is alive, the store says. The node's side is `heorot.core.node.known_heads`.
"""

from __future__ import annotations

from msgspec import UNSET

from heorot.core.head.context import HeadContext
from heorot.core.head.membership import KnownNode
from heorot.core.machine import HeadsKnown
from heorot.core.tickets import seal_heads
from heorot.core.tree.nodeset import NodeSet
from heorot.core.wire import tree as m
from heorot.core.wire.rows import ForeignHeadList, HeadEntry, HeadListRow, HeadRow


class HeadListUpdates:
    """Knows the list, and which node has it."""

    def __init__(self, context: HeadContext) -> None:
        self._context = context
        self._revision = 0
        self._told: m.TellHeads | None = None

    def heard(self, event: HeadsKnown) -> None:
        """The keeper has spoken: tell all nodes if the list is another one than before."""
        context = self._context
        if not event.listed or event.listed == context.listed:
            return
        former, context.listed = context.listed, event.listed
        context.masters.listed(event.listed)
        self._revision += 1
        listing = m.HeadList(context.config.cluster, context.config.epoch, self._revision, list(context.listed))
        self._told = seal_heads(context.sign, listing)
        # All of them, whatever they have kept so far: they may be about to keep what they were told before.
        told = [record for record in context.members.records.values() if record.link is not None]
        for record in told:
            if record.heads == context.listed:
                record.heads = former
        context.send_down(NodeSet.of(record.node for record in told if record.heads is not None), self._told)

    def attached(self, record: KnownNode, attach: m.Attach) -> None:
        """A node says what it keeps: tell it the list if that is another one."""
        context = self._context
        record.heads = None if attach.heads is None else tuple(attach.heads)
        if record.heads == context.listed:
            record.heads = context.listed  # one for all
        elif self._told is not None and record.heads is not None:
            context.send_down(NodeSet(1 << record.node), self._told)

    def kept(self, record: KnownNode, kept: m.HeadsKept) -> None:
        """A node has written a list to its disk."""
        context = self._context
        if kept.epoch != context.config.epoch:
            return
        if kept.revision == self._revision:
            record.heads = context.listed
        elif record.heads == context.listed and self._told is not None:
            # It had this list when it attached, and was then told an older one that was late on a former way.
            record.heads = ()
            context.send_down(NodeSet(1 << record.node), self._told)


def head_rows(context: HeadContext) -> list[HeadRow]:
    """Return the heads: those that are alive, and those of the list that are not."""
    config, known = context.config, context.tenure.known
    addresses = {head.name: _address(head) for head in context.listed if head.name}
    roles = {**dict.fromkeys(addresses, "absent"), **dict(reversed(known.heads)), config.name: "active"}
    return [
        HeadRow(name, roles[name], config.pid if name == config.name else UNSET, addresses.get(name, UNSET))
        for name in sorted(roles)
    ]


def head_list_row(context: HeadContext) -> HeadListRow:
    """Return which heads there are to be, and which nodes keep another list of them, folded by that list; of those that
    have attached to this head.
    """
    others: dict[tuple[m.HeadAddress, ...] | None, list[int]] = {}
    for record in context.members.records.values():
        if context.listed and record.order and record.heads != context.listed:
            others.setdefault(record.heads, []).append(record.node)
    return HeadListRow(
        [_entry(head) for head in context.listed],
        [
            ForeignHeadList(nodes, None if heads is None else [_entry(head) for head in heads])
            for heads, nodes in others.items()
        ],
    )


def _entry(head: m.HeadAddress) -> HeadEntry:
    return HeadEntry(head.name, _address(head))


def _address(head: m.HeadAddress) -> str:
    return f"[{head.host}]:{head.port}" if ":" in head.host else f"{head.host}:{head.port}"
