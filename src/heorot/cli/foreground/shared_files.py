"""What to say of ranks that write to one file. Imported when output goes into files."""

from __future__ import annotations

import os
from collections import Counter

from heorot.core.tree.nodeset import names_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def warning_of(nodes: Sequence[int], stdout: bytes | None, stderr: bytes | None, patterns: bool) -> str:
    """Return what to say if several ranks of a node write to one file; empty: none do.

    Parameters
    ----------
    nodes:
        The node of each rank.
    stdout, stderr:
        The files on the nodes, if they are files.
    patterns:
        Their names are patterns (`heorot.core.wire.path_patterns`).
    """
    crowded = [node for node, count in Counter(nodes).items() if count > 1]
    if not crowded:
        return ""
    shared = [os.fsdecode(path) for path in dict.fromkeys((stdout, stderr)) if path and not _differs(path, patterns)]
    if not shared:
        return ""
    return (
        f"the ranks of each node of {names_of(crowded)} write to one file, {' and '.join(map(repr, shared))}: what they"
        " write is mixed there; %r in the name is the rank"
    )


def _differs(path: bytes, patterns: bool) -> bool:
    if not patterns:
        return False
    from heorot.core.wire.path_patterns import is_per_rank

    return is_per_rank(path)
