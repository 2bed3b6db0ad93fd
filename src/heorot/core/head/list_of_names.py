"""The names and addresses of nodes at the active head: told to every node that wants to know them.

When a thousand nodes come up in a second, each changes the list. So a change only sets a timer: `COALESCE_MS` later,
and `INTERVAL_MS` after the former list at the earliest, those who lack the newest one are told it, in one message. A
node keeps its line while it is down: its address is right until it comes back with another one. A new head waits
until it knows its nodes, lest names vanish for as long as that takes.

An address is the node's own word, and so may be anything; what is no address of a host is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address

from heorot.core.head.context import HeadContext
from heorot.core.head.membership import KnownNode
from heorot.core.head.timers import NamesDue
from heorot.core.tickets import seal_names
from heorot.core.tree.host_names import short_name
from heorot.core.tree.nodeset import HEAD, NodeSet
from heorot.core.wire import tree as m

COALESCE_MS = 200
"""So long after a node has attached others may still join it."""
INTERVAL_MS = 1_000
"""Between two lists, at least."""


class NameListUpdates:
    """Knows the list, and which node has it.

    Parameters
    ----------
    is_settled
        Whether this head has heard of its nodes, or has waited long enough for them.
    """

    def __init__(self, context: HeadContext, is_settled: Callable[[], bool]) -> None:
        self._context = context
        self._is_settled = is_settled
        self._hearing = 0
        """Mask of the nodes that want to know."""
        self._lacking = 0
        """Those of them that have to be told the newest list."""
        self._hosts: list[m.NamedHost] = []
        self._told: m.TellNames | None = None
        self._revision = 0
        self._next_ms = 0
        """When the next list may be told."""
        self._armed = False

    def attached(self, record: KnownNode, attach: m.Attach) -> None:
        """A node has attached, perhaps at another address."""
        here = 1 << record.node
        self._hearing &= ~here
        if attach.hears_names:
            self._hearing |= here
            self._lacking |= here
        self.changed()

    def changed(self) -> None:
        """A name may have changed."""
        if self._hearing and not self._armed:
            self._armed = True
            now_ms = self._context.now_ms
            self._context.set_timer(NamesDue(), max(COALESCE_MS, self._next_ms - now_ms))

    def due(self) -> None:
        """Tell the list to whom it is news."""
        context = self._context
        self._armed = False
        self._next_ms = context.now_ms + INTERVAL_MS
        if not self._is_settled():
            self.changed()
            return
        hosts = named_hosts(context)
        if self._told is None or hosts != self._hosts:
            self._hosts = hosts
            self._revision += 1
            config = context.config
            self._told = seal_names(context.sign, m.NameList(config.cluster, config.epoch, self._revision, hosts))
            self._lacking = self._hearing
        # Who is out of reach attaches again.
        told = NodeSet(self._lacking & context.below.mask)
        self._lacking = 0
        if told:
            context.send_down(told, self._told, bulk=True)


def named_hosts(context: HeadContext) -> list[m.NamedHost]:
    """Return the active head and all nodes whose addresses are known, in the order of their numbers."""
    config, members = context.config, context.members
    own = [head.host for head in context.listed if head.name == config.name]
    address = next(filter(None, map(host_address, [*own, config.host])), "")
    hosts = [m.NamedHost(HEAD, address, ["master"])] if address else []
    for node in members.known:
        record = members.records[node]
        address = host_address(record.host)
        if address:
            hosts.append(m.NamedHost(node, address, _names(context, record)))
    return hosts[: m.MAX_NAMED]


def _names(context: HeadContext, record: KnownNode) -> list[str]:
    known = context.members.hosts
    name = known.name_of(record.node)
    names = [name, short_name(name)] if name else []
    owned = [one for one in names if known.nodes.get(one) == record.node]
    return list(dict.fromkeys([*owned, record.name]))


def host_address(text: str) -> str:
    """Return the address of a host as it is written in a hosts file; empty: it is none."""
    try:
        found = ip_address(text)
    except ValueError:
        return ""
    return "" if found.is_unspecified or found.is_multicast or "%" in text else str(found)
