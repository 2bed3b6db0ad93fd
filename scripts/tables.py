"""Write what docs/protocol.md says of who may say what, from the tables of the machines.

.venv/bin/python -m scripts.tables
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from heorot.core.head import routes as head
from heorot.core.node import routes as node
from heorot.core.routes import Routes
from heorot.core.space import routes as space
from heorot.core.wire import clients as c

PAGE = Path(__file__).resolve().parent.parent / "docs" / "protocol.md"
BEGIN, END = "<!-- who may say what: python -m scripts.tables -->\n", "<!-- end -->\n"
ALL: tuple[Routes, ...] = (
    head.FROM_BELOW,
    head.FROM_RIVALS,
    head.FROM_CLIENTS,
    node.FROM_ABOVE,
    node.FROM_BELOW,
    node.FROM_PEERS,
    space.FROM_AGENT,
)


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


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text("utf-8")), "utf-8")
