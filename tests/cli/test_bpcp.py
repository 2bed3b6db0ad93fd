"""The command line of bpcp."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from heorot.cli.bpcp import Place
from heorot.copying import Problem, folded
from tests.support.local_cluster import LocalCluster


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
    place = Place(word)
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


def test_equal_words_of_several_nodes_are_one_line() -> None:
    problems = [Problem(3, "full"), Problem(None, "gone"), Problem(1, "full"), Problem(2, "full"), Problem(9, "other")]
    assert folded(problems) == ["gone", "n[1-3]: full", "n9: other"]
