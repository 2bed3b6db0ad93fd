"""What ``heorot status --json`` prints, without a command: who waits asks often, and each start takes 0.1 s."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heorot.cli.admin import status
from heorot.core.errors import HeorotError


def status_of(directory: Path) -> dict[str, Any]:
    """Return the status, by the command's own code; empty while no head leads. Asks with the rights of the tests."""
    try:
        return status.status_of(str(directory))
    except HeorotError:
        return {}
