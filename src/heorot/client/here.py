"""Where a program runs that names nodes: what ``self`` and ``localhost`` mean in its node lists."""

from __future__ import annotations

import os

VARIABLE = "HEOROT_NODE"


def with_here(nodes: str) -> str:
    """Return a node list with the node on which this process is a rank in the place of ``self`` and ``localhost``.

    On a head's host there is none: then the words stay, and mean the head.
    """
    node = os.environ.get(VARIABLE, "")
    if ("self" not in nodes and "localhost" not in nodes) or not (node.isascii() and node.isdecimal()):
        return nodes
    import re  # no word of most lists

    return re.sub(r"(?<![\w@.:\]-])(?:self|localhost)(?![\w.:\[-])", f"n{node}", nodes)
