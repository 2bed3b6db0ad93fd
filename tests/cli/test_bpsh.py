"""`bpsh` on a cluster of real daemons: what it prints and how it exits."""

from __future__ import annotations

import base64
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from heorot.core.tree.nodelist import NodeView
from heorot.core.tree.nodelist import parse as parse_nodes
from heorot.core.tree.nodeset import NodeSet
from tests.support.local_cluster import LocalCluster, eventually

RANK = "r=$((0$BPROC_RANK))"
LEFT = "; it is not sent: nodes run their own\n"
"""What is said of a program that cannot be collected."""
SITE = f"import sys; sys.path.append({sysconfig.get_path('purelib')!r})\n"
"""What an interpreter without its site module needs to find msgpack."""
SLOW_FIRST = "[ $BPROC_RANK = 0000000 ] && sleep 0.3; "
"""Makes rank 0 the last, so that order shows."""


def test_it_runs_a_command_everywhere(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-a", "echo", "hello")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"hello\n" * 3, b"")


def test_ranks_are_numbered_in_the_order_of_the_nodes(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-s", "2,0,2", "sh", "-c", "echo $BPROC_RANK $BPROC_PROGNAME")
    assert result.stdout == b"0000000 sh\n0000001 sh\n0000002 sh\n"


def test_prefix_is_the_number_of_the_node(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-sp", "2,0", "printf", "one\\n\\ntwo")
    assert result.stdout == b"  2: one\n  2: \n  2: two\n  0: one\n  0: \n  0: two\n"


def test_label_is_the_name_of_the_node(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-s", "--label", "n[1-2]", "echo", "hi")
    assert result.stdout == b"n1: hi\nn2: hi\n"


def test_prefix_goes_before_stderr_too(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-p", "n1", "sh", "-c", "echo bad >&2")
    assert (result.stdout, result.stderr) == (b"", b"  1: bad\n")


def test_lines_are_not_mixed(cluster: LocalCluster) -> None:
    script = "i=0; while [ $i -lt 50 ]; do printf a; printf b; printf 'c\\n'; i=$((i+1)); done"
    result = cluster.bpsh("-L", "-a", "sh", "-c", script)
    assert result.stdout == b"abc\n" * 150


def test_a_line_that_is_too_long_is_cut_where_another_rank_writes(cluster: LocalCluster, tmp_path: Path) -> None:
    # Rank 0 writes a long line without an end and waits; then rank 1 writes; then rank 0 goes on.
    ready, go_on = tmp_path / "ready", tmp_path / "go-on"
    script = (
        f"if [ $BPROC_RANK = 0000000 ]; then printf 0123456789ABCDEF; while [ ! -e {go_on} ]; do sleep 0.01; done;"
        f" echo end; else while [ ! -e {ready} ]; do sleep 0.01; done; echo other; fi"
    )
    with cluster.running("bpsh", "-p", "-b", "8", "0,1", "sh", "-c", script, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert os.read(process.stdout.fileno(), 100) == b"  0: 0123456789ABCDEF"
        ready.touch()
        assert os.read(process.stdout.fileno(), 100) == b"\n  1: other\n"
        go_on.touch()
        assert process.stdout.read() == b"  0: end\n"


def test_one_after_the_other_with_dividers(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-ad", "sh", "-c", SLOW_FIRST + "echo out $BPROC_RANK; echo err $BPROC_RANK >&2")
    rule = b"-" * 72
    expected = b"".join(b"%3d %s\nout %07d\n" % (rank, rule, rank) for rank in range(3))
    assert result.stdout == expected
    assert result.stderr == b"err 0000000\nerr 0000001\nerr 0000002\n"


def test_one_after_the_other_holds_back_more_than_a_window(cluster: LocalCluster) -> None:
    script = SLOW_FIRST + "head -c 1500000 /dev/zero | tr '\\0' $((0$BPROC_RANK))"
    result = cluster.bpsh("-s", "-a", "sh", "-c", script)
    assert result.stdout == b"0" * 1500000 + b"1" * 1500000 + b"2" * 1500000


def test_equal_outputs_are_folded(cluster: LocalCluster) -> None:
    script = "echo same; [ $BPROC_RANK = 0000001 ] && echo different >&2; true"
    result = cluster.bpsh("--gather", "-a", "sh", "-c", script)
    rule = b"-" * 16
    assert result.stdout == b"%s\nn[0-2]\n%s\nsame\n" % (rule, rule)
    assert result.stderr == b"%s\nn1\n%s\ndifferent\n" % (rule, rule)


def test_outputs_that_differ_are_shown_apart(cluster: LocalCluster) -> None:
    result = cluster.bpsh("--gather", "-a", "sh", "-c", f"{RANK}; printf $((r / 2))")
    rule = b"-" * 16
    assert result.stdout == b"%s\nn[0-1]\n%s\n0\n%s\nn2\n%s\n1\n" % (rule, rule, rule, rule)


def test_json_has_statuses_and_output(cluster: LocalCluster) -> None:
    script = "printf 'caf\\303\\251\\n\"'; printf '\\377\\000' >&2; [ $BPROC_RANK = 0000001 ] && kill -9 $$; exit 3"
    result = cluster.bpsh("--json", "0,1", "sh", "-c", script)
    document = json.loads(result.stdout)
    first, second = document["ranks"]
    assert document["status"] == result.returncode == 137
    assert first["pid"] > 0
    assert (first["rank"], first["node"], first["name"], first["code"]) == (0, 0, "n0", 3)
    assert (second["rank"], second["node"], second["name"], second["signal"]) == (1, 1, "n1", 9)
    assert "code" not in second
    for row in (first, second):
        assert row["stdout"] == 'café\n"'
        assert base64.b64decode(row["stderr_base64"]) == b"\xff\x00"


def test_json_of_a_command_that_does_not_exist(cluster: LocalCluster) -> None:
    result = cluster.bpsh("--json", "0", "/no/such")
    (row,) = json.loads(result.stdout)["ranks"]
    assert (row["code"], row["pid"], row["stdout"]) == (127, None, "")
    assert "/no/such" in row["error"]


def test_streams_may_be_files_on_the_node(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"from a file")
    script = "cat; echo bad >&2"
    result = cluster.bpsh("-I", "in", "-O", "out", "-E", "err", "0", "sh", "-c", script, input=b"not", cwd=tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert (tmp_path / "out").read_bytes() == b"from a file"
    assert (tmp_path / "err").read_bytes() == b"bad\n"


def test_no_input(cluster: LocalCluster) -> None:
    assert cluster.bpsh("-n", "0", "cat", input=b"text").stdout == b""


def test_no_input_and_no_output(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-N", "0", "sh", "-c", "cat; echo out; echo err >&2; exit 5", input=b"text")
    assert (result.returncode, result.stdout, result.stderr) == (5, b"", b"")


def test_input_goes_to_every_rank(cluster: LocalCluster) -> None:
    data = os.urandom(3_000_000)
    result = cluster.bpsh("-s", "-a", "cat", input=data)
    assert result.stdout == data * 3


def test_a_rank_that_does_not_read_does_not_hold_up_the_others(cluster: LocalCluster) -> None:
    data = bytes(4_000_000)
    result = cluster.bpsh("-a", "sh", "-c", "[ $BPROC_RANK = 0000001 ] || wc -c", input=data)
    assert result.stdout == b"4000000\n" * 2


def test_closed_descriptors_are_no_trouble(cluster: LocalCluster) -> None:
    result = cluster.run("sh", "-c", "bpsh 0 sh -c 'cat; echo err >&2' <&- >&-")
    assert (result.returncode, result.stderr) == (0, b"err\n")
    assert cluster.run("sh", "-c", "bpsh 0 echo out >&-").returncode == 74


def test_the_surroundings_go_along(cluster: LocalCluster, tmp_path: Path) -> None:
    def surroundings() -> None:
        os.umask(0o26)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))

    # Without the right to raise it again, the hard limit is set a moment after the start.
    script = 'pwd; umask; ulimit -Sn; while [ $(ulimit -Hn) != 128 ]; do sleep 0.01; done; echo "$COLOUR"'
    result = cluster.bpsh(
        "0", "sh", "-c", script,
        cwd=tmp_path, preexec_fn=surroundings, env={**cluster.environment, "COLOUR": "green and\nred"},
    )  # fmt: skip
    assert result.stdout.decode() == f"{tmp_path}\n0026\n64\ngreen and\nred\n"


def test_wall_time(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-t", "0", "sleep", "0.2")
    name, seconds, unit = result.stderr.decode().split()
    assert (name, unit) == ("bpsh:", "s")
    assert float(seconds) >= 0.2


def test_a_detached_job_runs_on(cluster: LocalCluster) -> None:
    result = cluster.bpsh("--detach", "n2", "sh", "-c", "sleep 0.2; echo done; exit 6")
    job = result.stdout.decode().strip()
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{job}\n".encode(), b"")
    attached = cluster.run("bpjob", "attach", job)
    assert (attached.returncode, attached.stdout) == (6, b"done\n")


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["0", "nosuchcommand"], 127, "bpsh: n0 (rank 0): no such command: nosuchcommand (not in PATH)\n"),
        (["0", "/etc/passwd"], 126, "bpsh: cannot execute /etc/passwd: Permission denied"),
        (["0", "/etc"], 126, "bpsh: cannot execute /etc: Is a directory\n"),
        (["0", "--image", "path", "/etc"], 126, "bpsh: n0 (rank 0): cannot execute /etc: Is a directory\n"),
        (["0", "/dev/null"], 126, "bpsh: cannot execute /dev/null: Permission denied: it is a device\n"),
        (["0", "--image", "send", "nosuchcommand"], 127, "bpsh: no such command here: nosuchcommand\n"),
        (["1", "sh", "-c", "kill -KILL $$"], 137, "bpsh: n1 (rank 0): killed by SIGKILL\n"),
        (["0-2", "sh", "-c", f"{RANK}; exit $((r + 4))"], 6, "bpsh: n0 (rank 0): exit status 4\nbpsh: n1 (rank 1): "),
        (["0-2", "sh", "-c", f"{RANK}; exit $((r > 0))"], 1, "bpsh: n[1-2]: exit status 1\n"),
        (["0,1,0", "sh", "-c", f"{RANK}; exit $((r == 2))"], 1, "bpsh: n0 (rank 2): exit status 1\n"),
        (["0-2", "sh", "-c", "exit 3"], 3, ""),
        (["0-2", "--json", "sh", "-c", f"{RANK}; exit $((r > 0))"], 1, ""),
        (["0-2", "--json", "nosuchcommand"], 127, ""),
        (["0-2", "--json", "sh", "-c", f"{RANK}; [ $r = 1 ] && kill -9 $$"], 137, ""),
        (["0", "{tmp}/none"], 127, f"bpsh: {{tmp}}/none needs the interpreter /none, which does not exist{LEFT}"),
        (
            ["0", "{tmp}/closed"],
            126,
            "bpsh: {tmp}/closed needs the interpreter /etc/passwd, which cannot be executed: ",
        ),
        (["0", "{tmp}/env"], 127, f"bpsh: {{tmp}}/env needs the interpreter nosuch, which is not in PATH{LEFT}"),
        (["0", "--image", "send", "{tmp}/none"], 127, "bpsh: {tmp}/none needs the interpreter /none, which "),
        (["0", "--image", "path", "{tmp}/none"], 127, "bpsh: n0 (rank 0): cannot execute {tmp}/none: "),
        (["0", "--image", "path", "{tmp}/closed"], 126, "bpsh: n0 (rank 0): cannot execute {tmp}/closed: "),
        (["n77", "true"], 125, "bpsh: 'n77': there is no node n77"),
        (["", "true"], 125, "bpsh: "),
        (["0", ""], 2, "bpsh: the command is empty\nusage: "),
        (["-Q", "0", "true"], 2, "bpsh: unknown option -Q\nusage: "),
        (["--dir", "/nonexistent", "0", "true"], 125, "bpsh: no cluster at /nonexistent: start one with "),
    ],
)
def test_statuses_and_what_is_said_about_them(
    cluster: LocalCluster, tmp_path: Path, words: list[str], status: int, message: str
) -> None:
    for name, line in {"none": "/none", "closed": "/etc/passwd", "env": "/usr/bin/env nosuch"}.items():
        (tmp_path / name).write_text(f"#!{line}\n")
        (tmp_path / name).chmod(0o755)
    message = message.replace("{tmp}", str(tmp_path))
    result = cluster.bpsh(*(word.replace("{tmp}", str(tmp_path)) for word in words))
    assert result.returncode == status
    assert result.stderr.decode().startswith(message)
    assert bool(result.stderr) == bool(message)


@pytest.mark.parametrize(
    ("words", "status", "nodes", "text"),
    [
        ("-a nosuchcommand", 127, "n[0-2]", "no such command: nosuchcommand (not in PATH)"),
        ("0-2 sh -c 'kill -TERM $$'", 143, "n[0-2]", "killed by SIGTERM"),
        (f"0-2 sh -c '{RANK}; [ $r = 2 ] || kill -9 $$; exit 3'", 137, "n[0-1]", "killed by SIGKILL"),
    ],
)
def test_what_nodes_say_names_each_once(cluster: LocalCluster, words: str, status: int, nodes: str, text: str) -> None:
    """In one line, unless the machine is so busy that they say it at different times (`test_news.py`)."""
    result = cluster.bpsh(*shlex.split(words))
    assert result.returncode == status
    said = [re.fullmatch(r"bpsh: (n\S+)(?: \(rank \d+\))?: (.*)", line) for line in result.stderr.decode().splitlines()]
    named = [node for line in said if line is not None and line[2] == text for node in unfolded(line[1])]
    assert sorted(named) == unfolded(nodes)


def unfolded(nodes: str) -> list[int]:
    """Return the numbers of a node list."""
    numbers = range(3)
    return list(parse_nodes(nodes, NodeView(NodeSet.of(numbers), dict.fromkeys(numbers, "up"))))


def test_help_and_version_need_no_cluster(cluster: LocalCluster) -> None:
    without = {**cluster.environment, "HEOROT_DIR": "/nonexistent"}
    result = cluster.bpsh("--help", env=without)
    assert result.returncode == 0
    assert result.stdout.startswith(b"usage: bpsh ")
    assert cluster.bpsh("-v", env=without).stdout.startswith(b"bpsh ")


@pytest.mark.parametrize(("where", "why"), [("/dev/full", "No space left on device"), ("&-", "Bad file descriptor")])
def test_a_detached_job_whose_id_cannot_be_printed_is_not_a_refused_one(
    cluster: LocalCluster, tmp_path: Path, where: str, why: str
) -> None:
    ran = tmp_path / "ran"
    result = cluster.run("sh", "-c", f"bpsh --detach n0 sh -c 'touch {ran}; exec sleep 1000' >{where}")
    said = result.stderr.decode()
    job = said.split()[2]
    assert said == f"bpsh: job {job} runs, but its id could not be written: {why}; 'bpjob kill {job}' ends it\n"
    assert result.returncode == 74
    eventually(ran.exists, "the job to run")
    assert cluster.run("bpjob", "kill", job).returncode == 0
    cluster.await_idle()


def test_a_divider_has_a_line_of_its_own(cluster: LocalCluster) -> None:
    result = cluster.bpsh("-d", "0-2", "sh", "-c", f"{RANK}; printf x$r; [ $r = 1 ] && echo; printf e >&2")
    rule = "-" * 72
    assert result.stdout.decode() == f"  0 {rule}\nx0\n  1 {rule}\nx1\n  2 {rule}\nx2"


def test_a_full_disk_is_said(cluster: LocalCluster) -> None:
    result = cluster.run("sh", "-c", "bpsh 0 yes > /dev/full")
    assert result.returncode == 74
    assert result.stderr == b"bpsh: cannot write output: No space left on device\n"
    cluster.await_idle()


def test_a_line_for_a_shell_is_told_from_a_command(cluster: LocalCluster) -> None:
    result = cluster.bpsh("0", "hostname | wc -l")
    assert result.returncode == 127
    assert result.stderr == (
        b"bpsh: n0 (rank 0): no such command: hostname | wc -l (a line for a shell needs one: sh -c '...')\n"
    )


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["0", "ls -l /"], "a line for a shell needs one: did you mean \"bpsh 0 sh -c 'ls -l /'\"?"),
        (["n[0-1]", "ls;id"], "a line for a shell needs one: did you mean \"bpsh 'n[0-1]' sh -c 'ls;id'\"?"),
        (
            ["-a", "source", "./x"],
            "'source' is a word of the shell and no program: did you mean \"bpsh -a sh -c 'source ./x'\"?",
        ),
        (["0", "A=1 2", "env"], "'A' is set by a shell, or by env(1): did you mean \"bpsh 0 env 'A=1 2' env\"?"),
    ],
)
def test_what_only_a_shell_understands_is_told(cluster: LocalCluster, words: list[str], hint: str) -> None:
    result = cluster.bpsh(*words)
    assert result.returncode == 127
    assert result.stderr.decode().splitlines()[-1] == f"bpsh: {hint}"


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("n0 n1 hostname -f", "'n1' names a node: did you mean 'bpsh n0,n1 hostname ...'?"),
        ("--image send 0 1-2 hostname", "'1-2' names a node: did you mean 'bpsh 0,1-2 hostname'?"),
        ("n0 n1 n2", "'n1' names a node: did you mean 'bpsh n0,n1,n2 COMMAND'?"),
        ("-a n1 hostname", "'n1' names a node: did you mean 'bpsh n1 hostname'? (-a and -A replace the nodes)"),
        ("n0 n7 hostname", ""),
        ("n0 ./n1", ""),
    ],
)
def test_a_node_in_the_place_of_the_command_is_told(cluster: LocalCluster, words: str, hint: str) -> None:
    result = cluster.bpsh(*words.split())
    assert result.returncode == 127
    not_found, *hints = result.stderr.decode().splitlines()
    assert "no such command" in not_found
    assert hints == ([f"bpsh: {hint}"] if hint else [])


def test_a_reader_that_goes_away_ends_the_job_quietly(cluster: LocalCluster) -> None:
    result = cluster.run("bash", "-c", "bpsh -a yes | head -n 1; echo ${PIPESTATUS[0]}")
    assert (result.stdout, result.stderr) == (b"y\n141\n", b"")
    cluster.await_idle()


def test_a_reader_that_stops_stalls_only_its_own_job(cluster: LocalCluster) -> None:
    with cluster.running("bpsh", "-a", "yes", stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(2) == b"y\n"
        assert cluster.bpsh("-a", "echo", "on").stdout == b"on\n" * 3
        process.terminate()
        # It cannot write, but it heard the signal and passed it on.
        eventually(lambda: not cluster.processes(), "the stalled job to end")
        assert set(process.stdout.read().split(b"\n")) <= {b"y", b""}
        assert process.wait() == 143


def test_a_client_that_is_killed_hangs_up(cluster: LocalCluster) -> None:
    words = ("bpsh", "-a", "sh", "-c", "echo up; exec sleep 1000")
    with cluster.running(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert process.stdout.readline() == b"up\n"
        process.kill()
    cluster.await_idle()


def test_it_imports_nothing_heavy(cluster: LocalCluster) -> None:
    program = (
        "import sys; from heorot.cli import bpsh\n"
        "sys.argv = ['bpsh', '-a', 'true']\n"
        "status = bpsh.main()\n"
        "print(status, *sys.modules)"
    )
    status, *modules = cluster.run(sys.executable, "-S", "-c", SITE + program, check=True).stdout.decode().split()
    assert status == "0"
    heavy = {
        "argparse",
        "asyncio",
        "contextlib",
        "dataclasses",
        "enum",
        "inspect",
        "json",
        "msgspec",
        "re",
        "selectors",
    }
    heavy |= {"signal", "socket", "threading", "typing"}
    assert heavy & set(modules) == set()
