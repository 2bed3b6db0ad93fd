"""What an administrator wants of a node, apart from what is so, and how the two are shown as one word.

Whether a node is reached is a fact, and the head's own. That it is to be drained is a wish: somebody has said so, for a
reason, at a time, and every head goes by it. Wishes are records that all heads share (`heorot.security.wishes`).

What is shown: the fact (``down``, ``boot``) of a node that is not up; the wish, if there is one, of a node that is;
``up`` of one that is up and of which nobody wants anything; and both, ``down+drain``, if it is not up and somebody has
set it to something. A node list that names either word of the two selects it.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from heorot.core.wire.base import Count, Message

UP, DRAIN, ERROR = "up", "drain", "error"
NODE_UP, HEALTH = "node_up", "health"
"""Who has set a node to `ERROR`, if it was the site's script or its check."""
FACTS = ("down", "boot", "unknown")
"""What only the head itself finds out."""
NOBODY, ADMINISTRATORS, EVERYBODY = "nobody", "root and the owner", "whom the mode allows it"
MEANINGS = {
    UP: (EVERYBODY, "nothing is wanted of it"),
    DRAIN: (NOBODY, "what runs goes on, and nothing is added"),
    ERROR: (ADMINISTRATORS, "something is wrong with it"),
    "unavailable": (ADMINISTRATORS, "it is kept for something else"),
    "reboot": (ADMINISTRATORS, "it is about to start anew"),
    "halt": (ADMINISTRATORS, "it is about to stop"),
    "pwroff": (ADMINISTRATORS, "it is about to be without power"),
}
"""What may be wanted, besides the site's own words: who may start processes there, and what it means."""
STATES = tuple(state for state in MEANINGS if state != UP)
POWER_STATES = ("reboot", "halt", "pwroff")
JOINT = "+"
MAX_STATE = 15
MAX_REASON = 255
MAX_MODE = 0o111
DEFAULT_MODE = 0o111
_STATE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,14}")
_TAKEN = re.compile(r"n[0-9].*|(?:all|not).*|master|self|localhost")
"""What other words of a node list begin with, or are."""


class NodeWish(Struct, frozen=True, gc=False):
    """What is wanted of a node, by its number; the newest of two has the higher epoch and sequence."""

    node: int
    epoch: int = 0
    """Of the head that took it, and ..."""
    sequence: int = 0
    """... which of its changes it was."""
    state: str = ""
    """A word (`complaint`); empty: nothing, so the node is ``up`` when it is up."""
    reason: str = ""
    by: str = ""
    """The user who set the state, by name."""
    at_ms: int = 0
    """When, since 1970."""
    mode: int = DEFAULT_MODE
    """Who may start processes there, as the x bits of chmod(1) for `uid`, `gid` and others."""
    uid: int = 0
    gid: int = 0
    holder: str = ""
    """The key that the number was given to, as `heorot.core.machine.NodesRemoved.given_to` in hex; empty: not known. A
    wish is for that host: the next one with the number begins anew."""
    until: int = 0
    """The incarnation of its processes that this is about, as of a reboot; when another one begins, `then` holds."""
    then: str = ""
    """What it was set to before, and ..."""
    then_reason: str = ""
    """... why."""
    prepared: int = 0
    """The incarnation for which the site's ``node_up`` has ended, well or not."""

    @property
    def version(self) -> tuple[int, int]:
        """What tells which of two is the newer one."""
        return self.epoch, self.sequence


NO_WISH = NodeWish(-1)
"""Of a node of which nobody has wanted anything."""


class KeepWishes(Struct, frozen=True, gc=False):
    """Instruction to a head's shell: put these into the store that outlives this head and its host; answered by
    `WishesKept`.
    """

    serial: int
    wishes: tuple[NodeWish, ...]


class WishesKept(Struct, frozen=True, gc=False):
    """The answer to `KeepWishes`."""

    serial: int
    error: str = ""
    """Empty: every head that is elected from now on knows them before it takes a launch."""
    written: bool = True
    """They are on this host's disk at least, and may get into the store later."""


class Prepare(Struct, frozen=True, gc=False):
    """Instruction to a head's shell: run the site's ``node_up`` for this incarnation of a node, and no longer for a
    former one; answered by `Prepared`.
    """

    node: int
    incarnation: int
    host: str
    """Where its agent is."""


class Prepared(Struct, frozen=True, gc=False):
    """The answer to `Prepare`, unless a later one for the same node has come before it."""

    node: int
    incarnation: int
    error: str
    """For people, in one line: how it has failed; empty: it has not."""


class HealthFound(Struct, frozen=True, gc=False):
    """What the site's check has found on nodes: a node, and what is wrong with it; empty: nothing is."""

    found: tuple[tuple[int, str], ...]


class SetNodes(Message, tag="set-nodes", frozen=True):
    """Change what is wanted of nodes, and who may use them. Answered by `Result` with a `NodesSet`.

    The state may be set by root and the cluster's owner, and so may the user; mode and group by the node's user, too.
    """

    request: Count
    nodes: str
    """A node list."""
    state: str = ""
    """``up``, or what is wanted; empty: leave it as it is."""
    reason: str = ""
    """Of the state, for people."""
    mode: int = -1
    """-1: leave it as it is. The same for what follows."""
    uid: int = -1
    gid: int = -1
    power: bool = False
    """With ``reboot``, ``halt`` or ``pwroff``: that is about to be done. The answer has the site's command for it, and
    when the node comes back it is set to what it was set to before."""


def complaint(state: str, reason: str) -> str:
    """Return why a state with this reason cannot be wanted, for people; empty if it can."""
    if state in FACTS:
        return (
            f"{state!r} is what a head finds out, and nobody sets: there are up, {', '.join(STATES)}, or your own word"
        )
    if len(state) > MAX_STATE or not _STATE.fullmatch(state):
        return f"{state[:40]!r} is no state: up to {MAX_STATE} letters, digits, '_', '.' and '-', a letter first"
    if _TAKEN.fullmatch(state):
        return f"{state!r} means something else in a node list: choose another word"
    if len(reason) > MAX_REASON:
        return f"the reason has {len(reason)} characters; {MAX_REASON} are kept"
    if not reason.isprintable():
        return "the reason is to be one line of text, without anything that drives a terminal"
    return ""


def shown_state(fact: str, wish: str) -> str:
    """Return the word for a node: see the module."""
    if not wish:
        return fact
    return wish if fact == UP else f"{fact}{JOINT}{wish}"


def newest(ours: NodeWish, theirs: NodeWish) -> NodeWish:
    """Return the newer of two wishes for the same node, the same whichever is named first."""
    return max(ours, theirs, key=lambda wish: (wish.version, msgspec.json.encode(wish)))
