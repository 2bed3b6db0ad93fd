"""rsync, git, scp and sftp through `bprsh`: both ways, with names that a shell would take apart."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.local_cluster import Finished, LocalCluster

NAMES = [b"plain", b"two words", b"it's", b'"', b"$HOME", b"*", b"-n", b"a\nb", b"\xff\xfe", b"\\ x"]
NOTHING: Mapping[str, str] = {}
CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A directory with files of such names, and one below it."""
    directory = tmp_path / "from here"
    (directory / "below it").mkdir(parents=True)
    for name in NAMES:
        (directory / os.fsdecode(name)).write_bytes(name + CONTENT)
    (directory / "below it" / "link").symlink_to("../plain")
    return directory


def contents(directory: Path) -> dict[str, bytes | str]:
    """Return what is in a directory: files with their bytes, links with their targets."""
    return {
        str(path.relative_to(directory)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in directory.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def ran(
    cluster: LocalCluster, *words: str | Path, input: bytes | None = None, more: Mapping[str, str] = NOTHING
) -> Finished:
    """Run a program that must succeed, with more variables in its environment."""
    plain = [str(word) if isinstance(word, Path) else word for word in words]
    result = cluster.run(*plain, input=input, env={**cluster.environment, **more})
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result


def test_rsync_both_ways(cluster: LocalCluster, tree: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "over there", tmp_path / "back again"
    ran(cluster, "rsync", "-a", "-e", "bprsh", f"{tree}/", f"n1:{there}/")
    assert contents(there) == contents(tree)
    ran(cluster, "rsync", "-a", "-e", "bprsh -x -oBatchMode=yes", f"root@n2:{there}/", f"{back}/")
    assert contents(back) == contents(tree)
    # A second time nothing travels but what has changed.
    (tree / "plain").write_bytes(b"new")
    said = ran(cluster, "rsync", "-ai", "-e", "bprsh", f"{tree}/", f"n1:{there}/").stdout
    assert [line.split(b" ", 1)[1] for line in said.splitlines() if line.startswith(b"<f")] == [b"plain"]


def test_rsync_says_what_went_wrong(cluster: LocalCluster, tmp_path: Path) -> None:
    result = cluster.run("rsync", "-a", "-e", "bprsh", str(tmp_path) + "/", "n99:/tmp/")
    assert result.returncode != 0
    assert b"bprsh: " in result.stderr
    assert b"n99" in result.stderr


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Path]:
    """A bare repository whose path has a blank."""
    path = tmp_path / "the project.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", path], check=True, timeout=150)
    yield path
    shutil.rmtree(path)


IDENTITY = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"), "x")


@pytest.mark.parametrize("url", ["n1:{}", "root@n1:{}", "ssh://root@n1:22{}"])
def test_git_clones_and_pushes(cluster: LocalCluster, repository: Path, tmp_path: Path, url: str) -> None:
    more = {**IDENTITY, "GIT_SSH_COMMAND": "bprsh"}
    for round_ in ("one", "two"):
        clone = tmp_path / round_
        ran(cluster, "git", "clone", "-q", url.format(repository), clone, more=more)
        (clone / round_).write_bytes(CONTENT)
        ran(cluster, "git", "-C", clone, "add", ".", more=more)
        ran(cluster, "git", "-C", clone, "commit", "-q", "-m", round_, more=more)
        ran(cluster, "git", "-C", clone, "push", "-q", "origin", "HEAD:main", more=more)
    assert (tmp_path / "two" / "one").read_bytes() == CONTENT


def test_git_speaks_its_second_protocol(cluster: LocalCluster, repository: Path) -> None:
    """It asks for that by a variable that ssh is to send, if it takes the program for an ssh."""
    more = {"GIT_SSH_COMMAND": "bprsh", "GIT_TRACE_PACKET": "1"}
    said = ran(cluster, "git", "-c", "protocol.version=2", "ls-remote", f"n1:{repository}", more=more).stderr
    assert b"< version 2" in said


SMUGGLING = ["ssh://-oProxyCommand=touch {}/x", "-oProxyCommand=touch {}:x", "ssh://x@-oProxyCommand=touch {}/x"]


@pytest.mark.parametrize("url", SMUGGLING)
def test_a_url_that_smuggles_an_option_runs_nothing(cluster: LocalCluster, tmp_path: Path, url: str) -> None:
    mark = tmp_path / "mark"
    more = {**cluster.environment, "GIT_SSH_COMMAND": "bprsh"}
    result = cluster.run("git", "clone", "--", url.format(mark), str(tmp_path / "clone"), env=more)
    assert result.returncode != 0
    assert not mark.exists()


@pytest.mark.parametrize("options", [(), ("-O",)], ids=["SFTP", "scp's own protocol"])
def test_scp_both_ways(cluster: LocalCluster, tree: Path, tmp_path: Path, options: tuple[str, ...]) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    (tree / "below it" / "link").unlink()
    (tree / "a\nb").unlink()  # scp's own protocol ends a name with its line
    ran(cluster, "scp", *options, "-qr", "-S", "bprsh", tree, f"n1:{there}")
    assert contents(there) == contents(tree)
    ran(cluster, "scp", *options, "-qr", "-P", "22", "-S", "bprsh", f"root@n2:{there}", back)
    assert contents(back) == contents(tree)


def test_sftp_both_ways(cluster: LocalCluster, tree: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    script = f'mkdir "{there}"\nput -r "{tree}/below it" "{there}/"\nput "{tree}/two words" "{there}/"\n'
    script += f'get "{there}/two words" "{back}"\n'
    (tree / "below it" / "link").unlink()
    (tree / "below it" / "file").write_bytes(CONTENT)
    ran(cluster, "sftp", "-S", "bprsh", "-b", "-", "n1", input=script.encode())
    assert contents(there) == {"below it/file": CONTENT, "two words": b"two words" + CONTENT}
    assert back.read_bytes() == b"two words" + CONTENT


def test_tar_through_a_pipe(cluster: LocalCluster, tree: Path, tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    back.mkdir()
    ran(cluster, "sh", "-c", f"tar -C '{tree}' -cf - . | bprsh n1 tar -C {there} -xf -")
    assert contents(there) == contents(tree)
    ran(cluster, "sh", "-c", f"bprsh n1 tar -C {there} -cf - . | tar -C {back} -xf -")
    assert contents(back) == contents(tree)
