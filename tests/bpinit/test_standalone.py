"""``bpinit`` as a daemon of its own, as a service manager runs it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from heorot.bpinit import strays
from heorot.core.wire import tree as m
from heorot.daemons.bpinit import cluster_of
from tests.bpinit.conftest import MODES
from tests.bpinit.space_rig import DEADLINE_S, Agent, SpaceRig, launch


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_it_serves_until_it_is_told_to_end(tmp_path: Path) -> None:
    # Longer than a socket address can be: it is reached through its directory.
    directory = tmp_path / ("d" * 100)
    directory.mkdir()
    command = [sys.executable, "-m", "heorot.daemons.bpinit", f"--dir={directory}", "--node", "3", "--capacity", "63"]
    with subprocess.Popen(command, env=environment()) as daemon:
        deadline = time.monotonic() + DEADLINE_S
        agent: Agent | None = None
        while agent is None:
            assert time.monotonic() < deadline
            try:
                agent = Agent(str(directory / "init.sock"))
            except OSError:
                time.sleep(0.01)
        assert (directory / "init.sock").stat().st_mode & 0o777 == 0o600
        agent.send(m.Inventorize(), launch("1.1", b"sleep", b"1000"))
        agent.wait_started("1.1")
        inventory = agent.answers[0]
        assert isinstance(inventory, m.Inventory)
        assert inventory.init_pid not in (0, 1, daemon.pid)
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(DEADLINE_S) == 0
        agent.close()
    assert not Path(f"/proc/{inventory.init_pid}").exists()
    assert sorted(os.listdir(directory)) == ["bpinit.lock", "spool"]


def test_room_is_made_below_a_cluster_s_own_directory_alone(tmp_path: Path) -> None:
    """What lies elsewhere may be anybody's, called as caches are."""
    mine, everybody_s = tmp_path / "mine", tmp_path / "everybody's"
    for place in (mine, everybody_s):
        (place / "nodes" / "n3").mkdir(parents=True)
    everybody_s.chmod(0o1777)
    assert cluster_of(str(mine / "nodes" / "n3"), 3) == str(mine)
    assert cluster_of(f"{mine}/nodes/../nodes/n3/", 3) == str(mine)
    for stranger in (everybody_s / "nodes" / "n3", mine / "nodes" / "n33", mine / "other" / "n3", mine, "/"):
        assert cluster_of(str(stranger), 3) == ""


@pytest.mark.parametrize(
    "arguments", [[], ["--dir"], ["--dir", "/tmp"], ["--dir", "/tmp", "--node", "x"], ["--no", "1"]]
)
def test_wrong_use_is_told(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "heorot.daemons.bpinit", *arguments]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("usage: bpinit")


def test_a_directory_that_cannot_be_used_is_told() -> None:
    command = [sys.executable, "-m", "heorot.daemons.bpinit", "--dir", "/proc/nowhere", "--node", "1"]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert result.returncode == 1
    assert "/proc/nowhere" in result.stderr


@pytest.mark.parametrize("mode", MODES)
def test_the_space_ends_with_the_process_that_made_it(mode: str) -> None:
    reader, writer = os.pipe()
    maker = os.fork()
    if maker == 0:
        # Like the warden of a cluster: it makes the space, and is killed.
        space = SpaceRig(mode)
        os.write(writer, f"{space.pid} {space.marker} {space.directory} {space.work}".encode())
        signal.pause()
        os._exit(1)
    os.close(writer)
    pid, marker, directory, work = os.read(reader, 4096).decode().split()
    os.close(reader)
    agent = Agent(f"{directory}/init.sock")
    uid = os.stat(f"{directory}/init.sock").st_uid
    agent.send(launch("1.1", b"sh", b"-c", b"setsid sleep 1000 & wait", uid=uid, gid=uid))
    agent.wait_started("1.1")
    os.kill(maker, signal.SIGKILL)
    os.waitpid(maker, 0)
    deadline = time.monotonic() + DEADLINE_S
    while strays.find_strays(marker) or Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, strays.find_strays(marker)
        time.sleep(0.01)
    agent.close()
    shutil.rmtree(directory)
    shutil.rmtree(work)
