"""Two of a kind: a second daemon in one place is refused, and one that was killed is replaced at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from heorot.config.files import load_head
from heorot.core.errors import HeorotError
from heorot.core.wire import tree as m
from heorot.daemons.single import AlreadyRunning, hold, note
from heorot.runtime.sockets import connect_unix
from tests.bpinit.space_rig import Agent, launch
from tests.support.commands import command
from tests.support.embedded import Embedded, alive, enter_user_namespace, make_user_namespace, wait_for
from tests.support.etcd import free_ports
from tests.support.other_user import NOBODY
from tests.support.waiting import DEADLINE_S


@contextmanager
def daemon(name: str, *arguments: object, namespace: int = -1) -> Iterator[subprocess.Popen[str]]:
    """Run a daemon, and end it and all that belongs to it."""
    with subprocess.Popen(
        [*command(name), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        text=True,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=(lambda: enter_user_namespace(namespace)) if namespace >= 0 else None,
    ) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(DEADLINE_S)
            finally:
                process.kill()


def refused(name: str, *arguments: object, namespace: int = -1) -> str:
    """Run a daemon that must not start; return what it says."""
    with daemon(name, *arguments, namespace=namespace) as process:
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1, errors
    return str(errors)


def holder(text: str) -> int:
    """Return the process that a refusal names."""
    found = re.search(r"runs already, as process (\d+), which holds", text)
    assert found, text
    return int(found[1])


def held_by(path: Path) -> set[int]:
    """Return the processes that have this file open."""
    wanted, found = path.stat(), set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                fds = os.listdir(f"/proc/{name}/fd")
            except OSError:
                continue
            for fd in fds:
                try:
                    if os.path.samestat(os.stat(f"/proc/{name}/fd/{fd}"), wanted):
                        found.add(int(name))
                except OSError:
                    continue
    return found


def test_the_lock_names_its_holder_and_goes_with_it(tmp_path: Path) -> None:
    first = hold(tmp_path, "x", "the thing")
    with pytest.raises(AlreadyRunning) as error:
        hold(tmp_path, "x", "the thing")
    assert holder(str(error.value)) == os.getpid()
    os.close(first)
    os.close(hold(tmp_path, "x", "the thing", ending_s=0.0))
    assert (tmp_path / "x.lock").stat().st_mode & 0o777 == 0o600


def test_a_lock_whose_file_is_replaced_is_taken_anew(tmp_path: Path) -> None:
    first = hold(tmp_path, "x", "the thing")
    (tmp_path / "x.lock").unlink()
    second = hold(tmp_path, "x", "the thing")
    with pytest.raises(AlreadyRunning):
        hold(tmp_path, "x", "the thing")
    os.close(first)
    os.close(second)


def test_what_a_killed_daemon_has_left_is_waited_for(tmp_path: Path) -> None:
    # A process that has ended: the lock is still held by what belonged to it, which is this test.
    ended = subprocess.Popen(["true"])
    ended.wait()
    first = hold(tmp_path, "x", "the thing")
    note(first, ended.pid)
    with pytest.raises(AlreadyRunning):
        hold(tmp_path, "x", "the thing", ending_s=0.2)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        # It belongs to the daemon, and ends when it is told to.
        os.close(write)
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    os.close(first)
    os.close(write)
    os.close(hold(tmp_path, "x", "the thing"))
    os.waitpid(pid, 0)


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "x.lock").symlink_to("victim")
    with pytest.raises(HeorotError, match="symbolic"):
        hold(tmp_path, "x", "the thing")
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Embedded]:
    """Two nodes and two heads."""
    made = Embedded(tmp_path / "c")
    made.up("--nodes", "2", "--heads", "2")
    yield made
    made.close()


def test_no_second_daemon_is_let_into_a_clusters_directory(cluster: Embedded, tmp_path: Path) -> None:
    status = cluster.status()
    node, heads = status["nodes"][0], {head["name"]: head for head in status["heads"]}
    job = cluster.run("bpsh", "--detach", "n0", "/bin/sleep", "1000").stdout.strip()
    places = cluster.directory / "nodes" / "n0", cluster.directory / "heads" / "h1"
    before = [(place / name).stat().st_ino for place, name in zip(places, ("init.sock", "keeper.sock"), strict=True)]
    name = (cluster.directory / "cluster.toml").read_text().split('"')[1]
    (port,) = free_ports(1)
    node_file, head_file = tmp_path / "node.toml", tmp_path / "head.toml"
    node_file.write_text(
        f'[cluster]\nid = "{name}"\ndirectory = "{cluster.directory}"\n'
        f'[node]\nnumber = 0\nlisten = "127.0.0.1:{port}"\nheads = ["127.0.0.1:1"]\n'
    )
    head_file.write_text(
        f'[cluster]\nid = "{name}"\ndirectory = "{cluster.directory}"\n'
        f'[head]\nname = "h1"\nlisten = "127.0.0.1:{port}"\n'
        f'addresses = ["127.0.0.1:1"]\nsocket = "{cluster.directory}/head.sock"\n'
    )
    load_head(head_file)
    assert holder(refused("bpinit", "--dir", places[0], "--node", "0")) == node["init_pid"]
    assert holder(refused("bpnode", "--config", node_file)) == node["agent_pid"]
    assert holder(refused("bphead", "--config", head_file)) == heads["h1"]["keeper_pid"]
    after = [(place / name).stat().st_ino for place, name in zip(places, ("init.sock", "keeper.sock"), strict=True)]
    assert after == before
    # A new agent of n0 finds the processes of the first bpinit.
    os.kill(node["agent_pid"], signal.SIGKILL)
    wait_for(lambda: cluster.node(0).get("agent_pid") not in (None, node["agent_pid"]))
    wait_for(lambda: cluster.states() == ["up", "up"])
    assert '"running": 1' in cluster.run("bpjob", "show", job, "--json").stdout
    cluster.run("bpjob", "kill", "-KILL", job)


def test_each_lock_is_held_by_its_daemon_and_what_that_forks_and_by_no_rank(cluster: Embedded) -> None:
    status = cluster.status()
    job = cluster.run("bpsh", "--detach", "-a", "/bin/sleep", "1000").stdout.strip()
    wait_for(lambda: '"running": 2' in cluster.run("bpjob", "show", job, "--json").stdout)
    root = cluster.directory
    wanted = {root / "warden.lock": {status["warden_pid"]}}
    for node in status["nodes"]:
        place = root / "nodes" / node["name"]
        wanted |= {place / "bpinit.lock": {node["init_pid"]}, place / "bpnode.lock": {node["agent_pid"]}}
    for head in status["heads"]:
        # The head's process has the port, which the next keeper needs.
        wanted[root / "heads" / head["name"] / "keeper.lock"] = {head["keeper_pid"], head["pid"]}
    assert len({head["pid"] for head in status["heads"]} - {head["keeper_pid"] for head in status["heads"]}) == 1
    assert {path: held_by(path) for path in wanted} == wanted
    cluster.run("bpjob", "kill", "-KILL", job)


@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_a_second_bpinit_is_refused_and_a_killed_one_is_replaced_at_once(tmp_path: Path, rootless: bool) -> None:
    place = tmp_path / "n3"
    place.mkdir()
    namespace = make_user_namespace() if rootless else -1
    user = {"uid": NOBODY, "gid": NOBODY} if rootless else {}
    arguments = ("--dir", place, "--node", "3")

    def connected() -> bool:
        try:
            connect_unix(place / "init.sock").close()
        except OSError:
            return False
        return True

    def agent() -> Agent:
        wait_for(connected)
        return Agent(str(place / "init.sock"))

    try:
        with daemon("bpinit", *arguments, namespace=namespace) as first:
            ours = agent()
            ours.send(m.Inventorize(), launch("1.1", b"sleep", b"1000", **user))
            ours.wait_started("1.1")
            inventory = ours.answers[0]
            assert isinstance(inventory, m.Inventory)
            held = inventory.init_pid
            assert holder(refused("bpinit", *arguments, namespace=namespace)) == first.pid
            assert held_by(place / "bpinit.lock") == {first.pid, held}
            first.kill()
            # Whoever comes next waits for what the first one held, and is then alone.
            with daemon("bpinit", *arguments, namespace=namespace) as second:
                wait_for(lambda: not alive(held))
                ours.close()
                ours = agent()
                ours.send(m.Inventorize())
                ours.until(lambda: bool(ours.answers), "the inventory")
                found = ours.answers[0]
                assert isinstance(found, m.Inventory)
                assert found.jobs == []
                assert held_by(place / "bpinit.lock") == {second.pid, found.init_pid}
                ours.close()
    finally:
        if namespace >= 0:
            os.close(namespace)
