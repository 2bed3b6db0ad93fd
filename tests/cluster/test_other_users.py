"""What a second user of the machine tries on a cluster of root, and on a root who is led to that user's directory."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest

import heorot
from heorot import aio
from heorot.client.search import HeadSearch
from heorot.config.layout import Layout
from heorot.core.errors import RequestError, SecurityError
from heorot.daemons import agent
from heorot.embedded import control
from heorot.images import collecting
from heorot.runtime.loop import EpollLoop
from tests.cluster.harness import Cluster, command
from tests.support.other_user import OTHER, as_other, impostor, open_to_all, other_holding


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A directory of the other user, which everybody can reach."""
    open_to_all(tmp_path)
    place = tmp_path / "theirs"
    place.mkdir()
    os.chown(place, OTHER, OTHER)
    return place


@pytest.mark.parametrize("below", ["", "new", "present"])
def test_up_refuses_what_another_user_could_exchange(theirs: Path, below: str) -> None:
    directory = theirs / below if below else theirs
    if below == "present":
        directory.mkdir()
    before = sorted(theirs.rglob("*"))
    done = Cluster(directory).run("heorot", "up", "--nodes", "1")
    assert done.returncode == 125
    assert f"{theirs} belongs to uid {OTHER}".encode() in done.stderr
    assert sorted(theirs.rglob("*")) == before


def test_doctor_makes_nothing_where_another_user_could_exchange_it(theirs: Path) -> None:
    os.utime(theirs, (1, 1))
    done = Cluster(theirs / "cluster").run("heorot", "doctor", "--nodes", "1")
    assert f"{theirs} belongs to uid {OTHER}".encode() in done.stdout
    assert theirs.stat().st_mtime == 1


def test_up_refuses_what_everybody_may_write(theirs: Path) -> None:
    os.chown(theirs, 0, 0)
    theirs.chmod(0o777)
    done = Cluster(theirs).run("heorot", "up", "--nodes", "1")
    assert done.returncode == 125
    assert f"chmod go-w {theirs}".encode() in done.stderr
    assert os.listdir(theirs) == []


def test_down_removes_nothing_where_another_user_could_lead_it_elsewhere(theirs: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("kept")

    def lay_out() -> None:
        (theirs / "warden.lock").touch()
        (theirs / "nodes").symlink_to(precious)

    as_other(lay_out)
    done = Cluster(theirs).run("heorot", "down")
    assert done.returncode == 125
    assert f"{theirs} belongs to uid {OTHER}".encode() in done.stderr
    assert (precious / "file").read_text() == "kept"
    assert (theirs / "nodes").is_symlink()


def heorot_command(*words: object) -> subprocess.CompletedProcess[str]:
    name, *arguments = map(str, words)
    return subprocess.run(
        [*command(name), *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )


def test_every_daemon_and_every_command_that_makes_keys_refuses_another_users_directory(
    theirs: Path, tmp_path: Path
) -> None:
    head, node = tmp_path / "head.toml", tmp_path / "node.toml"
    mine = tmp_path / "mine"
    made = heorot_command("heorot", "head", "init", "--dir", mine, "--config", head, "--listen", "127.0.0.1:1")
    assert made.returncode == 0, made.stderr
    # What an administrator has written by mistake: a directory that is not root's alone.
    head.write_text(head.read_text().replace(str(mine), str(theirs)))
    node.write_text(
        f'[cluster]\nid = "x"\ndirectory = "{theirs}"\n[node]\nnumber = 0\nlisten = "127.0.0.1:1"\n'
        'heads = ["127.0.0.1:1"]\n'
    )
    (theirs / "nodes" / "n0").mkdir(parents=True)
    before = sorted(theirs.rglob("*"))
    elsewhere = tmp_path / "other.toml"
    for words in (
        ("bphead", "--config", head),
        ("bpnode", "--config", node),
        ("bpinit", "--config", node),
        ("bpinit", "--dir", theirs / "nodes" / "n0", "--node", "0"),
        ("heorot", "head", "init", "--dir", theirs, "--config", elsewhere, "--listen", "127.0.0.1:1"),
        ("heorot", "head", "add", "h1", "--address", "127.0.0.1:2", "--config", head, "--output", tmp_path / "b"),
        ("heorot", "head", "remove", "h1", "--config", head),
        ("heorot", "token", "create", "--dir", theirs),
        ("heorot", "node", "join", "127.0.0.1:1", "--token", "x", "--dir", theirs, "--config", elsewhere),
        ("heorot", "node", "list", "--dir", theirs),
        ("heorot", "node", "remove", "0", "--dir", theirs),
        ("heorot", "certificate", "renew", "--head-config", head, "--node-config", elsewhere),
    ):
        done = heorot_command(*words)
        assert done.returncode == 1, (words, done)
        assert f"{theirs} belongs to uid {OTHER}" in done.stderr, (words, done)
    assert sorted(theirs.rglob("*")) == before
    assert not elsewhere.exists()


@pytest.mark.parametrize("program", ["bphead", "bpnode", "bpinit"])
def test_a_configuration_that_another_user_may_write_is_not_read(theirs: Path, program: str) -> None:
    (theirs / "c.toml").write_text("")
    done = heorot_command(program, "--config", theirs / "c.toml")
    assert done.returncode == 1
    assert f"{theirs} belongs to uid {OTHER}" in done.stderr


def test_no_command_of_root_speaks_to_another_users_program(theirs: Path) -> None:
    (theirs / "cluster.toml").touch()
    cluster = Cluster(theirs)
    with impostor(theirs / "head.sock") as other:
        for words in (
            ("bpsh", "-a", "true"),
            ("bpsh", "--detach", "n0", "true"),
            ("bpps",),
            ("bpstat",),
            ("bpjob", "list"),
            ("bpkill", "1"),
            ("bpcp", "/etc/hostname", "n0:/tmp/x"),
            ("heorot", "status"),
        ):
            done = cluster.run(*words)
            assert done.returncode not in (0, 2), (words, done)
            assert f"head.sock is served by uid {OTHER}, who is neither root nor you" in done.stderr.decode(), words
    assert other.heard == b""


def test_the_library_tells_a_program_that_it_is_another_users(theirs: Path) -> None:
    (theirs / "cluster.toml").touch()

    async def connect() -> None:
        async with aio.connect(theirs):
            pass

    with impostor(theirs / "head.sock") as other:
        with pytest.raises(RequestError) as refused:
            heorot.connect(theirs)
        assert refused.value.code == "untrusted"
        with pytest.raises(RequestError) as refused:
            asyncio.run(connect())
        assert refused.value.code == "untrusted"
        # Nor is it taken for the next head by whoever has lost one.
        with pytest.raises(RequestError) as refused:
            HeadSearch(str(theirs), None).attempt()
        assert refused.value.code == "untrusted"
    assert other.heard == b""


def test_nor_does_root_speak_to_another_users_warden_keeper_or_bpinit(theirs: Path) -> None:
    with impostor(theirs / "warden.sock") as warden, pytest.raises(RequestError, match=r"warden\.sock is served by"):
        control.connect_warden(Layout(str(theirs)))
    with impostor(theirs / "keeper.sock") as keeper, pytest.raises(RequestError, match=r"keeper\.sock is served by"):
        control.ask_keeper(str(theirs), {"do": "status"})
    with impostor(theirs / "init.sock") as space:
        with pytest.raises(RequestError, match=r"init\.sock is served by"):
            control.connect_node_space(str(theirs))
        loop = EpollLoop()
        with pytest.raises(SecurityError, match=r"init\.sock is served by"):
            agent._connect_space(theirs / "init.sock", loop, 0)
        loop.close()
    assert warden.heard + keeper.heard + space.heard == b""


def test_another_user_works_with_roots_cluster_and_cannot_touch_its_directory(shared: Cluster) -> None:
    open_to_all(shared.directory)

    def work() -> list[object]:
        with heorot.connect(shared.directory) as cluster:
            return [cluster.run(["id", "-u"], "n0").stdout[0].decode(), len(cluster.nodes())]

    heorot.connect(shared.directory).close()  # imports what a connection needs
    assert as_other(work) == [f"{OTHER}\n", 8]
    for name in os.listdir(shared.directory):
        path = shared.directory / name
        assert as_other(partial(os.rename, path, f"{path}.old")) == ["OSError", errno.EACCES], name
        assert as_other(partial(os.unlink, path)) == ["OSError", errno.EACCES], name
    assert as_other(lambda: os.close(os.open(shared.directory / "new", os.O_CREAT))) == ["OSError", errno.EACCES]


def test_a_user_who_fills_the_wardens_socket_does_not_keep_root_from_it(shared: Cluster) -> None:
    open_to_all(shared.directory)
    path = str(shared.directory / "warden.sock")

    def flood() -> list[socket.socket]:
        held = []
        for _ in range(200):
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(path)
            held.append(sock)
        return held

    with other_holding(flood) as count:
        assert count == 200
        shared.check("heorot", "node", "stop", "n7")
        shared.check("heorot", "node", "start", "n7")
        assert shared.status()["warden_pid"]
    shared.await_up(7)


def test_no_other_socket_of_a_cluster_can_be_reached_by_a_user(shared: Cluster) -> None:
    open_to_all(shared.directory)
    sockets = [str(path) for path in shared.directory.rglob("*.sock") if path.is_socket()]
    names = {Path(path).name for path in sockets}
    assert names == {"head.sock", "warden.sock", "keeper.sock", "init.sock"}
    for path in sockets:
        if Path(path).name not in ("head.sock", "warden.sock"):
            with socket.socket(socket.AF_UNIX) as sock:
                assert as_other(partial(sock.connect, path)) == ["OSError", errno.EACCES], path


def test_nothing_of_a_cluster_can_be_changed_by_a_user_and_nothing_secret_read(shared: Cluster) -> None:
    open_to_all(shared.directory)
    # Caches, spools and logs have something in them.
    shared.check("bpsh", "--image", "send", "n[0-1]", "/bin/true")
    as_other(partial(_run_sent, str(shared.directory)))
    found = [os.fspath(path) for path in shared.directory.rglob("*")]
    parts = {path.removeprefix(f"{shared.directory}/").partition("/")[0] for path in found}
    assert {"ca", "coord", "heads", "log", "nodes"} <= parts
    # By root's eyes there is something of each kind that the page on security names.
    for name in ("ca.key", "signing.key", "epoch", "leader.lock", "h0.log", "placement", "keeper.lock"):
        assert any(os.path.basename(path) == name for path in found), name
    assert any("/images/" in path for path in found)

    def looked() -> list[list[str]]:
        writable = [path for path in found if os.access(path, os.W_OK)]
        readable = [path for path in found if os.access(path, os.R_OK) and os.path.isfile(path)]
        entered = [path for path in found if os.path.isdir(path) and os.access(path, os.X_OK)]
        return [writable, readable, entered]

    writable, readable, entered = (
        sorted(path.removeprefix(f"{shared.directory}/") for path in paths) for paths in as_other(looked)
    )
    assert writable == ["head.sock", "warden.sock"]
    assert readable == ["cluster.toml", "hosts", "warden.json"]
    assert entered == ["log"]


def _run_sent(directory: str) -> int:
    with heorot.connect(directory) as cluster:
        return cluster.run(["true"], "n[0-1]").exit_status


def test_what_a_user_may_execute_and_not_read_is_run_as_the_nodes_have_it(shared: Cluster, theirs: Path) -> None:
    program = theirs.parent / "program"
    program.write_bytes(Path("/bin/echo").read_bytes())
    program.chmod(0o711)
    open_to_all(shared.directory)

    def work() -> list[object]:
        with heorot.connect(shared.directory) as cluster, warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            done = cluster.run([program, "from the node"], "n0", environment={"PATH": "/bin"}, directory="/")
            return [done.exit_status, done.stdout[0].decode(), str(said[0].message)]

    collecting.collect(b"/bin/echo", [], b"/")  # imports what it needs
    word = f"cannot read {program}: Permission denied; it is not sent: nodes run their own"
    assert as_other(work) == [0, "from the node\n", word]
