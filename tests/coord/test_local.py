"""The embedded coordination store: one head at a time, whatever becomes of the former, and an epoch that only grows."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heorot.coord.local import LocalStore
from heorot.core.errors import HeorotError

CANDIDATE = """
import sys
from pathlib import Path
from heorot.coord.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
print(store.campaign(sys.argv[2]), flush=True)
sys.stdin.read()
"""


def candidate(directory: Path, name: str) -> subprocess.Popen[str]:
    """Start a process that campaigns, prints its epoch once it is head, and lives until its stdin is closed."""
    return subprocess.Popen(
        [sys.executable, "-c", CANDIDATE, str(directory), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def end(process: subprocess.Popen[str], number: signal.Signals = signal.SIGKILL) -> None:
    """Kill and reap."""
    process.send_signal(number)
    process.communicate()


def test_a_standby_becomes_head_only_when_the_head_dies_and_with_a_higher_epoch(tmp_path: Path) -> None:
    first = candidate(tmp_path / "coord", "h0")
    assert first.stdout is not None
    assert first.stdout.readline() == "1\n"
    second = candidate(tmp_path / "coord", "h1")
    assert second.stdout is not None
    # While the first lives the second has nothing to say: killing the first is what makes it speak.
    store = LocalStore(tmp_path / "coord")
    assert store.last_epoch() == 1
    assert store.leader() == ("h0", first.pid)
    os.kill(first.pid, 0)
    end(first)
    assert second.stdout.readline() == "2\n"
    assert store.leader() == ("h1", second.pid)
    end(second)


def test_of_many_candidates_exactly_one_is_head_at_a_time(tmp_path: Path) -> None:
    candidates = {process.pid: process for process in (candidate(tmp_path / "coord", f"h{i}") for i in range(4))}
    store = LocalStore(tmp_path / "coord")
    epochs = []
    remaining = dict(candidates)
    while remaining:
        ready, _, _ = select.select([process.stdout for process in remaining.values() if process.stdout], [], [], 20)
        # The others wait: killing this one is what lets the next speak.
        assert len(ready) == 1
        pid = next(pid for pid, process in remaining.items() if process.stdout is ready[0])
        epochs.append(int(remaining[pid].stdout.readline()))  # type: ignore[union-attr]  # checked above
        leader = store.leader()
        assert leader is not None
        assert leader[1] == pid
        end(remaining.pop(pid))
    assert epochs == [1, 2, 3, 4]


def test_the_epoch_survives_and_is_never_given_twice(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        store = LocalStore(tmp_path / "coord")
        assert store.campaign("h0") == expected
        store.resign()


def test_a_damaged_epoch_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "epoch").write_text("seven\n")
    with pytest.raises(HeorotError, match="cannot read the epoch"):
        LocalStore(tmp_path).campaign("h0")
    assert (tmp_path / "epoch").read_text() == "seven\n"
    # The lock was given back: who repairs the file can go on at once.
    (tmp_path / "epoch").write_text("7\n")
    store = LocalStore(tmp_path)
    assert store.campaign("h0") == 8
    store.resign()
