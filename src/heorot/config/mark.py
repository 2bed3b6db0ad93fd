"""What daemons of an embedded cluster have in their command lines: by it they are found when no warden is left."""

from __future__ import annotations

import os

WARDEN_MODULE = "heorot.embedded.warden"
"""What python runs; all other daemons are forks of that process."""
WARDEN_NAME = "heorot-warden"
"""What ps(1) shows of it."""
EMBEDDED = b"\0" + WARDEN_MODULE.encode() + b"\0"
"""In the command line of every daemon of an embedded cluster; the cluster's directory follows."""


def daemon_mark(root: str) -> bytes:
    """Return what only the command lines of the daemons of the cluster with this absolute directory contain."""
    return EMBEDDED + os.fsencode(root) + b"\0"
