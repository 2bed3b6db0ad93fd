"""Clusters come up as asked and go without a trace."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.cluster.harness import DEADLINE_S, Cluster, await_that, cluster, host_pids, is_alive, kill_hard, stopped
from tests.support.etcd import free_ports


def test_status_says_what_there_is(shared: Cluster) -> None:
    status = shared.status()
    assert status["epoch"] >= 1
    assert [head["role"] for head in status["heads"]] == ["active"]
    nodes = status["nodes"]
    assert [node["id"] for node in nodes] == list(range(8))
    assert [node["name"] for node in nodes] == [f"n{number}" for number in range(8)]
    assert {node["state"] for node in nodes} == {"up"}
    pids = [node[key] for node in nodes for key in ("agent_pid", "init_pid")] + [status["heads"][0]["pid"]]
    assert len(set(pids)) == 17
    assert all(map(is_alive, pids))
    # A tree of fan-out two.
    children = [node["parent"] for node in nodes]
    assert all(children.count(number) <= 2 for number in range(-1, 8))
    assert children.count(-1) == 2


@pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
def test_status_of_a_directory_says_nothing_of_another_cluster(
    shared: Cluster, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """HEOROT_DIR names a cluster that runs; the directory that is named does not exist."""
    result = shared.run("heorot", "status", "--dir", tmp_path / "nothing", *options)
    assert (result.returncode, result.stdout) == (125, b"")
    assert result.stderr.startswith(b"heorot status: no cluster at ")


def test_status_says_at_once_that_the_heads_are_stopped() -> None:
    with cluster(1) as made:
        made.check("heorot", "head", "stop", "h0")
        result = made.run("heorot", "status")
        assert (result.returncode, result.stderr.decode()) == (
            125,
            f"heorot status: no head leads at {made.directory}: h0 is stopped, and"
            f" 'heorot head start --dir {made.directory}' starts it\n",
        )
        assert result.stdout.decode().splitlines()[1].split() == ["h0", "stopped"]
        made.check("heorot", "head", "start")
        made.check("heorot", "status")


def test_the_command_line_of_a_daemon_says_which_it_is(shared: Cluster) -> None:
    def command_line(pid: int) -> list[str]:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode().split("\0")

    status = shared.status()
    (head,) = status["heads"]
    names = {status["warden_pid"]: "heorot-warden", head["pid"]: "bphead h0", head["keeper_pid"]: "bphead-keeper h0"}
    for node in status["nodes"]:
        names |= {node["agent_pid"]: f"bpnode {node['name']}", node["init_pid"]: f"bpinit {node['name']}"}
    assert {pid: command_line(pid)[0] for pid in names} == names
    assert all(command_line(pid)[-1] == str(shared.directory) for pid in names)


def test_down_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    marker = uuid.uuid4().hex
    made = Cluster(tmp_path / "c")
    made.up(6, "--fanout", "2")
    made.detach(
        "-a",
        "/bin/sh",
        "-c",
        "trap '' TERM INT HUP; setsid sleep 600 & sleep 600 & while :; do sleep 600; done",
        marker,
    )
    await_that(lambda: len(host_pids(marker)) == 6, "the job running")
    status = made.status()
    daemons = [node[key] for node in status["nodes"] for key in ("agent_pid", "init_pid")] + [made.head_pid()]
    made.down()
    assert not [pid for pid in daemons if is_alive(pid)]
    assert not host_pids(marker)
    assert os.listdir(tmp_path) == []


def test_down_without_a_cluster_says_so(tmp_path: Path) -> None:
    result = Cluster(tmp_path / "nothing").run("heorot", "down")
    assert result.returncode == 125
    assert b"no cluster" in result.stderr


@pytest.mark.parametrize("name", ["log", "nodes", "ca", "cluster.toml"])
def test_what_is_called_as_a_clusters_files_stays_if_no_cluster_made_it(tmp_path: Path, name: str) -> None:
    file = tmp_path / "c" / name / "app.log" if "." not in name else tmp_path / "c" / name
    file.parent.mkdir(parents=True)
    file.write_text("precious")
    made = Cluster(tmp_path / "c")
    for command in ("up", "down"):
        result = made.run("heorot", command)
        assert result.returncode == 125
        assert name.encode() in result.stderr
        assert b"heorot down" not in result.stderr.partition(b": ")[2]
    assert file.read_text() == "precious"
    assert os.listdir(tmp_path / "c") == [name]


def test_down_ends_a_cluster_whose_directory_is_gone(tmp_path: Path) -> None:
    marker = uuid.uuid4().hex
    made = Cluster(tmp_path / "c")
    made.up(3)
    made.detach("-a", "/bin/sh", "-c", "trap '' TERM INT HUP; while :; do sleep 600; done", marker)
    await_that(lambda: len(host_pids(marker)) == 3, "the job running")
    status = made.status()
    daemons = [node[key] for node in status["nodes"] for key in ("agent_pid", "init_pid")] + [made.head_pid()]
    shutil.rmtree(made.directory)
    made.check("heorot", "down")
    assert not [pid for pid in daemons if is_alive(pid)]
    assert not host_pids(marker)
    assert made.run("heorot", "down").returncode == 125


def test_up_without_an_etcd_says_at_once_what_is_lacking(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    result = Cluster(tmp_path / "c").run("heorot", "up", "--etcd", url)
    assert result.returncode == 125
    said = result.stderr.decode()
    assert f"etcd does not answer: {url}" in said
    assert "Connection refused" in said
    assert "start one first" in said
    assert os.listdir(tmp_path) == []


def test_the_same_directory_serves_again(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "c")
    for _ in range(2):
        made.up(2)
        assert made.check("bpsh", "-a", "/bin/echo", "here") == b"here\n" * 2
        made.down()


def test_json_of_up_is_the_status(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "c")
    status = json.loads(made.check("heorot", "up", "--nodes", "3", "--json"))
    try:
        assert [node["state"] for node in status["nodes"]] == ["up"] * 3
    finally:
        made.down()


def test_an_interrupted_up_leaves_nothing(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "c")
    with made.start("heorot", "up", "--nodes", "64", process_group=0) as process:
        await_that(lambda: (made.directory / "nodes").exists(), "the start under way")
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=DEADLINE_S)
    assert process.returncode not in (0, None)
    assert os.listdir(tmp_path) == []


def test_up_beside_one_that_was_killed_waits_until_its_cluster_can_be_used(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "c")
    with made.start("heorot", "up", "--nodes", "16", process_group=0) as process:
        await_that((made.directory / "ca").exists, "a warden that knows what to start")
        process.kill()
        process.communicate(timeout=DEADLINE_S)
    try:
        second = made.run("heorot", "up", "--nodes", "2")
        assert second.returncode == 125
        assert b"runs in" in second.stderr
        assert made.run("bpsh", "-A", "/bin/echo", "here").returncode == 0
    finally:
        made.down()


@contextmanager
def held_lock(directory: Path) -> Iterator[int]:
    """Hold the lock of a cluster's directory, as the last processes of one do that is about to end."""
    fd = os.open(directory / "warden.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def has_open(pid: int, path: Path) -> bool:
    """Tell whether a process has a file open at this moment."""
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            if os.readlink(entry) == str(path):
                return True
    return False


def test_up_waits_for_a_cluster_that_ends(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "c")
    made.directory.mkdir()
    asked = made.directory / "warden.sock"
    with ExitStack() as stack:
        with held_lock(made.directory), socket.socket(socket.AF_UNIX) as warden:
            warden.bind(str(asked))
            warden.listen()
            warden.settimeout(DEADLINE_S)
            up = stack.enter_context(made.start("heorot", "up", "--nodes", "1"))
            warden.accept()[0].close()
            asked.unlink()
        up.communicate(timeout=DEADLINE_S)
    assert up.returncode == 0
    made.down()


def test_several_downs_at_once_all_succeed(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "c")
    made.up(2)
    kill_hard(made.status()["warden_pid"])
    with ExitStack() as stack:
        with held_lock(made.directory):
            downs = [stack.enter_context(made.start("heorot", "down")) for _ in range(3)]
            waiting: set[int] = set()

            def all_wait() -> bool:
                waiting.update(down.pid for down in downs if has_open(down.pid, made.directory / "warden.lock"))
                return len(waiting) == len(downs)

            await_that(all_wait, "all of them at work")
        said = [down.communicate(timeout=DEADLINE_S)[1] for down in downs]
    assert [(down.returncode, text) for down, text in zip(downs, said, strict=True)] == [(0, b"")] * 3
    assert os.listdir(tmp_path) == []


def test_down_of_a_cluster_whose_warden_is_stopped_says_so(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "c")
    made.up(1)
    warden = made.status()["warden_pid"]
    with stopped(warden):
        result = made.run("heorot", "down")
    assert result.returncode == 125
    said = f"heorot down: the warden is stopped: 'kill -CONT {warden}' lets it go on\n"
    assert result.stderr.decode() == said
    made.down()


def test_a_long_path_will_do(tmp_path: Path) -> None:
    directory = tmp_path / ("long-" * 20) / ("name-" * 20)
    directory.parent.mkdir()
    made = Cluster(directory)
    made.up(2)
    try:
        assert made.check("bpsh", "-a", "/bin/echo", "here") == b"here\n" * 2
    finally:
        made.down()


def test_daemons_do_not_die_with_the_terminal_that_started_them(tmp_path: Path) -> None:
    made = Cluster(tmp_path / "c")
    with made.start("heorot", "up", "--nodes", "2", start_new_session=True) as process:
        process.communicate(timeout=DEADLINE_S)
    try:
        assert process.returncode == 0
        # What the kernel does to the foreground group when its terminal goes away; nothing may be in it any more.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGHUP)
        assert made.check("bpsh", "-a", "/bin/echo", "here") == b"here\n" * 2
    finally:
        made.down()


def test_other_fanouts_hold_the_same_nodes() -> None:
    for fanout in ("1", "3"):
        with cluster(5, "--fanout", fanout) as made:
            assert made.check("bpsh", "-s", "-p", "-a", "/bin/echo", "here") == b"".join(
                b"  %d: here\n" % i for i in range(5)
            )
