"""Rows of a benchmark, one for each setting, and the file that keeps them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.cluster import BenchError

OUT = Path(__file__).resolve().parent / "out"


def keep(name: str, measured: Iterable[dict[str, Any]]) -> int:
    """Write all rows to ``out/NAME.json`` once they are measured; return the exit status: 2 if a `BenchError` came."""
    try:
        rows = list(measured)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    return 0
