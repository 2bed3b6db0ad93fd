"""``python -m tests.soak``: the long forms of the tests by turns, for a given time. ``make soak`` runs it.

Each part is a command of its own with another seed in each round. What fails is named with the command that repeats
it, and its output is kept; the others go on.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "build" / "soak"
END_S = 120.0
"""How long a part that is interrupted because the time is over may take to remove what it made."""


@dataclass
class Part:
    """One kind of long test; SEED in its words is replaced."""

    name: str
    words: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)

    def command(self, seed: int) -> list[str]:
        """Return the words behind ``python -m``."""
        return [word.replace("SEED", str(seed)) for word in self.words]

    def line(self, seed: int) -> str:
        """Return what repeats it."""
        variables = [f"{name}={value.replace('SEED', str(seed))}" for name, value in self.environment.items()]
        return " ".join([*variables, ".venv/bin/python", "-m", *self.command(seed)])


def chaos(*options: str) -> tuple[str, ...]:
    """Return how to kill heads under load."""
    return ("tests.chaos", "--seed", "SEED", *options)


SIMULATION = ("heorot.sim", "--first", "SEED", "--seeds", "100000", "--length", "10", "--minutes", "3")
INTERIOR = ("bench.interior", "--nodes", "64", "--fanout", "4", "--kills", "2", "--seed", "SEED")
FUZZ = ("pytest", "-q", "tests/fuzz")
PARTS = (
    Part("simulated clusters", SIMULATION),
    Part("heads killed", chaos("--kills", "40")),
    Part("heads that hand over", chaos("--kills", "20", "--workers", "3", "--switch")),
    Part("heads killed, with etcd", chaos("--kills", "15", "--workers", "3", "--etcd")),
    Part("hosts cut, killed, paused", chaos("--hosts", "--rounds", "5", "--pauses", "5", "--switches", "3")),
    Part("interior nodes killed", INTERIOR),
    Part(
        "mutated frames",
        FUZZ,
        {"HEOROT_FUZZ_FRAMES": "1000000", "HEOROT_FUZZ_WORDS": "200000", "HEOROT_FUZZ_SEED": "SEED"},
    ),
)


def run(part: Part, seed: int, until_s: float) -> int | None:
    """Run a part, its output in a file; return its status, or None if the time was over before it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment |= {name: value.replace("SEED", str(seed)) for name, value in part.environment.items()}
    with open(output_of(part, seed), "wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *part.command(seed)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        try:
            return process.wait(max(until_s - time.monotonic(), 0))
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as stopped:
            # As Ctrl-C: what it has started ends with it.
            process.send_signal(signal.SIGINT)
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return process.returncode
            if isinstance(stopped, KeyboardInterrupt):
                raise
            return None


def output_of(part: Part, seed: int) -> Path:
    """Return the file of a part's output."""
    return OUT / f"{part.name.replace(' ', '-').replace(',', '')}-{seed}.txt"


def main() -> int:
    """Return 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="how long to go on (default: 60)")
    parser.add_argument("--first", type=int, help="the first seed (default: from the clock)")
    parser.add_argument("--only", default="", help="only parts with this in their names")
    options = parser.parse_args()
    parts = [part for part in PARTS if options.only in part.name]
    if not parts:
        parser.error(f"no part is named so; there are: {', '.join(part.name for part in PARTS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    seed = options.first or int(time.time()) % 1_000_000 * 1000
    began_s = time.monotonic()
    until_s = began_s + options.minutes * 60
    done, failed = 0, []
    print(f"{options.minutes:g} minutes from seed {seed}; output in {OUT.relative_to(ROOT)}", flush=True)
    while time.monotonic() < until_s:
        for part in parts:
            start_s = time.monotonic()
            if start_s >= until_s:
                break
            status = run(part, seed, until_s)
            end_s = time.monotonic()
            word = {0: "passed", None: "cut short"}.get(status, "FAILED")
            print(
                f"{(end_s - began_s) / 60:6.1f} min  {word:9}  {end_s - start_s:5.0f} s  {part.name}, seed {seed}",
                flush=True,
            )
            if status in (0, None):
                done += status == 0
                output_of(part, seed).unlink()
            else:
                failed.append(f"{part.line(seed)}    # {output_of(part, seed).relative_to(ROOT)}")
        seed += 1000
    print(f"{done} passed, {len(failed)} failed")
    print("\n".join(failed), end="\n" if failed else "")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
