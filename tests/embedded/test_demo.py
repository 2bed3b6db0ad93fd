"""The demonstration runs to its end, and an interrupted one leaves nothing behind (which the leak fixture proves)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heorot.embedded import demo
from heorot.embedded.demo import Demo, clean_up, executable

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 240.0


def start() -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    environment.pop("HEOROT_DIR", None)
    return subprocess.Popen(
        [sys.executable, "-m", "heorot.embedded.demo"],
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


def test_logs_of_a_start_that_failed_stay_where_they_were_said_to_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "failed-start"
    logs.mkdir()
    (logs / "warden.json").write_text("{}")
    clean_up(Demo(str(tmp_path)))
    assert logs.is_dir()
    assert capsys.readouterr().err == f"demo: the logs in {logs} stay; remove {tmp_path} when you have read them\n"


@pytest.mark.parametrize(("limit_s", "why"), [(0.0, "took more than"), (60.0, "is no cluster of 'heorot up'")])
def test_a_cluster_that_cannot_be_ended_keeps_its_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, limit_s: float, why: str
) -> None:
    monkeypatch.setattr(demo, "DOWN_TIMEOUT_S", limit_s)
    (tmp_path / "log").mkdir()
    clean_up(Demo(str(tmp_path)))
    said = capsys.readouterr().err
    assert said.startswith("demo: the cluster is not down yet (")
    assert why in said
    assert said.endswith(f"heorot down --dir {tmp_path}' ends what is left\n")
    assert (tmp_path / "log").is_dir()


@pytest.mark.slow
def test_the_demonstration_shows_what_it_promises() -> None:
    with start() as running:
        output, errors = running.communicate(timeout=DEADLINE_S)
    # Of a change of heads that takes longer than usual, as it may on a busy machine, bpsh has a word.
    news = ("bpsh: the head is gone; waiting for the next one", "bpsh: head h1 (epoch 2) has taken over")
    assert [line for line in errors.splitlines() if not line.startswith(news)] == [], output[-2000:]
    assert running.returncode == 0
    lines = output.splitlines()
    assert "up        64  n[0-63]" in lines
    assert any(line.startswith("$ kill -9 ") for line in lines)
    assert "up        63  n[0-5,7-63]" in lines
    assert any("rank 6 on n6: the node was lost" in line for line in lines)
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
    with start() as running:
        assert running.stdout is not None
        assert any(line.startswith(after) for line in running.stdout)
        # As Ctrl-C on a terminal: to the whole foreground group.
        os.killpg(running.pid, signal.SIGINT)
        _, errors = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 130
    assert "interrupted; cleaning up" in errors
