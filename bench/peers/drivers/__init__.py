"""Programs that each hold the library of one peer and obey orders, one JSON object a line.

They run in the environment of the peers, so they import nothing but the standard library and that one peer.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

Run = Callable[[list[str]], list[tuple[int, int]]]
"""Runs a command on all nodes; returns status and number of bytes of each."""
Copy = Callable[[Path, Path], int]
"""Copies a file to all nodes; returns how many have it."""


def serve(pids: list[list[int]], run: Run, copy: Copy | None = None) -> None:
    """Say that all nodes are there, with the PIDs of each one's daemons, and obey until standard input ends."""
    # Whatever else prints, the answers are not mixed with it.
    answers = os.dup(1)
    os.dup2(2, 1)

    def answer(content: dict[str, object]) -> None:
        os.write(answers, json.dumps(content).encode() + b"\n")

    answer({"pids": pids})
    for line in sys.stdin:
        order = json.loads(line)
        start = time.perf_counter()
        try:
            if order["do"] == "run":
                ends = run(order["argv"])
                good, received = sum(status == 0 for status, _ in ends), sum(count for _, count in ends)
            else:
                assert copy is not None
                good, received = copy(Path(order["source"]), Path(order["target"])), 0
        except Exception as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            answer({"problem": f"raised {type(error).__name__}"})
        else:
            answer({"elapsed_s": time.perf_counter() - start, "good": good, "bytes": received})
