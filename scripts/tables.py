"""Write what docs/protocol.md says of who may say what, and draw the pictures of docs/states.md, from the tables of the
machines.

.venv/bin/python -m scripts.tables
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

from heorot.core.head import routes as head
from heorot.core.head import states as head_states
from heorot.core.images import states as image_states
from heorot.core.node import routes as node
from heorot.core.node import states as node_states
from heorot.core.node.peers import FROM_PEERS
from heorot.core.pmi import states as pmi_states
from heorot.core.routes import Routes
from heorot.core.space import routes as space
from heorot.core.space import states as space_states
from heorot.core.states import StateTable, word
from heorot.core.tree import states as tree_states
from heorot.core.wire import clients as c
from heorot.core.wire import wishes

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "protocol.md"
BEGIN, END = "<!-- who may say what: python -m scripts.tables -->\n", "<!-- end -->\n"
ALL: tuple[Routes, ...] = (
    head.FROM_BELOW,
    head.FROM_RIVALS,
    head.FROM_CLIENTS,
    node.FROM_ABOVE,
    node.FROM_SPACE,
    node.FROM_BELOW,
    FROM_PEERS,
    space.FROM_AGENT,
)
STATES_PAGE = DOCS / "states.md"
ALL_STATES: dict[str, StateTable[Any, Any]] = {
    "link-below": tree_states.LINK_BELOW,
    "node": head_states.NODE,
    "watch": head_states.WATCH,
    "rank": head_states.RANK,
    "space-rank": space_states.SPACE_RANK,
    "pmi-rank": pmi_states.PMI_RANK,
    "image": image_states.IMAGE,
    "uplink": node_states.UPLINK,
}
"""By the word that marks the place of its picture in the page."""


def table() -> str:
    """Return the table as it stands in the page."""
    rows: dict[tuple[str, str], list[str]] = {}
    for routes in ALL:
        for side in routes.sides():
            words = rows.setdefault((routes.listener, side.strip(",")), [])
            words += [kind.__name__ for kind in routes.heard_from(side) if kind.__name__ not in words]
    rows["a client", "a head"] = [kind.__name__ for kind in get_args(c.HeadMessage)]
    lines = ["| who listens | who speaks | what it may say |", "| --- | --- | --- |"]
    for (listener, speaker), words in rows.items():
        lines.append(f"| {listener} | {speaker} | {', '.join(f'`{word}`' for word in words)} |")
    return "\n".join(lines) + "\n"


def rewritten(page: str) -> str:
    """Return the page with the table as it is now."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


def picture(states: StateTable[Any, Any]) -> str:
    """Return a table of states as a diagram; what follows the same way from one state to another is one arrow."""
    arrows: dict[tuple[str, str], list[str]] = {}
    for state, change, then in states:
        arrows.setdefault((state.name.lower(), then.name.lower()), []).append(word(change))
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {states.start.name.lower()}"]
    lines += [f"    {state} --> {then}: {', '.join(changes)}" for (state, then), changes in arrows.items()]
    return "\n".join([*lines, "```"]) + "\n"


def words_of_nodes() -> str:
    """Return the words that nodes may be set to, as they stand in the page."""
    lines = ["| set to | may start processes there | what it says |", "| --- | --- | --- |"]
    lines += [f"| `{state}` | {who} | {meaning} |" for state, (who, meaning) in wishes.MEANINGS.items()]
    own = f"a word of the site, of at most {wishes.MAX_STATE} characters"
    lines.append(f"| {own} | {wishes.ADMINISTRATORS} | what the site wants |")
    return "\n".join(lines) + "\n"


def redrawn(page: str) -> str:
    """Return the page of states with its pictures as they are now."""
    parts = {name: picture(states) for name, states in ALL_STATES.items()} | {"node-states": words_of_nodes()}
    for name, text in parts.items():
        begin = f"<!-- {name}: python -m scripts.tables -->\n"
        before, mark, rest = page.partition(begin)
        assert mark, f"there is no place for the picture of {name}"
        page = f"{before}{begin}{text}{END}{rest.partition(END)[2]}"
    return page


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
    STATES_PAGE.write_text(redrawn(STATES_PAGE.read_text("utf-8")), "utf-8")
