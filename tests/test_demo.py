"""The demonstration runs to its end, and an interrupted one leaves nothing behind (which the leak fixture proves)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heorot.demo import executable

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 240.0


def start() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("HEOROT_DIR", None)
    return subprocess.Popen(
        [sys.executable, "-m", "heorot.demo"],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_a_signal_needs_no_program_but_a_shell(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        subprocess.run([*executable("kill"), "-9", str(process.pid)], env={"PATH": str(tmp_path)}, check=True)
        assert process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_the_demonstration_shows_what_it_promises() -> None:
    with start() as demo:
        output, errors = demo.communicate(timeout=DEADLINE_S)
    assert errors == "", output[-2000:]
    assert demo.returncode == 0
    lines = output.splitlines()
    assert "up        64  n[0-63]" in lines
    assert any(line.startswith("$ kill -9 ") for line in lines)
    assert "up        63  n[0-5,7-63]" in lines
    assert any("rank 6 on n6: lost" in line for line in lines)
    assert "0-63     up      ---x--x--x  root  root" in lines
    # The head died in the middle of this, and each rank wrote all of its lines all the same.
    for node in ("n3", "n4"):
        assert [line for line in lines if line.startswith(f"{node}: step")] == [
            f"{node}: step {i}" for i in range(1, 13)
        ]
    # The signal took rank 9 out of the table, and only that one.
    shown = [line.split()[3] for line in lines if line.endswith("sleep 600") and line.split()[1] in ("n8", "n9", "n10")]
    assert shown == ["8", "10"]


@pytest.mark.slow
@pytest.mark.parametrize("after", ["$ heorot up", "$ bpsh -a", "$ kill -9"])
def test_an_interrupted_demonstration_cleans_up(after: str) -> None:
    with start() as demo:
        assert demo.stdout is not None
        assert any(line.startswith(after) for line in demo.stdout)
        # As Ctrl-C on a terminal: to the whole foreground group.
        os.killpg(demo.pid, signal.SIGINT)
        _, errors = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 130
    assert "interrupted; cleaning up" in errors
