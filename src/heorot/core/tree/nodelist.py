"""Node lists: the words by which people name nodes, ``n[0-63,70]``, ``0-3,7``, ``up``, ``all!@rack2``.

A list is evaluated from left to right, without precedence. The result is a *list*: order and repeats are kept, because
a launch starts one rank for each entry. BProc's language and ClusterShell's are both understood::

    list      = [element] { operator [element] }
    operator  = ","   append
              | "!"   take away         | "&"   keep only           | "^"   take away what is in both, append the rest
    element   = ["!"] ( numbers | word | group )                    a leading "!": all known nodes but these
    group     = "@" [SOURCE ":"] NAME | "@state:" STATE | "@*"      "@SOURCE:*": all groups of a source
    numbers   = ("n" | "." | "") ( N | A-B | A- | "[" ranges "]" )  "A-" ends at the highest known node
    ranges    = range { "," range }     range = N | A-B | A- | A-B/STEP
    word      = master | "all" | ["all"] ["not"] STATE | host
    master    = "master" | "-1" | "self" | "localhost"      the node of the host whose head leads
    host      = text { "[" ranges "]" text }                        as c7, c[0-3], r[1-2]c[08-10].site; no "A-" there

A word is the first of these that it can be: what looks like numbers is numbers, a state is a state, and no host has
such a name (`heorot.core.tree.host_names`). A dash is a part of a host name: ``c0-3`` is one host, ``c[0-3]`` are four.

As in BProc, nodes on the hosts of heads are not among those that ``all``, ``up``, ``!3`` and ``5-`` append. Numbers,
names, groups, ``@*`` and ``@state:up`` mean them, and so does what is taken away or kept: ``0-7&up``, ``master!down``.

Unlike BProc, which drops them silently, a node that does not exist is an error, as is an unknown state or group. What a
group names and is not there is left out, and told: a group may be written down before its last node has joined.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from heorot.core.errors import NodeListError
from heorot.core.tree.host_names import HERE, PREFIXES, expand_names, fold_names, host_name_problem
from heorot.core.tree.node_view import NodeView as NodeView
from heorot.core.tree.nodeset import MAX_NODES, NodeSet

NODE_STATES = ("down", "boot", "up", "drain", "error", "unavailable", "reboot", "halt", "pwroff", "unknown")
"""The states that Heorot itself sets or shows; an administrator may set others, of up to 15 characters."""
MAX_ENTRIES = 1 << 18
"""No list yields more entries: twice the ranks that a job may have."""
MAX_TEXT = 128 * 1024
"""Characters in a list: what Linux accepts as one argument."""
MAX_GROUP_DEPTH = 8
"""How deep groups may be defined by other groups."""
_MAX_WORK = 1 << 20
"""Entries looked at while a list is evaluated: a list can be hostile, and the head waits for it."""
_MAX_TOLD = 20
"""So many names at most are in an error or a note."""
_ELEMENT_WORK, _RANGE_WORK = 32, 8
"""Reading an element that was not read before, or a range in brackets, costs about as much as so many entries."""
_ELEMENT = re.compile(r"[ !]*(?:\[[^\]]*\]|[^\[,!&^]+)*")
"""An element ends at an operator outside brackets. A "!" in front belongs to it: ``!up``, ``n[0-7]!!up``."""
_OPEN_RANGE = re.compile(r"-\s*(?:[,/\]]|$)")
_HOST_RANGE = re.compile(r"([A-Za-z][\w.-]{0,60}?)(\d+)-(?:\1)?(\d+)")
"""What is meant as a range of host names."""


def parse(text: str, view: NodeView) -> list[int]:
    """Return the nodes that a list names, in order, repeats included; `heorot.core.tree.nodeset.HEAD` stands
    for the host of the head that leads, if that is no node.

    The list may be empty, and then so is the result.

    Raises
    ------
    NodeListError
        If the list cannot be read, or names nodes, states or groups that do not exist; says which part and what exists.
    """
    return parse_noting(text, view).nodes


class Named(NamedTuple):
    """What a list names."""

    nodes: list[int]
    by_states: bool
    """It depends on the states of nodes, as with ``up``."""
    work: int
    """How many entries were looked at for it, about."""
    left_out: str = ""
    """What groups name and is not there, for people; empty: nothing."""
    by_leader: bool = False
    """It depends on which head leads, as with ``master``."""


def parse_noting(text: str, view: NodeView) -> Named:
    """Return what `parse` does, and how it came about. Raises as `parse`."""
    if len(text) > MAX_TEXT:
        raise NodeListError(f"the node list has {len(text)} characters; at most {MAX_TEXT} are read")
    reader = _Reader(view)
    nodes = reader.read(text, ())
    return Named(nodes, reader.looked_at_states, reader.work, reader.left_out(), reader.looked_at_leader)


def fold(nodes: NodeSet) -> str:
    """Return the shortest node list of a set: ``n[0-63,70]``."""
    return str(nodes)


class _Reader:
    """Evaluates one list; counts the work over the list and its groups."""

    def __init__(self, view: NodeView) -> None:
        self._view = view
        self._known = list(view.known)
        self._known_set = frozenset(self._known)
        self._is_wide = False
        """The element that was read last means all nodes, or all of some kind, by a word of BProc's."""
        self.work = 0
        self._group_name = ""
        """The outermost group that is read; empty: none."""
        self._missing: dict[str, dict[str, None]] = {}
        """What groups name and is not there."""
        self._elements: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        """What was read before, by group: what it means, and what it appends. Lists repeat themselves, a launch has a
        rank for each. Never changed."""
        self._ranges: dict[tuple[str, str], list[int]] = {}
        """And in brackets."""
        self._words: frozenset[str] | None = None
        """All words that are states; None: nobody has asked yet."""
        self._shown: frozenset[str] = frozenset()
        """The states that nodes are in, as they are shown."""
        self.looked_at_states = self.looked_at_leader = False

    def read(self, text: str, path: tuple[str, ...]) -> list[int]:
        """Evaluate `text`; `path` names the groups that led here, outermost first."""
        result: list[int] = []
        operator = ","
        position = 0
        while True:
            match = _ELEMENT.match(text, position)
            assert match is not None, "it matches nothing, too"
            end = match.end()
            if text.startswith("[", end):
                raise NodeListError(f"{_quote(text[position:])}: the bracket is not closed")
            element = text[position:end].strip()
            key = self._group_name, element
            known = self._elements.get(key)
            if known is not None:
                nodes, appended = known
            elif not element.strip("! "):
                if operator != "," or element:
                    raise NodeListError(f"{_quote(text)}: a node list is missing after {element or operator!r}")
                nodes = appended = []
            else:
                self._spend(_ELEMENT_WORK)
                self._is_wide = False
                nodes = appended = self._element(element, path)
                if self._is_wide and self._view.masters:
                    appended = [node for node in nodes if node not in self._view.masters]
                self._elements[key] = nodes, appended
            result = self._combine(result, operator, appended if operator in ",^" else nodes)
            if end == len(text):
                return result
            operator = text[end]
            position = end + 1

    def _combine(self, left: list[int], operator: str, right: list[int]) -> list[int]:
        # Appending costs what is appended; the other operators look at everything so far.
        self._spend(1 + len(right) + (len(left) if operator != "," else 0))
        if operator == ",":
            left += right
        elif operator == "!":
            unwanted = frozenset(right)
            left = [node for node in left if node not in unwanted]
        elif operator == "&":
            wanted = frozenset(right)
            left = [node for node in left if node in wanted]
        else:
            before, after = frozenset(left), frozenset(right)
            left = [node for node in left if node not in after] + [node for node in right if node not in before]
        if len(left) > MAX_ENTRIES:
            raise NodeListError(f"the node list yields more than {MAX_ENTRIES} entries")
        return left

    def _spend(self, work: int) -> None:
        self.work += work
        if self.work > _MAX_WORK:
            raise NodeListError("the node list is too complicated: it has too many parts for so many nodes")

    def _element(self, element: str, path: tuple[str, ...]) -> list[int]:
        if element[0] == "!":
            operand = element.lstrip("! ")
            nodes = frozenset(self._element(operand, path))
            self._spend(len(self._known))
            self._is_wide = True
            # An even number of "!" cancels out.
            odd = element[: len(element) - len(operand)].count("!") % 2 == 1
            return [node for node in self._known if (node in nodes) != odd]
        if element in ("master", "-1", "n-1", ".-1", *HERE):
            self.looked_at_leader = True
            return [self._view.master]
        if element[0] == "@":
            nodes_of_group = self._group(element[1:].strip(), path)
            self._is_wide = False
            return nodes_of_group
        body = element[1:] if element[0] in "n." else element
        if body[:1].isdecimal() or body[:1] == "[":
            # "3com", "n5a" and "3com[0-7]" only begin as numbers do.
            node = self._view.hosts.get(element.lower())
            if node is not None:
                return [node]
            self._is_wide = _OPEN_RANGE.search(body) is not None
            return self._host_names(element) if "[" in body[1:] and body[0] != "[" else self._numbers(element, body)
        return self._word(element)

    def _numbers(self, element: str, body: str) -> list[int]:
        """Read ``3``, ``3-5``, ``3-``, ``n3-n5`` or ``[...]``, the prefix of the first number being cut off."""
        if body[0] != "[":
            return self._range(element, body)
        if body[-1] != "]":
            raise NodeListError(f"{_quote(element)}: nothing may follow the bracket")
        nodes: list[int] = []
        for part in body[1:-1].split(","):
            key = self._group_name, part
            found = self._ranges.get(key)
            if found is None:
                self._spend(_RANGE_WORK)
                found = self._ranges[key] = self._range(element, part.strip())
            nodes += found
            if len(nodes) > MAX_ENTRIES:
                raise NodeListError(f"{_quote(element)} yields more than {MAX_ENTRIES} entries")
        return nodes

    def _range(self, element: str, text: str) -> list[int]:
        bounds, slash, step_text = text.partition("/")
        first_text, dash, last_text = bounds.partition("-")
        first = self._number(element, first_text)
        step = self._number(element, step_text) if slash else 1
        if step == 0 or (slash and not dash):
            raise NodeListError(f"{_quote(element)}: a step must be at least 1 and follow a range, as in 0-62/2")
        last_text = last_text.strip()
        if dash and not last_text:
            # An open range means "whatever there is from here on", so it may have holes; its start must exist.
            self._must_exist(element, first, first, 1)
            self._spend(len(self._known))
            return [node for node in self._known if node >= first and (node - first) % step == 0]
        last = self._number(element, last_text.removeprefix("n").removeprefix(".")) if dash else first
        if last < first:
            raise NodeListError(f"{_quote(element)}: the range {first}-{last} runs backwards")
        if self._must_exist(element, first, last, step):
            return list(range(first, last + 1, step))
        self._spend(len(self._known))
        return [node for node in self._known if first <= node <= last and (node - first) % step == 0]

    def _number(self, element: str, text: str) -> int:
        digits = text.strip()
        if not digits.isascii() or not digits.isdecimal():
            raise NodeListError(f"{_quote(element)}: {_quote(digits)} is not a node number")
        # Longer ones are refused before they are converted: that takes time that grows with the square of the length.
        if len(digits.lstrip("0")) > len(str(MAX_NODES)) or int(digits) >= MAX_NODES:
            raise NodeListError(f"{_quote(element)}: a node number is at most {MAX_NODES - 1}")
        return int(digits)

    def _must_exist(self, element: str, first: int, last: int, step: int) -> bool:
        """Say whether all of these are nodes; in a group what is missing is noted, elsewhere it is an error."""
        # Behind the highest that is known a few are enough to say so.
        last = min(last, max(first, self._view.highest) + 1000 * step)
        self._spend((last - first) // step + 1)
        unknown = [node for node in range(first, last + 1, step) if node not in self._known_set]
        if unknown:
            # A hint is enough: folding a million numbers takes long.
            folded = _brief(str(NodeSet.of(unknown[:1000])))
            if self._group_name:
                self._miss(folded)
                return False
            verb = "is no node" if len(unknown) == 1 else "are no nodes"
            raise NodeListError(f"{_quote(element)}: there {verb} {folded}; {self._existing()}")
        return True

    def _miss(self, what: str) -> None:
        if len(missing := self._missing.setdefault(self._group_name, {})) < _MAX_TOLD:
            missing[what] = None

    def left_out(self) -> str:
        """Return what groups name and is not there, for people."""
        told = [f"@{_brief(name)} names {', '.join(missing)}" for name, missing in self._missing.items()][:_MAX_TOLD]
        return f"{'; '.join(told)}: not there, and left out" if told else ""

    def _existing(self) -> str:
        known = self._view.known
        return f"the cluster has {_brief(str(known))}" if known else "the cluster has no nodes yet"

    def _group(self, name: str, path: tuple[str, ...]) -> list[int]:
        if name == "*":
            return self._known
        source, colon, inner = name.partition(":")
        if colon and source == "state":
            nodes = self._in_state(inner)
            if nodes is None:
                raise NodeListError(f"@{_brief(name)}: there is no state {_quote(inner)}; {self._all_states()}")
            return nodes
        if name in path:
            raise NodeListError(f"the group @{_brief(name)} is defined by itself: {' -> '.join((*path, name))}")
        if len(path) >= MAX_GROUP_DEPTH:
            raise NodeListError(f"the groups {' -> '.join((*path, name))} are nested more than {MAX_GROUP_DEPTH} deep")
        text = self._view.groups.get(name)
        if text is None and colon and inner == "*":
            every = sorted(known for known in self._view.groups if known.startswith(f"{source}:"))
            text = ",".join(f"@{known}" for known in every) or None
        if text is None:
            names = [f"@{known}" for known in sorted(self._view.groups)]
            more = f" and {len(names) - _MAX_TOLD} more" if len(names) > _MAX_TOLD else ""
            raise NodeListError(
                f"there is no group @{_brief(name)}; "
                + (f"there are {', '.join(names[:_MAX_TOLD])}{more}" if names else "none is defined")
            )
        outer, self._group_name = self._group_name, self._group_name or name
        try:
            nodes = self.read(text, (*path, name))
        except NodeListError as error:
            if path:
                raise
            raise NodeListError(f"in the group @{name}: {error}") from error
        finally:
            self._group_name = outer
        return list(dict.fromkeys(nodes)) if inner == "*" else nodes

    def _word(self, element: str) -> list[int]:
        """Read ``all``, a state, with ``all`` and ``not`` in front or without, or a host name; a state goes first."""
        view = self._view
        if element == "all":
            self._is_wide = True
            self._spend(len(self._known))
            return self._known
        nodes = self._in_state(element)
        if nodes is not None:
            self._is_wide = True
            return nodes
        node = view.hosts.get(element.lower())
        if node is not None:
            return [node]
        if "[" in element:
            return self._host_names(element)
        if self._group_name and not host_name_problem(element.lower()):
            self._miss(_brief(element))
            return []
        raise NodeListError(
            f"{_quote(element)} is neither a node nor a state{_hint(element)}; {self._existing()}, {self._all_states()}"
        )

    def _in_state(self, word: str) -> list[int] | None:
        """Return the nodes in a state, or not in it, if this word says so."""
        states = self._states()
        for prefix, wanted in PREFIXES:
            state = word.removeprefix(prefix)
            if word.startswith(prefix) and state in states:
                self.looked_at_states = True
                self._spend(len(self._known))
                meant = {each for each in self._shown if state in each.split("+")}
                return [node for node in self._known if (self._view.state_of(node) in meant) == wanted]
        return None

    def _all_states(self) -> str:
        return "the states are " + ", ".join((*NODE_STATES, *sorted(self._states().difference(NODE_STATES))))

    def _states(self) -> frozenset[str]:
        if self._words is None:
            self._spend(len(self._known))
            self._shown = frozenset(map(self._view.state_of, self._known))
            # One that is down and set to something is in both states: `heorot.core.wire.wishes`.
            self._words = frozenset(NODE_STATES).union(word for state in self._shown for word in state.split("+"))
        return self._words

    def _host_names(self, element: str) -> list[int]:
        """Read host names in brackets."""
        try:
            names = expand_names(element.lower(), MAX_ENTRIES)
        except NodeListError as error:
            raise NodeListError(f"{_quote(element)}: {error}") from None
        self._spend(len(names))
        found = [self._view.hosts.get(name) for name in names]
        nodes = [node for node in found if node is not None]
        if len(nodes) < len(names):
            unknown = [name for name, node in zip(names, found, strict=True) if node is None]
            folded = _brief(fold_names(unknown[:1000]))
            if self._group_name:
                self._miss(folded)
                return nodes
            verb = "is no host" if len(unknown) == 1 else "are no hosts"
            raise NodeListError(f"{_quote(element)}: there {verb} {folded}; {self._existing()}")
        return nodes


def _hint(element: str) -> str:
    """Return what may have been meant by a word that is nothing; empty: nobody knows."""
    match = _HOST_RANGE.fullmatch(element[:128])
    return f" (several hosts are written {_brief(f'{match[1]}[{match[2]}-{match[3]}]')})" if match else ""


def _brief(text: str) -> str:
    """Return at most 60 characters: what is wrong may be as long as the list."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def _quote(text: str) -> str:
    return repr(_brief(text.strip()))
