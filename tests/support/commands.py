"""Heorot's commands as they are installed beside the Python that runs the tests, or of the sources."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def command(name: str) -> list[str]:
    """Return how to run one of Heorot's commands with the Python that runs the tests."""
    installed = Path(sys.executable).parent / name
    return [str(installed)] if installed.exists() else [sys.executable, str(ROOT / "bin" / name)]
