"""A cluster on this machine, real daemons and all: start, end, and what happens when one of them is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from heorot.config.layout import FAILED_START
from heorot.core.wire import tree as m
from heorot.core.wire.framing import encode_frame
from heorot.runtime.sockets import connect_unix
from tests.support.embedded import Embedded, alive, wait_for
from tests.support.other_user import BECOME

MakeCluster = Callable[..., Embedded]
SLEEP = f"sleep 1000.{os.getpid()}"
"""A command line that is nobody else's."""


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[MakeCluster]:
    """Make cluster directories that are cleared in the end."""
    made: list[Embedded] = []

    def make(rootless: bool = False, name: str = "c") -> Embedded:
        made.append(Embedded(tmp_path / name, rootless))
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()
        assert not cluster.daemons()


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_up_starts_everything_and_down_leaves_nothing(make_cluster: MakeCluster, rootless: bool) -> None:
    cluster = make_cluster(rootless)
    status = cluster.up("--nodes", "6", "--heads", "2", "--fanout", "2")
    assert status["epoch"] == 1
    assert [(head["name"], head["role"]) for head in status["heads"]] == [("h0", "active"), ("h1", "standby")]
    assert [(node["id"], node["name"], node["state"]) for node in status["nodes"]] == [
        (number, f"n{number}", "up") for number in range(6)
    ]
    assert [node["parent"] for node in status["nodes"]] == [-1, -1, 0, 0, 1, 1]
    # A standby is its keeper alone; the active head has a process of its own below it.
    pids = [status["heads"][0]["pid"], *(head["keeper_pid"] for head in status["heads"])]
    pids += [node[key] for node in status["nodes"] for key in ("agent_pid", "init_pid")]
    assert sorted([*pids, status["warden_pid"]]) == sorted(cluster.daemons())
    ranks = cluster.run("bpsh", "-a", "/bin/sh", "-c", "echo rank")
    assert ranks.stdout == "rank\n" * 6
    cluster.run("heorot", "down")
    assert not cluster.daemons()
    assert not cluster.directory.exists()


def test_a_second_cluster_in_one_directory_is_refused_and_harms_nobody(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    before = cluster.up("--nodes", "2")
    refused = cluster.run("heorot", "up", "--nodes", "2", status=125)
    assert "already" in refused.stderr
    assert "heorot down" in refused.stderr
    after = cluster.status()
    assert (after["heads"], after["nodes"]) == (before["heads"], before["nodes"])


def test_files_of_others_stay_and_so_does_a_directory_that_was_there(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.directory.mkdir()
    (cluster.directory / "notes.txt").write_text("mine")
    cluster.up("--nodes", "1")
    cluster.run("heorot", "down")
    assert [path.name for path in cluster.directory.iterdir()] == ["notes.txt"]
    assert cluster.run("heorot", "down", status=125).stderr.startswith("heorot down: there is no cluster in")


def test_a_path_too_long_for_a_unix_socket_works(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(name="d" * 150)
    cluster.up("--nodes", "2")
    assert cluster.run("bpsh", "n1", "/bin/echo", "here").stdout == "here\n"


def test_a_killed_agent_comes_back_and_the_job_does_not_notice(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster()
    before = cluster.up("--nodes", "3", "--fanout", "1")["nodes"]
    go, here = tmp_path / "go", tmp_path / "here"
    script = f"echo one; : > {here}; while [ ! -e {go} ]; do sleep 0.02; done; echo two; exit 3"
    with cluster.start("bpsh", "n1", "/bin/sh", "-c", script) as job:
        wait_for(here.exists)
        os.kill(before[1]["agent_pid"], signal.SIGKILL)
        wait_for(lambda: cluster.node(1).get("agent_pid") not in (None, before[1]["agent_pid"]))
        wait_for(lambda: cluster.states() == ["up"] * 3)
        go.touch()
        output, errors = job.communicate(timeout=150)
    assert (output, job.returncode) == ("one\ntwo\n", 3), errors
    assert cluster.node(1)["init_pid"] == before[1]["init_pid"]
    # The port is the same, so that the nodes below find their parent where it was.
    assert cluster.node(1)["address"] == before[1]["address"]


def test_an_agent_that_another_one_replaces_does_not_declare_its_node_dead(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    before = cluster.up("--nodes", "2")["nodes"]
    job = cluster.run("bpsh", "--detach", "n1", "/bin/sleep", "1000").stdout.strip()
    # bpinit serves one agent at a time, the newest: it closes the connection of the agent that was there.
    with connect_unix(cluster.directory / "nodes" / "n1" / "init.sock") as other:
        other.sendall(encode_frame(m.encode(m.Inventorize())))
        wait_for(lambda: cluster.node(1).get("agent_pid") not in (None, before[1]["agent_pid"]))
    # The new agent's inventory says that the rank runs; had the node been given up, it would be lost.
    wait_for(lambda: cluster.states() == ["up", "up"] and _job(cluster, job)["state"] != "launching")
    assert (_job(cluster, job)["running"], _job(cluster, job)["statuses"]) == (1, {})
    cluster.run("bpjob", "kill", "-KILL", job)


def _job(cluster: Embedded, job: str) -> dict[str, Any]:
    shown: dict[str, Any] = json.loads(cluster.run("bpjob", "show", job, "--json").stdout)
    return shown


def test_a_dead_bpinit_takes_its_node_down_until_somebody_starts_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    before = cluster.up("--nodes", "2")["nodes"]
    os.kill(before[1]["init_pid"], signal.SIGKILL)
    wait_for(lambda: cluster.states() == ["up", "down"])
    wait_for(lambda: not alive(before[1]["agent_pid"]))
    assert cluster.run("bpsh", "n1", "/bin/true", status=125).stderr
    cluster.run("heorot", "node", "start", "n1")
    wait_for(lambda: cluster.states() == ["up", "up"])
    cluster.run("bpsh", "n1", "/bin/true")
    cluster.run("heorot", "node", "stop", "n0-n1")
    wait_for(lambda: cluster.states() == ["down", "down"])
    assert cluster.run("heorot", "node", "start", "n7", status=125).stderr


def test_a_standby_takes_over_from_a_killed_head_and_the_job_goes_on(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster()
    status = cluster.up("--nodes", "3", "--heads", "2")
    go, here = tmp_path / "go", tmp_path / "here"
    script = f": > {here}; while [ ! -e {go} ]; do sleep 0.02; done; echo survived > {tmp_path}/result"
    cluster.run("bpsh", "--detach", "n2", "/bin/sh", "-c", script)
    wait_for(here.exists)
    os.kill(status["heads"][0]["pid"], signal.SIGKILL)
    after = wait_for(lambda: (now := cluster.status()) and now["epoch"] == 2 and cluster.states() == ["up"] * 3 and now)
    assert [(head["name"], head["role"]) for head in after["heads"]] == [("h0", "standby"), ("h1", "active")]
    assert [node["init_pid"] for node in after["nodes"]] == [node["init_pid"] for node in status["nodes"]]
    go.touch()
    wait_for((tmp_path / "result").exists)
    # The killed one is a standby now, and is there when the other one dies.
    os.kill(after["heads"][1]["pid"], signal.SIGKILL)
    wait_for(lambda: (now := cluster.status()) and now["epoch"] == 3 and cluster.states() == ["up"] * 3)
    assert [head["name"] for head in cluster.status()["heads"] if head["role"] == "active"] == ["h0"]


CROWD = """
import os, socket, sys
directory = os.open(sys.argv[1], os.O_PATH)
become(65534)
crowd = []
for _ in range(1100):
    crowd.append(socket.socket(socket.AF_UNIX))
    crowd[-1].connect(f"/proc/self/fd/{directory}/head.sock")
assert b"busy" in crowd[-1].recv(1000)
print("crowded", flush=True)
sys.stdin.read()
"""


def test_one_user_does_not_keep_others_from_the_head(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.up("--nodes", "1")
    command = [sys.executable, "-c", BECOME + CROWD, str(cluster.directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as crowd:
        assert crowd.stdout is not None
        assert crowd.stdout.readline() == b"crowded\n"
        assert cluster.run("bpsh", "n0", "/bin/echo", "x").stdout == "x\n"


def test_a_single_head_is_started_again_in_a_new_epoch(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    status = cluster.up("--nodes", "2")
    os.kill(status["heads"][0]["pid"], signal.SIGKILL)
    wait_for(lambda: cluster.status().get("epoch") == 2 and cluster.states() == ["up", "up"])
    assert cluster.run("bpsh", "-a", "/bin/echo", "x").stdout == "x\nx\n"


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_all_daemons_die_with_the_warden_and_down_clears_the_rest(
    make_cluster: MakeCluster, tmp_path: Path, rootless: bool
) -> None:
    cluster = make_cluster(rootless)
    status = cluster.up("--nodes", "2")
    pids = tmp_path / "pids"
    # Two generations, one of them in a session of its own: nothing but its environment says whose it is.
    script = f"{SLEEP} & setsid {SLEEP} & echo $! > {pids}; wait"
    cluster.run("bpsh", "--detach", "n0", "/bin/sh", "-c", script)
    wait_for(lambda: pids.exists() and pids.read_text())
    strays = wait_for(lambda: (found := _sleepers()) and len(found) == 2 and found)
    if rootless:
        # Without a namespace nothing kills the processes of a bpinit that is killed.
        os.kill(status["nodes"][0]["init_pid"], signal.SIGKILL)
        wait_for(lambda: cluster.states() == ["down", "up"])
    os.kill(status["warden_pid"], signal.SIGKILL)
    wait_for(lambda: not cluster.daemons(), "the end of all daemons")
    # Who is the first of its PID namespace is seen as ended a moment before the last of the others.
    wait_for(lambda: [alive(pid) for pid in strays] == [rootless, rootless], "the end of the job's processes")
    refused = cluster.run("heorot", "up", status=125)
    assert "does not run any more" in refused.stderr
    # What a daemon leaves that is killed while it replaces a file.
    (cluster.directory / f".registry.json.{status['heads'][0]['pid']}.new").touch()
    cluster.run("heorot", "down")
    assert not any(map(alive, strays))
    assert not cluster.directory.exists()


def _sleepers() -> list[int]:
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_sleeper(pid)]


def _is_sleeper(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().split(b"\0")[:-1] == SLEEP.encode().split() and alive(pid)
    except OSError:
        return False


def test_a_full_disk_is_said_and_nothing_is_left_but_the_logs(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(name="disk/c")
    cluster.directory.parent.mkdir()
    # In a mount namespace of its own: the file system is gone with it.
    parent = cluster.directory.parent
    script = f'mount -t tmpfs -o size=96k none {parent} && "$@"; status=$?; ls -A {cluster.directory}; exit $status'
    failed = cluster.run(
        "heorot", "up", "--nodes", "64", status=125, prefix=["unshare", "--mount", "sh", "-c", script, "sh"]
    )
    assert "No space left on device" in failed.stderr
    # No log, if there was no room for a word in any.
    assert failed.stdout.split() in ([FAILED_START], [])
    assert not cluster.daemons()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_start_leaves_nothing(make_cluster: MakeCluster, number: signal.Signals) -> None:
    cluster = make_cluster()
    with cluster.start("heorot", "up", "--nodes", "200") as starting:
        wait_for(lambda: len(cluster.daemons()) > 10)
        starting.send_signal(number)
        starting.communicate(timeout=150)
    assert starting.returncode not in (0, None)
    assert not cluster.daemons()
    assert not cluster.directory.exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nodes", "0"], "--nodes needs a number from 1"),
        (["--nodes", "x"], "--nodes needs a number from 1"),
        (["--heads", "99"], "--heads needs a number from 1"),
        (["--fanout", "-1"], "--fanout needs a number from 1"),
        (["n0"], "unexpected operand"),
    ],
)
def test_senseless_requests_are_refused(make_cluster: MakeCluster, arguments: list[str], text: str) -> None:
    cluster = make_cluster()
    refused = cluster.run("heorot", "up", *arguments, status=2)
    assert text in refused.stderr
    assert not cluster.directory.exists()


def test_a_directory_that_cannot_be_made_is_said(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(name="nosuch/parent/c")
    refused = cluster.run("heorot", "up", status=125)
    assert "No such file or directory" in refused.stderr


def test_status_for_people(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    cluster.up("--nodes", "5", "--fanout", "2")
    text = cluster.run("heorot", "status", "--tree").stdout
    assert "epoch 1, 5 nodes" in text
    assert "up         5  n[0-4]" in text
    assert text.endswith("master\n  n0\n    n[2-3]\n  n1\n    n4\n")


def test_doctor_tells_root_and_others_apart(make_cluster: MakeCluster) -> None:
    as_root = make_cluster().run("heorot", "doctor", "--nodes", "4", status=None)
    rootless = make_cluster(rootless=True).run("heorot", "doctor", "--nodes", "4", status=None)
    assert as_root.returncode == rootless.returncode == 0
    assert "ok       root" in as_root.stdout
    assert "limited  root" in rootless.stdout
    too_many = make_cluster().run("heorot", "doctor", "--nodes", "4096", "--json", status=None)
    assert '"check": "4096 nodes"' in too_many.stdout


def test_help_lists_every_command() -> None:
    cluster = Embedded(Path("/nonexistent"))
    text = cluster.run("heorot", "--help").stdout
    for words in ("up", "down", "status", "doctor", "node start", "node join", "head init", "token create"):
        assert f"heorot {words} " in text
    assert cluster.run("heorot", "frobnicate", status=2).stderr.startswith("heorot: there is no command")
