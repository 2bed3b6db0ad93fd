"""The host names by which node lists know nodes: those under which their hosts have joined the cluster.

A node that was broken into can call itself whatever it likes when it attaches. A name that it chose then could be that
of a node that is away, and would draw its launches. So a name is the one that stood in the request to join, for which
an administrator gave a token: it is in the registry, the same at every head, also while the node is down. Of several
with one name the first to join has it. What a node says when it attaches is only compared.
"""

from __future__ import annotations

from collections.abc import Iterable

from heorot.core.tree.host_names import MAX_NAME, host_name_problem, short_name
from heorot.core.tree.nodelist import NODE_STATES

JOIN_AGAIN = "for another name let it join again ('heorot node join --force', with a token made for its number)"


class HostNames:
    """Knows which node has which name, and what is wrong with the others' names.

    Parameters
    ----------
    hosts
        As of `know`.
    """

    def __init__(self, hosts: Iterable[tuple[int, str]] = ()) -> None:
        self.nodes: dict[str, int] = {}
        """By name, in lower case; of one with a domain also by what stands before it."""
        self._names: dict[int, str] = {}
        self._joined: dict[int, str] = {}
        self._problems: dict[int, str] = {}
        self._claims: dict[int, str] = {}
        """What nodes have called themselves when they attached, if that is another name."""
        self._told: dict[int, str] = {}
        self.know(hosts)

    def know(self, hosts: Iterable[tuple[int, str]]) -> list[str]:
        """Take as which host each node has joined; return for people what is wrong and was not told before.

        Parameters
        ----------
        hosts
            Node and host name of all nodes, in the order in which they have joined.
        """
        self._joined = {node: name.lower().rstrip(".") for node, name in hosts}
        self.nodes, self._names, self._problems = {}, {}, {}
        for node, name in self._joined.items():
            if name == f"n{node}":
                self._names[node] = name
                continue
            owner = self.nodes.get(name)
            why = f"it is n{owner}'s" if owner is not None else host_name_problem(name, NODE_STATES)
            if why:
                shown = f"{name[:MAX_NAME]!a}" if name else "a host without a name"
                self._problems[node] = f"n{node} has joined as {shown}, by which node lists do not know it: {why}"
            else:
                self.nodes[name], self._names[node] = node, name
        for node, name in self._names.items():
            short = short_name(name)
            if not host_name_problem(short, NODE_STATES):
                self.nodes.setdefault(short, node)
        return self._news({*self._problems, *self._claims, *self._told})

    def claimed(self, node: int, name: str | None) -> list[str]:
        """Take what a node calls itself as it attaches (None: it does not say); return as `know`."""
        claim = (name or "").lower().rstrip(".")
        if claim and node in self._joined and claim != self._joined[node]:
            self._claims[node] = claim
        else:
            self._claims.pop(node, None)
        return self._news((node,))

    def name_of(self, node: int) -> str:
        """Return the host name of a node; empty: node lists know it by its number only."""
        return self._names.get(node, "")

    def problem_of(self, node: int) -> str:
        """Return what is wrong with the name of a node, for people; empty: nothing."""
        claim, joined = self._claims.get(node, ""), self._joined.get(node, "")
        if claim and claim != joined:
            return f"n{node} calls itself {claim[:MAX_NAME]!a} and has joined as {joined[:MAX_NAME]!a}: {JOIN_AGAIN}"
        return self._problems.get(node, "")

    def _news(self, nodes: Iterable[int]) -> list[str]:
        news: list[str] = []
        for node in sorted(nodes):
            text = self.problem_of(node)
            if text and self._told.get(node) != text:
                news.append(text)
            self._told[node] = text
        return news
