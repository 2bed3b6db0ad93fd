"""Arguments of any bytes, and standard streams that are closed or odd: one line that says so, never a traceback."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import heorot
from tests.support.local_cluster import LocalCluster

ODD = b"a\xffb\x1b[2J"
SHOWN = b"a\\xffb\\x1b[2J"

LINES = """
bpsh X true | bpsh --dir X n0 true | bpsh -X n0 true | bpsh --X n0 true | bpsh -b X n0 true | bpsh --image X n0 true
bpsh --with X n0 true | bpsh --headless X n0 true | bpsh --max-processes X n0 true | bpsh n0 X | bpsh n0 --image path X
bpsh -I X n0 true
bpps X | bpps -n X | bpps --user X | bpps --job X | bpps --dir X | bpps --X | bpps -X
bpstat X | bpstat --dir X | bpstat -X
bpkill X | bpkill -s X 1 | bpkill -X 1 | bpkill --dir X 1 | bpkill 1.1:X | bpkill nX:1
bpjob X | bpjob show X | bpjob attach X | bpjob wait X | bpjob kill X | bpjob kill -s X 1.1 | bpjob list -u X
bpjob list -s X | bpjob list --dir X | bpjob list X
bpcp X n0:/tmp/y | bpcp /etc/hostname X:/tmp/y | bpcp /etc/hostname n0:/nonexistent/X/X | bpcp n0:/tmp/X /tmp/none
bpcp --X a b | bpcp --dir X /etc/hostname n0:/tmp/y
heorot X | heorot node X | heorot node start X | heorot node stop X | heorot node ps X | heorot node list X
heorot node remove X | heorot node join X | heorot node ps --dir X
heorot head X | heorot head start X | heorot head stop X | heorot head switch --to X | heorot head join X
heorot head init --config C/X/head.toml --dir C/X | heorot head init --config C/c --dir C/d --name X
heorot head init --config C/c --dir C/d --address X | heorot head add X --address X --config C/c
heorot status X | heorot status --dir X | heorot down X | heorot down --dir X | heorot up X | heorot up --nodes X
heorot up --dir C/X --etcd X | heorot up --dir C/X --heads X | heorot up --dir C/X --fanout X
heorot doctor X | heorot doctor -n X
heorot token create X | heorot token create --config C/X | heorot token list --config C/X | heorot token revoke X
heorot certificate show X | heorot certificate renew X | heorot certificate show --config C/X
"""
"""X: the odd argument; C: an empty directory."""
COMMAND_LINES = [line.strip() for line in LINES.replace("\n", "|").split("|") if line.strip()]


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_an_argument_of_any_bytes_is_shown_as_it_is_elsewhere(cluster: LocalCluster, tmp_path: Path, line: str) -> None:
    name, *words = (word.encode().replace(b"X", ODD) for word in line.split())
    words = [bytes(tmp_path) + word[1:] if word == b"C" or word.startswith(b"C/") else word for word in words]
    result = cluster.run(name, *words, cwd=tmp_path)
    said = result.stdout + result.stderr
    assert result.returncode not in (0, -6)
    assert b"Traceback" not in said
    assert said
    for odd in (b"\xff", b"\x1b", b"udcff"):
        assert odd not in said, said
    if words[-1].endswith(ODD) and len(words) == 1 and not words[0].startswith(b"-") and name != b"heorot":
        assert SHOWN in said


@pytest.mark.parametrize(
    "line",
    [
        "heorot up --dir x", "heorot down --dir x", "heorot status --dir x", "heorot head start --dir x",
        "heorot node start 0 --dir x", "heorot node ps --dir x", "heorot token list --dir x",
        "bpsh n0 true", "bpsh n0 ./x", "bpsh --dir x n0 true", "bpcp n0:/etc/hostname .", "bpcp x n0:/tmp/x",
    ],
)  # fmt: skip
def test_a_directory_that_is_gone_is_said_in_one_line(cluster: LocalCluster, tmp_path: Path, line: str) -> None:
    result = cluster.run("sh", "-c", f'cd "$0"; rmdir "$0"; exec {line}', str(tmp_path))
    assert result.returncode in (1, 125)
    assert (result.stdout, result.stderr.count(b"\n")) == (b"", 1), result.stderr


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_a_directory_of_any_bytes_can_be_a_clusters(tmp_path: Path, cluster: LocalCluster, locale: str) -> None:
    directory = bytes(tmp_path) + b"/\xff"
    environment = {**cluster.environment, "HEOROT_DIR": os.fsdecode(directory), "LC_ALL": locale}
    up = cluster.run("heorot", "up", "--nodes", "1", env=environment)
    try:
        assert (up.returncode, up.stderr) == (0, b"")
        assert b"/\\xff in " in up.stdout
        assert cluster.bpsh("n0", "echo", "there", env=environment).stdout == b"there\n"
    finally:
        down = cluster.run("heorot", "down", env=environment)
    assert (down.returncode, down.stderr) == (0, b"")


def test_the_library_raises_its_own_errors(cluster: LocalCluster, tmp_path: Path) -> None:
    with heorot.connect(cluster.directory) as library:
        for ask in (
            lambda: library.spawn(["true"], "\udcff"),
            lambda: library.nodes("\udcff"),
            lambda: library.resolve("n\udcff"),
            lambda: library.processes("\udcff"),
            lambda: library.job("\udcff"),
        ):
            with pytest.raises(heorot.RequestError, match=r"\\xff"):
                ask()
        for question in (
            lambda: library.job("foo"),
            lambda: library.attach("1.x"),
            lambda: library.processes(job="1"),
            lambda: library.signal([1 << 70], 9),
            lambda: library.spawn(["true"], 0, max_processes=1 << 70),
        ):
            with pytest.raises(heorot.RequestError, match=r"is not a job|more than 64 bits"):
                question()
        assert library.run(["true"], "n0").exit_status == 0, "the connection is as it was"


# ------------------------------------------------------------------ standard streams

OUTPUT = ["bpsh n0 echo out", "bpps", "bpstat", "bpjob list", "bpkill -l", "heorot status", "heorot doctor", "bpcp -h"]
SILENT = ["bpsh n0 true", "bpcp /etc/hostname n0:$HEOROT_DIR/copy"]


def with_streams(cluster: LocalCluster, line: str, redirections: str) -> tuple[int, bytes, bytes]:
    """Run a command line with a shell's redirections."""
    done = cluster.run("sh", "-c", f"exec {line} {redirections}")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("line", OUTPUT)
@pytest.mark.parametrize("where", [">&-", ">/dev/full"])
def test_output_that_cannot_be_written_is_an_error(cluster: LocalCluster, line: str, where: str) -> None:
    status, _, errors = with_streams(cluster, line, where)
    reason = b"Bad file descriptor" if where == ">&-" else b"No space left on device"
    assert (status, errors) == (74, line.split()[0].encode() + b": cannot write output: " + reason + b"\n")


@pytest.mark.parametrize("redirections", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("line", SILENT)
def test_a_stream_that_is_closed_is_no_trouble_to_who_does_not_use_it(
    cluster: LocalCluster, line: str, redirections: str
) -> None:
    assert with_streams(cluster, line, redirections) == (0, b"", b"")


def test_errors_without_stderr_keep_their_status(cluster: LocalCluster) -> None:
    assert with_streams(cluster, "bpsh n99 true", "2>&-") == (125, b"", b"")
    assert with_streams(cluster, "bpps --nonsense", "2>&-")[0] == 2
    assert with_streams(cluster, "bpsh n0 sh -c 'echo >&2'", "2>&-")[0] == 74


def test_input_that_cannot_be_read_is_an_error(cluster: LocalCluster, tmp_path: Path) -> None:
    expected = (1, b"", b"bpsh: cannot read stdin: Bad file descriptor\n")
    assert with_streams(cluster, "bpsh n0 cat", f"0>{tmp_path}/f") == expected
    assert with_streams(cluster, "bpsh n0 sh -c 'cat; exit 5'", f"0>{tmp_path}/f")[0] == 5
    assert with_streams(cluster, "bpsh -n n0 cat", f"0>{tmp_path}/f") == (0, b"", b"")
