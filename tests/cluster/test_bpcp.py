"""Copies to, from and between nodes: whole or not at all, through the tree, and with a clear word if they fail."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shlex
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import heorot
from heorot import aio
from heorot.bpinit.namespace import BARE_ROOT_MIB
from heorot.core.images.copies import KEEP_MS
from tests.cluster.harness import DEADLINE_S, Cluster, await_that, cluster, command, kill_hard, stopped
from tests.cluster.test_images import NODES, away_from_home
from tests.support.embedded import make_user_namespace
from tests.support.terminal import Shell

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="an empty file system needs root")
LARGE_BYTES = 6_000_000
CACHE_MIB = 24


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """Nodes that have nothing but the agent, in three levels; their /tmp takes 16 MiB."""
    with away_from_home(), cluster(NODES, "--fanout", "2", "--bare", "--image-cache", str(CACHE_MIB)) as made:
        yield made


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the head, outside of what the nodes see."""
    with tempfile.TemporaryDirectory(prefix="place.") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def there(bare: Cluster) -> Iterator[str]:
    """A directory of every node, in its own empty file system."""
    name = f"/tmp/t.{os.urandom(4).hex()}"
    bare.check("bpsh", "-a", "mkdir", "-m", "777", name)
    yield name
    bare.check("bpsh", "-a", "rm", "-r", name)


def names(made: Cluster, directory: str, nodes: str = "up") -> set[bytes]:
    """What is in a directory of nodes, hidden names included: one answer, if all are equal."""
    return set(made.check("bpsh", nodes, "ls", "-A", directory).splitlines())


def problems(made: Cluster, *arguments: str | Path, expected: int = 1) -> list[str]:
    result = made.run("bpcp", *arguments)
    assert result.returncode == expected, result.stderr
    assert result.stdout == b""
    return result.stderr.decode().splitlines()


# ------------------------------------------------------------------ to nodes


def test_a_file_goes_to_all_nodes_and_a_second_time_does_not_travel(bare: Cluster, place: Path, there: str) -> None:
    data = os.urandom(LARGE_BYTES)
    (place / "data").write_bytes(data)
    with heorot.connect(bare.directory) as connection:
        seen: list[tuple[int, int, int]] = []
        copied = connection.copy_to(place / "data", "all", there, progress=lambda *at: seen.append(at)).check()
        assert copied.nodes == list(range(NODES))
        assert copied.size_bytes == LARGE_BYTES
        assert seen[-1] == (LARGE_BYTES, NODES, NODES)
        seen.clear()
        first_s = time.monotonic()
        connection.copy_to(place / "data", "all", f"{there}/again", progress=lambda *at: seen.append(at)).check()
        # What was copied stays for a while, in which this machine should have come so far.
        assert {at[0] for at in seen} == {0} or time.monotonic() - first_s > KEEP_MS / 1000
        assert names(bare, there) == {b"again", b"data"}
        connection.copy_from("all", f"{there}/data", place).check()
    for number in range(NODES):
        assert (place / f"data.n{number}").read_bytes() == data


def test_the_mode_is_per_umask_and_kept_with_p(bare: Cluster, place: Path, there: str) -> None:
    source = place / "program"
    source.write_text("x")
    os.chown(source, 1234, 5678)
    source.chmod(0o4775)
    os.utime(source, ns=(10**18, 10**18 + 7))
    bare.check("bpcp", source, f"n3:{there}/plain")
    bare.check("bpcp", "-p", source, f"n3:{there}/kept")
    umask = os.umask(0)
    os.umask(umask)
    shown = bare.check("bpsh", "n3", "stat", "-c", "%a %u %g %y", f"{there}/plain", f"{there}/kept").split(b"\n")
    assert shown[0].startswith(b"%o 0 0 " % (0o775 & ~umask))
    assert shown[1].startswith(b"4775 1234 5678 2001-09-09 ")
    assert b".000000007" in shown[1]


def test_a_directory_goes_with_all_that_is_in_it(bare: Cluster, place: Path, there: str) -> None:
    tree = place / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "empty").mkdir(mode=0o750)
    (tree / "deep" / "er" / "new\nline and space").write_text("inner")
    (tree / "nothing").touch()
    (tree / "link").symlink_to("deep/er")
    (tree / "dangling").symlink_to("/no/such/file")
    bare.check("bpcp", "-r", tree, f"n[0,8]:{there}/")
    bare.check("bpcp", "-r", tree, f"n[0,8]:{there}/renamed")
    for name in ("tree", "renamed"):
        back = place / f"back-{name}"
        bare.check("bpcp", "-rp", f"n8:{there}/{name}", back)
        found = {path.relative_to(back): path for path in back.rglob("*")}
        assert {str(path) for path in found} == {str(path.relative_to(tree)) for path in tree.rglob("*")}
        assert (back / "deep" / "er" / "new\nline and space").read_text() == "inner"
        assert os.readlink(back / "dangling") == "/no/such/file"
        assert stat.S_IMODE((back / "empty").stat().st_mode) == 0o750
    # Once more, into what is there.
    (tree / "deep" / "er" / "new\nline and space").write_text("changed")
    bare.check("bpcp", "-r", tree, f"n0:{there}")
    bare.check("bpcp", "-r", f"n0:{there}/tree", place / "second")
    assert (place / "second" / "deep" / "er" / "new\nline and space").read_text() == "changed"


def test_several_files_need_a_directory(bare: Cluster, place: Path, there: str) -> None:
    for name in ("a", "b"):
        (place / name).write_text(name)
    bare.check("bpcp", place / "a", place / "b", f"all:{there}")
    assert names(bare, there) == {b"a", b"b"}
    lines = problems(bare, place / "a", place / "b", f"all:{there}/a")
    why = "Not a directory; several files need a directory: name or make one"
    assert lines == [f"bpcp: n[0-8]: cannot write into {there}/a: {why}"]
    assert problems(bare, place / "a", f"n1:{there}/none/") == [
        f"bpcp: n1: cannot write {there}/none/: No such file or directory"
    ]
    assert problems(bare, place / "a", f"n1:{there}/none/a") == [
        f"bpcp: n1: cannot write {there}/none/a: No such file or directory"
    ]


def test_what_cannot_be_read_here_is_said_and_the_rest_is_copied(bare: Cluster, place: Path, there: str) -> None:
    (place / "good").write_text("good")
    os.mkfifo(place / "pipe")
    lines = problems(bare, place / "none", place / "pipe", place, place / "good", f"n0:{there}")
    assert lines == [
        f"bpcp: cannot read {place}/none: No such file or directory",
        f"bpcp: {place}/pipe is not a regular file",
        f"bpcp: {place} is a directory: copied only with -r",
    ]
    assert names(bare, there, "n0") == {b"good"}


def test_a_full_file_system_leaves_nothing(bare: Cluster, place: Path, there: str) -> None:
    (place / "large").write_bytes(os.urandom(20_000_000))
    # All but 6 MiB of what a bare node has.
    bare.check("bpsh", "n2,4", "fallocate", "-l", f"{BARE_ROOT_MIB - 6}M", f"{there}.fill")
    lines = problems(bare, place / "large", f"n[2,4]:{there}/x")
    assert lines == [f"bpcp: n[2,4]: cannot write {there}/x: No space left on device"]
    assert names(bare, there) == set()
    # And what was there before stays.
    (place / "small").write_text("small")
    bare.check("bpcp", place / "small", f"n2:{there}/x")
    problems(bare, place / "large", f"n2:{there}/x")
    bare.check("bpcp", f"n2:{there}/x", place / "back")
    assert (place / "back").read_text() == "small"
    bare.check("bpsh", "n2,4", "rm", f"{there}.fill")


def test_a_file_that_is_larger_than_the_cache_is_refused(bare: Cluster, place: Path, there: str) -> None:
    (place / "huge").write_bytes(bytes((CACHE_MIB << 20) + 1))
    (line,) = problems(bare, place / "huge", f"all:{there}/x")
    assert line.startswith("bpcp: n[0-8]: ")
    assert f"holds at most {CACHE_MIB << 20}" in line
    assert names(bare, there) == set()


def test_a_file_that_changes_while_it_is_copied_is_not_copied(bare: Cluster, place: Path, there: str) -> None:
    (place / "data").write_bytes(os.urandom(1_000_000))
    with heorot.connect(bare.directory) as connection:
        handlers = connection._session._handlers
        send = handlers["image-wanted"]

        def change_first(*heard: object) -> None:
            (place / "data").write_bytes(os.urandom(1_000_000))
            send(*heard)

        handlers["image-wanted"] = change_first
        copied = connection.copy_to(place / "data", "n[0,5]", there)
        assert {problem.node for problem in copied.problems} == {0, 5}
        assert all("has changed while it was read" in problem.text for problem in copied.problems)
        with pytest.raises(heorot.CopyError, match=r"n\[0,5\]: .* has changed"):
            copied.check()
    assert names(bare, there) == set()


# ------------------------------------------------------------------ from nodes, and between them


def test_files_of_several_nodes_get_the_names_of_the_nodes(bare: Cluster, place: Path, there: str) -> None:
    bare.check("bpsh", "-a", "mkdir", f"{there}/d")
    bare.check("bpsh", "-a", "sh", "-c", f"echo $HEOROT_NODE > {there}/file; : > {there}/d/x")
    bare.check("bpcp", f"n[0,8]:{there}/file", place)
    assert {path.name: path.read_text() for path in place.iterdir()} == {"file.n0": "0\n", "file.n8": "8\n"}
    bare.check("bpcp", "-r", f"n[3,4]:{there}/d", place)
    assert (place / "d.n3" / "x").exists()
    lines = problems(bare, f"n[0,8]:{there}/file", place / "none", expected=125)
    why = "No such file or directory; several files need a directory: name or make one"
    assert lines == [f"bpcp: cannot write into {place}/none: {why}"]
    assert problems(bare, f"n[1-2]:{there}/none", place) == [
        f"bpcp: n[1-2]: cannot read {there}/none: No such file or directory"
    ]
    assert problems(bare, f"n1:{there}/d", place) == [f"bpcp: n1: {there}/d is a directory: copied only with -r"]


def test_a_file_goes_from_node_to_nodes(bare: Cluster, place: Path, there: str) -> None:
    bare.check("bpsh", "n1", "sh", "-c", f"echo content > {there}/file")
    bare.check("bpcp", f"n1:{there}/file", f"n[2-3]:{there}/other")
    assert bare.check("bpsh", "n[2-3]", "cat", f"{there}/other") == b"content\n" * 2
    # The same name here and there: nothing covers anything.
    path = place / "same"
    path.write_text("mine")
    assert problems(bare, path, f"n0:{path}") == [f"bpcp: n0: cannot write {path}: No such file or directory"]


def test_the_result_as_json(bare: Cluster, place: Path, there: str) -> None:
    (place / "a").write_text("abc")
    document = json.loads(bare.check("bpcp", "--json", place / "a", f"n[0-1]:{there}"))
    assert document == {"status": 0, "nodes": [0, 1], "bytes": 3, "problems": []}
    result = bare.run("bpcp", "--json", place / "a", f"n[0-1]:{there}/no/a")
    text = f"cannot write {there}/no/a: No such file or directory"
    assert json.loads(result.stdout)["problems"] == [{"node": 0, "text": text}, {"node": 1, "text": text}]
    assert result.returncode == 1


def test_asyncio(bare: Cluster, place: Path, there: str) -> None:
    async def main() -> None:
        async with aio.connect(bare.directory) as connection:
            (place / "a").write_text("abc")
            (await connection.copy_to(place / "a", "n[0-8]", there)).check()
            copied = await connection.copy_from([0, 8], f"{there}/a", place)
            assert copied.check().nodes == [0, 8]

    asyncio.run(main())
    assert (place / "a.n8").read_text() == "abc"


# ------------------------------------------------------------------ in the middle


def test_ctrl_c_in_the_middle_leaves_nothing(bare: Cluster, place: Path, there: str) -> None:
    (place / "data").write_bytes(os.urandom(12_000_000))
    with bare.start("bpcp", place / "data", f"all:{there}/x") as process:
        await_that(lambda: bare.jobs(), "the copy to begin")
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_S) in (0, -signal.SIGINT)
        ended = process.returncode
    await_that(lambda: not bare.processes(), "every process to end")
    found = names(bare, there)
    # Each node has all of it or nothing; and never a name that is not whole.
    assert found <= {b"x"}
    assert ended == -signal.SIGINT or found == {b"x"}
    assert bare.check("bpsh", "-a", "sh", "-c", f"for i in {there}/.*; do echo $i; done").count(b"bpcp") == 0


def test_an_agent_that_dies_in_the_middle_costs_no_copy(bare: Cluster, place: Path, there: str) -> None:
    data = os.urandom(12_000_000)
    (place / "data").write_bytes(data)
    agent = bare.node(1)["agent_pid"]
    with bare.start("bpcp", place / "data", f"all:{there}/x") as process:
        await_that(lambda: bare.fetched_blocks() > 4_000, "a part of the file")
        os.kill(agent, signal.SIGKILL)
        assert process.outcome() == (0, b"", b"")
    bare.check("bpcp", f"n8:{there}/x", place / "back")
    assert (place / "back").read_bytes() == data


def test_a_head_that_is_killed_in_the_middle_costs_nothing(place: Path) -> None:
    data = os.urandom(30_000_000)
    (place / "data").write_bytes(data)
    with away_from_home(), cluster(3, "--fanout", "1", "--heads", "2") as made:
        head = made.head_pid()
        with made.start("bpcp", place / "data", f"n[0-2]:{place}/x") as process:
            await_that(lambda: made.fetched_blocks() > 8_000, "a part of the file")
            kill_hard(head)
            assert process.outcome() == (0, b"", b"")
        assert (place / "x").read_bytes() == data
        made.check("bpcp", f"n2:{place}/x", place / "back")
        assert (place / "back").read_bytes() == data
        assert sorted(os.listdir(place)) == ["back", "data", "x"]


def test_a_node_that_is_lost_or_down_is_named(place: Path) -> None:
    (place / "data").write_bytes(os.urandom(20_000_000))
    with away_from_home(), cluster(3, "--fanout", "1") as made:
        node = made.node(2)
        os.kill(node["init_pid"], signal.SIGSTOP)  # before it has any part of the copy
        with made.start("bpcp", place / "data", f"n[0-2]:{place}/x") as process:
            await_that(lambda: made.fetched_blocks(), "the file on its way")
            os.kill(node["agent_pid"], signal.SIGKILL)
            os.kill(node["init_pid"], signal.SIGKILL)
            status, _, errors = process.outcome()
        assert (status, errors.count(b"\n")) == (1, 1)
        assert errors.startswith(b"bpcp: n2: the node was lost")
        assert made.run("bpcp", place / "data", f"n[1-2]:{place}/y").stderr == b"bpcp: n2 is down, not up\n"
        assert (place / "x").read_bytes() == (place / "data").read_bytes()
        assert sorted(os.listdir(place)) == ["data", "x"]


def test_a_copy_between_nodes_that_is_ended_leaves_nothing_here(bare: Cluster, place: Path, there: str) -> None:
    (place / "data").write_bytes(os.urandom(12_000_000))
    bare.check("bpcp", place / "data", f"n0:{there}/")
    (place / "data").unlink()
    environment = bare.environment | {"TMPDIR": str(place)}
    with bare.start("bpcp", f"n0:{there}/data", f"n[1-8]:{there}/", env=environment) as process:
        await_that(lambda: os.listdir(place), "the directory in between")
        process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_S) in (0, 128 + signal.SIGTERM)
    assert os.listdir(place) == []
    await_that(lambda: not bare.processes(), "every process to end")


def test_the_progress_is_shown_on_a_terminal_and_taken_away(bare: Cluster, place: Path, there: str) -> None:
    (place / "data").write_bytes(os.urandom(LARGE_BYTES))
    with Shell(bare.environment) as shell:
        with stopped(bare.node(8)["init_pid"]):  # it is shown only of a copy that takes a while
            shell.type(f"{shlex.join(command('bpcp'))} {place}/data all:{there}/; echo it gave $?\n")
            shell.expect("of 9 nodes")
        shell.expect("it gave 0")


def in_caches(made: Cluster) -> list[str]:
    """What the caches of heads and nodes hold of copies."""
    found = []
    for folder in ("copies", "partial", "files", "views"):
        found += [str(path.relative_to(made.directory)) for path in made.directory.glob(f"*/*/images/{folder}/*")]
    return found


def files_of_size(made: Cluster, size: int) -> list[Path]:
    """What the caches hold that is as large as this."""
    found = []
    for path in made.directory.glob("*/*/images/*/*"):
        with suppress(FileNotFoundError):
            if path.stat().st_size == size:
                found.append(path)
    return found


def usage_if(made: Cluster, is_wanted: Callable[[int], bool]) -> dict[str, int]:
    """What the cluster says of its caches, which it counts once a second at most; empty if it says other copies."""
    counted: dict[str, int] = json.loads(made.check("heorot", "status", "--json"))["caches"]
    return counted if is_wanted(counted["copies"]) else {}


def views_of_copies(made: Cluster) -> set[Path]:
    """The manifests of all copies as processes of the nodes see them."""
    copies = made.directory.glob("nodes/*/images/copies/*")
    views = {path.parent.parent / "views" / path.name / "manifest" for path in copies}
    return {path for path in views if path.exists()}


@contextmanager
def in_use(manifest: Path) -> Iterator[None]:
    """Use a copy as a process does that still puts its files at their place: its cache keeps it."""
    with manifest.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        assert manifest.exists()
        yield


def test_nothing_of_a_copy_stays_in_the_caches(bare: Cluster, place: Path, there: str) -> None:
    (place / "data").write_bytes(os.urandom(LARGE_BYTES))
    former = views_of_copies(bare)
    with bare.start("bpcp", place / "data", f"all:{there}/") as copying:
        ours = await_that(lambda: views_of_copies(bare) - former, "a node has all of the copy")
        with in_use(ours.pop()):
            assert copying.communicate(timeout=DEADLINE_S) == (b"", b"")
            assert copying.returncode == 0
            used = await_that(lambda: usage_if(bare, lambda copies: copies >= 1), "the copy is counted")
            # All caches have it, and it is there once.
            assert LARGE_BYTES <= used["used_bytes"] < used["bound_bytes"]
            assert b"Images in the caches of heads and nodes take " in bare.check("heorot", "status")
    await_that(lambda: not any("/copies/" in name for name in in_caches(bare)), "every copy to leave the caches")
    await_that(
        lambda: not files_of_size(bare, LARGE_BYTES), "the content to leave them, which is removed after the copy"
    )
    left = await_that(lambda: usage_if(bare, lambda copies: copies == 0), "no copy is counted any more")
    assert left["used_bytes"] <= used["used_bytes"] - LARGE_BYTES
    assert (names(bare, there), len(bare.check("bpsh", "n8", "cat", f"{there}/data"))) == ({b"data"}, LARGE_BYTES)


# ------------------------------------------------------------------ an ordinary user


def test_an_ordinary_user_without_root() -> None:
    place = Path(tempfile.mkdtemp(prefix="r."))
    namespace = make_user_namespace()
    made = Cluster(place / "cluster", user_namespace=namespace)
    try:
        made.up(3, "--fanout", "2")
        (place / "mine").write_text("mine")
        (place / "there").mkdir(mode=0o777)
        made.check("bpcp", place / "mine", f"all:{place}/there/")
        assert (place / "there" / "mine").read_text() == "mine"
    finally:
        if made.directory.exists():
            made.down()
        shutil.rmtree(place)
        os.close(namespace)
