"""``python -m tests.transcripts [NAME...]``: write the answers of these transcripts anew, or of all that are written.

Read the difference before you commit it: each line is something that a machine did not do before, or does no longer.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.transcripts.interpreter import play

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Rewrite them, each as far as it can be played."""
    for path in [HERE / f"{name}.txt" for name in names] or sorted(HERE.glob("*.txt")):
        path.write_text(play(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
