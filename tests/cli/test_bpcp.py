"""The command line of bpcp."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import heorot
from heorot.bpinit.terminal import set_size
from heorot.cli.bpcp import CopyEnd, progress_line
from heorot.client.copies import Problem, folded_problems
from heorot.client.get import Get
from tests.support.local_cluster import LocalCluster
from tests.support.other_user import acting_as, open_to_all


@pytest.mark.parametrize(
    ("word", "nodes", "path"),
    [
        ("n3:/tmp/x", "n3", b"/tmp/x"),
        ("n[0-3,7]!n2:x", "n[0-3,7]!n2", b"x"),
        ("all:", "all", b"."),
        ("n0:a:b", "n0", b"a:b"),
        ("./a:b", "", b"./a:b"),
        ("/a:b", "", b"/a:b"),
        ("a/b:c", "", b"a/b:c"),
        (":x", "", b":x"),
        ("master:/tmp/x", "", b"/tmp/x"),
        ("plain", "", b"plain"),
        ("two words\n", "", b"two words\n"),
    ],
)
def test_an_operand_names_nodes_or_none(word: str, nodes: str, path: bytes) -> None:
    place = CopyEnd(word)
    assert (place.nodes, place.path) == (nodes, path)


def bpcp(cluster: LocalCluster, *words: str, **options: Any) -> tuple[int, str]:
    result = cluster.run("bpcp", *words, **options)
    assert result.stdout == b""
    return result.returncode, result.stderr.decode()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "a file and where to copy it are needed"),
        (["x"], "a file and where to copy it are needed"),
        (["x", "y"], "neither is on a node; say which: n0:PATH"),
        (["n0:x", "y", "."], "the files are in different places: copy them one after the other"),
        (["n0:x", "n1:y", "."], "the files are in different places: copy them one after the other"),
        (["", "n0:/tmp"], "the name of a file is empty"),
        (["-x", "a", "n0:/tmp"], "unknown option -x"),
    ],
)
def test_wrong_usage(cluster: LocalCluster, words: list[str], says: str) -> None:
    assert bpcp(cluster, *words) == (2, f"bpcp: {says}; try 'bpcp --help'\n")


def test_what_the_cluster_refuses(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    status, said = bpcp(cluster, f"{tmp_path}/x", "n99:/tmp/")
    assert (status, said) == (125, "bpcp: 'n99': there is no node n99; the cluster has n[0-2]\n")
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "x").touch()
    status, said = bpcp(cluster, f"{tmp_path}/x", f"{tmp_path}/y/x", "n0:/tmp/")
    assert (status, said) == (125, "bpcp: two of the files are called x: copy them one after the other\n")
    status, said = bpcp(cluster, "n0,n0:/etc/hostname", str(tmp_path))
    assert (status, said) == (125, "bpcp: a node is named twice: its files would be copied twice to the same place\n")
    cluster.await_idle()


def test_odd_names_and_relative_paths(cluster: LocalCluster, tmp_path: Path) -> None:
    names = ["a:b", "new\nline", "two words", "-p"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "to").mkdir()
    words = [f"./{name}" for name in names]
    assert bpcp(cluster, *words, "n[0-2]:to", cwd=tmp_path) == (0, "")
    assert {path.name: path.read_text() for path in (tmp_path / "to").iterdir()} == {name: name for name in names}
    assert bpcp(cluster, "--", "-p", "n1:to/again", cwd=tmp_path) == (0, "")
    assert (tmp_path / "to" / "again").read_text() == "-p"
    os.chmod(tmp_path / "to", 0o755)


# ------------------------------------------------------------------ files whose size lies


def read(path: str | Path) -> bytes:
    return Path(path).read_bytes()


def test_a_file_that_does_not_say_its_size_is_copied_both_ways(cluster: LocalCluster, tmp_path: Path) -> None:
    for number, name in enumerate(("/proc/version", "/sys/class/net/lo/mtu", "/proc/sys/kernel/ostype")):
        assert bpcp(cluster, name, f"n[0-1]:{tmp_path}/to{number}") == (0, "")
        assert read(tmp_path / f"to{number}") == read(name) != b""
        assert bpcp(cluster, f"n0:{name}", f"{tmp_path}/from{number}") == (0, "")
        assert read(tmp_path / f"from{number}") == read(name)
        assert bpcp(cluster, f"n0:{name}", f"n1:{tmp_path}/between{number}") == (0, "")
        assert read(tmp_path / f"between{number}") == read(name)


def test_a_directory_of_such_files_is_copied_and_what_cannot_be_read_is_said(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    source = Path("/proc/sys/net/ipv4/conf/lo")
    status, said = bpcp(cluster, "-r", str(source), f"n0:{tmp_path}/to")
    assert (status, said) == (0, "")
    for path in source.iterdir():
        assert read(tmp_path / "to" / path.name) == read(path) != b""


def test_a_file_without_end_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "mem").symlink_to("/proc/self/mem")
    status, said = bpcp(cluster, f"{tmp_path}/mem", f"n0:{tmp_path}/to")
    assert (status, said) == (1, f"bpcp: cannot read {tmp_path}/mem: Input/output error\n")
    assert not (tmp_path / "to").exists()


# ------------------------------------------------------------------ a directory or what is in it


def tree(tmp_path: Path) -> Path:
    made = tmp_path / "D"
    (made / "below").mkdir(parents=True)
    (made / "below" / "x").write_text("x")
    (made / ".hidden").write_text("hidden")
    (made / "link").symlink_to("below")
    made.chmod(0o750)
    return made


def shape(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.mark.parametrize("way", ["to", "from", "between", "here"])
@pytest.mark.parametrize("exists", [False, True])
def test_a_dot_at_the_end_means_the_contents(cluster: LocalCluster, tmp_path: Path, way: str, exists: bool) -> None:
    source, target = tree(tmp_path), tmp_path / "T"
    if exists:
        target.mkdir(mode=0o700)
        (target / "old").touch()
    here = {"to": (f"{source}/.", f"n0:{target}"), "from": (f"n0:{source}/.", str(target))}
    words = here.get(way, (f"n0:{source}/.", f"n1:{target}"))
    options: dict[str, Any] = {}
    if way == "here":
        words, options = (".", f"n[0-2]:{target}"), {"cwd": source}
    umask = os.umask(0o022)
    try:
        assert bpcp(cluster, "-r", *words, **options) == (0, "")
    finally:
        os.umask(umask)
    assert shape(target) == shape(source) | ({"old"} if exists else set())
    assert target.stat().st_mode & 0o777 == (0o700 if exists else 0o750)
    assert os.readlink(target / "link") == "below"


@pytest.mark.parametrize("way", ["to", "from", "between"])
def test_contents_go_beside_other_files_into_a_directory(cluster: LocalCluster, tmp_path: Path, way: str) -> None:
    source, target = tree(tmp_path), tmp_path / "T"
    (tmp_path / "F").write_text("F")
    here, there = ("n0:" if way != "to" else ""), ("n1:" if way != "from" else "")
    words = ("-rp", f"{here}{source}/.", f"{here}{tmp_path}/F", f"{there}{target}")
    status, said = bpcp(cluster, *words)
    assert status in (1, 125)
    assert "several files need a directory: name or make one" in said or "cannot write" in said
    target.mkdir(mode=0o700)
    assert bpcp(cluster, *words) == (0, "")
    assert shape(target) == shape(source) | {"F"}


def test_contents_with_equal_names_and_of_several_nodes_are_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    source, target = tree(tmp_path), tmp_path / "T"
    target.mkdir()
    (tmp_path / "E" / "below").mkdir(parents=True)
    status, said = bpcp(cluster, "-r", f"{source}/.", f"{tmp_path}/E/.", f"n0:{target}")
    assert (status, said) == (125, "bpcp: two of the files are called below: copy them one after the other\n")
    status, said = bpcp(cluster, "-r", f"n[0-1]:{source}/.", str(target))
    told = f"what is in {source}/. of 2 nodes would be mixed: name the directory itself"
    assert (status, said) == (125, f"bpcp: {told}\n")
    assert shape(target) == set()


@pytest.mark.parametrize("exists", [False, True])
def test_nodes_that_share_a_file_system_make_one_tree(cluster: LocalCluster, tmp_path: Path, exists: bool) -> None:
    # The third process is slow enough that another one has made the directory by then, unless that is decided before.
    source, target = tree(tmp_path), tmp_path / "NEW"
    if exists:
        target.mkdir()
    for _ in range(5):
        assert bpcp(cluster, "-r", str(source), f"n[0-2]:{target}") == (0, "")
        top = target / "D" if exists else target
        assert shape(top) == shape(source)
        assert not exists or os.listdir(target) == ["D"]
        shutil.rmtree(top)
    with heorot.connect(cluster.directory) as connection:
        connection.copy_to(source, "all", target, recursive=True).check()
    assert shape(target / "D" if exists else target) == shape(source)


# ------------------------------------------------------------------ what is said


def test_several_nodes_need_a_directory(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "F").write_text("F")
    status, said = bpcp(cluster, f"n[0-1]:{tmp_path}/F", f"{tmp_path}/none")
    what = "several files need a directory: name or make one"
    assert (status, said) == (125, f"bpcp: cannot write into {tmp_path}/none: No such file or directory; {what}\n")
    status, said = bpcp(cluster, f"n[0-1]:{tmp_path}/F", f"{tmp_path}/F")
    assert (status, said) == (125, f"bpcp: cannot write into {tmp_path}/F: Not a directory; {what}\n")


@pytest.mark.parametrize("name", [".", "new", "./"])
def test_a_removed_directory_takes_nothing(cluster: LocalCluster, tmp_path: Path, name: str) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"cd {gone}; rmdir {gone}; exec bpcp n0:/etc/hostname {name}"
    result = cluster.run("/bin/sh", "-c", words)
    assert (result.returncode, result.stdout) in ((1, b""), (125, b""))
    lines = [line for line in result.stderr.decode().splitlines() if line.startswith("bpcp: ")]
    assert len(lines) == 1
    assert lines[0].startswith("bpcp: cannot write ")
    assert "No such file or directory" in lines[0]


def test_the_end_of_a_copy_is_always_told(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(os.urandom(100_000))
    (tmp_path / "to").mkdir()
    seen: list[tuple[int, int, int]] = []
    with heorot.connect(cluster.directory) as connection:
        job_read = heorot.Job.read

        def all_at_once(job: heorot.Job, timeout_s: float | None = None) -> Any:
            # A machine that is too busy to tell anything before the end.
            return job_read(job, None)

        heorot.Job.read = all_at_once  # type: ignore[method-assign,assignment]
        try:
            connection.copy_to(tmp_path / "data", "n0", tmp_path / "to", progress=lambda *at: seen.append(at)).check()
            assert seen[-1] == (100_000, 1, 1)
            connection.copy_from("n0", tmp_path / "data", tmp_path / "b", progress=lambda *at: seen.append(at)).check()
        finally:
            heorot.Job.read = job_read  # type: ignore[method-assign]
    assert seen[-1][0] > 100_000
    assert seen[-1][1:] == (1, 1)


def test_equal_words_of_several_nodes_are_one_line() -> None:
    problems = [Problem(3, "full"), Problem(None, "gone"), Problem(1, "full"), Problem(2, "full"), Problem(9, "other")]
    assert folded_problems(problems) == ["gone", "n[1-3]: full", "n9: other"]


@pytest.mark.parametrize("there", [False, True], ids=["from", "to"])
def test_the_callers_limit_on_open_files_is_not_that_of_the_nodes(
    cluster: LocalCluster, tmp_path: Path, there: bool
) -> None:
    (tmp_path / "x").write_text("precious")
    words = f"n0:{tmp_path}/x {tmp_path}/y" if there else f"{tmp_path}/x n0:{tmp_path}/y"
    result = cluster.run("sh", "-c", f"ulimit -n 12; exec bpcp {words}")
    assert (result.returncode, result.stderr) == (0, b"")
    assert (tmp_path / "y").read_text() == "precious"


@pytest.mark.parametrize(
    ("names", "destination", "says"),
    [
        (["/a/x"], "closed", "cannot write {closed}/x: Permission denied"),
        (["/a/x"], "closed/new", "cannot write {closed}/new: Permission denied"),
        (["/a/x"], "none/new", "cannot write {none}/new: No such file or directory"),
        (["/a/dir"], "closed", ""),
        (["/a/."], "closed", ""),
        (["/a/x"], "open", ""),
    ],
)
def test_a_destination_that_cannot_be_made_is_told_before_anything_comes(
    tmp_path: Path, names: list[str], destination: str, says: str
) -> None:
    open_to_all(tmp_path)
    for name, mode in {"closed": 0o755, "open": 0o777}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "closed" / "dir").mkdir()
    if os.getuid():
        (tmp_path / "closed").chmod(0o555)
    get = Get([os.fsencode(name) for name in names], os.fsencode(tmp_path / destination), recursive=True)
    with acting_as():
        if says:
            text = says.format(closed=tmp_path / "closed", none=tmp_path / "none")
            with pytest.raises(heorot.CopyError, match=f"^{re.escape(text)}$"):
                get.begin([0])
        else:
            get.begin([0])
    get.close()


@pytest.mark.parametrize(
    ("done_bytes", "over", "nodes", "columns", "line"),
    [
        (12_300_000, 1, 4, 100, "[#######                       ] 1 of 4 nodes, 12.3 MB through this host"),
        (0, 0, 1, 80, "[                              ] 0 of 1 node, 0.0 MB through this host"),
        (12_345_678_901, 1000, 1000, 78, "[##############################] 1000 of 1000 nodes, 12.35 GB"),
        (12_300_000, 2, 4, 40, "[#######        ] 2 of 4 nodes, 12.3 MB"),
        (12_300_000, 1, 4, 30, "1 of 4 nodes, 12.3 MB"),
        (12_300_000, 1, 4, 12, "1 of 4 node"),
    ],
)
def test_the_progress_fits_into_one_line(done_bytes: int, over: int, nodes: int, columns: int, line: str) -> None:
    assert progress_line(done_bytes, over, nodes, columns) == line
    assert len(line) < columns


SHOW = """
from heorot.cli import bpcp
bpcp.FIRST_SHOWN_S = bpcp.SHOWN_AGAIN_S = 0.0
bar = bpcp.Bar()
bar.show(0, 0, 2)
bar.show(0, 0, 2)
bar.show(1_000_000, 2, 2)
bar.clear()
bar.clear()
"""


def test_the_progress_is_one_line_of_the_terminal_that_is_gone_at_the_end() -> None:
    ours, theirs = os.openpty()
    try:
        set_size(theirs, 24, 40)
        subprocess.run([sys.executable, "-c", SHOW], stderr=theirs, timeout=150, check=True)
        shown = os.read(ours, 10_000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    first, second = progress_line(0, 0, 2, 40), progress_line(1_000_000, 2, 2, 40)
    assert shown == f"\r{first}\x1b[K\r{second}\x1b[K\r\x1b[K"
