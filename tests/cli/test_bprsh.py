"""`bprsh` on a cluster of real daemons: a shell on one node, as callers of ssh and rsh expect it."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.local_cluster import Finished, LocalCluster, eventually
from tests.support.other_user import BECOME, OTHER, open_to_all
from tests.support.terminal import PROMPT, Shell

OWN = pwd.getpwuid(os.geteuid())


def shown(result: Finished) -> tuple[int, bytes, bytes]:
    return result.returncode, result.stdout, result.stderr


def test_words_become_one_line_for_the_users_shell(cluster: LocalCluster) -> None:
    result = cluster.run("bprsh", "n1", "echo $HEOROT_NODE;", "echo", "a  b", "|", "tr", "a-z", "A-Z; exit 7")
    assert shown(result) == (7, b"1\nA B\n", b"")


@pytest.mark.parametrize("host", ["n2", "2", f"{OWN.pw_name}@n2"])
def test_a_node_has_these_names(cluster: LocalCluster, host: str) -> None:
    assert shown(cluster.run("bprsh", host, "echo $HEOROT_NODE")) == (0, b"2\n", b"")


def test_it_begins_as_a_login_does_and_not_where_the_caller_is(cluster: LocalCluster, tmp_path: Path) -> None:
    environment = {**cluster.environment, "SECRET": "x", "GIT_PROTOCOL": "version=2", "LC_TIME": "C", "HOME": "/x"}
    options = ("-oSendEnv=GIT_PROTOCOL", "-o", 'SetEnv=A=1 "B=2 3"')
    result = cluster.run("bprsh", *options, "n0", "pwd; env", cwd=tmp_path, env=environment)
    directory, *entries = result.stdout.decode().splitlines()
    found = dict(entry.split("=", 1) for entry in entries)
    assert directory == OWN.pw_dir
    expected = {
        "HOME": OWN.pw_dir,
        "USER": OWN.pw_name,
        "LOGNAME": OWN.pw_name,
        "SHELL": OWN.pw_shell,
        "GIT_PROTOCOL": "version=2",
        "LC_TIME": "C",
        "A": "1",
        "B": "2 3",
    }
    assert {name: found[name] for name in expected} == expected
    assert found["HEOROT_NODE"] == "0"
    assert not found.keys() & {"SECRET", "TERM", "BPRSH_BEGIN", "OLDPWD", "VIRTUAL_ENV"}
    assert str(tmp_path) not in result.stdout.decode()


def test_the_cluster_of_the_option_is_that_of_the_command(cluster: LocalCluster) -> None:
    environment = {name: value for name, value in cluster.environment.items() if name != "HEOROT_DIR"}
    result = cluster.run("bprsh", "--dir", str(cluster.directory), "n0", "echo $HEOROT_DIR", env=environment)
    assert shown(result) == (0, b"%s\n" % os.fsencode(cluster.directory), b"")


WORDS = [b"\xff\xfe", b"", b"a\nb", b"--", b"-n", b"it's", b"$HOME", b"\\", b"\x01\x7f", b"*"]


def test_quoted_words_of_any_bytes_arrive(cluster: LocalCluster) -> None:
    quoted = [b"'" + word.replace(b"'", b"'\\''") + b"'" for word in WORDS]
    result = cluster.run("bprsh", "n0", "printf '<%s>'", *quoted)
    assert shown(result) == (0, b"".join(b"<%s>" % word for word in WORDS), b"")


def test_rsh_as_hydra_calls_it_quotes_each_word(cluster: LocalCluster) -> None:
    assert shown(cluster.run("bprsh", "n0", "-n", '"/bin/echo"', '"a  b"', "--x")) == (0, b"a  b --x\n", b"")


def test_all_bytes_pass_both_ways(cluster: LocalCluster) -> None:
    data = os.urandom(3_000_000) + bytes(range(256))
    assert shown(cluster.run("bprsh", "n1", "cat", input=data)) == (0, data, b"")


def test_a_line_that_is_longer_than_a_node_can_take_is_trouble_with_a_word(cluster: LocalCluster) -> None:
    """The words are one word there, of which the kernel takes 128 KiB."""
    result = cluster.run("bprsh", "n1", "true", *["x" * 70_000] * 2)
    assert (result.returncode, result.stdout) == (255, b"")
    assert b"the arguments and environment are too long for this node" in result.stderr


def test_input_that_ends_ends_the_command_and_none_is_read_if_none_is_wanted(cluster: LocalCluster) -> None:
    assert cluster.run("bprsh", "n1", "wc -c", input=b"12345").stdout == b"5\n"
    assert cluster.run("bprsh", "-n", "n1", "wc -c", input=b"12345").stdout == b"0\n"
    script = "printf 'n0\\nn1\\n' | while read host; do bprsh -n $host 'echo $HEOROT_NODE'; done"
    assert cluster.run("sh", "-c", script).stdout == b"0\n1\n"


def test_without_a_command_the_input_is_a_script_for_a_login_shell(cluster: LocalCluster) -> None:
    result = cluster.run("bprsh", "n1", input=b"echo $HEOROT_NODE\nexit 3\n")
    assert shown(result) == (3, b"1\n", b"")


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (("n0", "exit 125"), 125, b""),
        (("n0", "no-such-command 2>/dev/null"), 127, b""),
        (("n0", "kill -TERM $$"), 143, b"bprsh: n0 (rank 0): killed by SIGTERM\n"),
        (("n99", "true"), 255, b"bprsh: "),
        (("no-such-host", "true"), 255, b"bprsh: "),
        (("--dir", "/no/such", "n0", "true"), 255, b"bprsh: no cluster at /no/such"),
        (("up", "true"), 255, b"bprsh: 'up' is 3 nodes, and a host is one"),
        (("-L", "1:a:2", "n0", "true"), 255, b"bprsh: -L is refused"),
        (("-tt", "-e", "xy", "n0", "true"), 255, b"bprsh: --escape is one character"),
        (("no-such-user@n0", "true"), 255, b"bprsh: this host knows no user 'no-such-user'"),
    ],
)
def test_255_is_trouble_and_all_else_the_status_of_the_command(
    cluster: LocalCluster, words: tuple[str, ...], status: int, says: bytes
) -> None:
    result = cluster.run("bprsh", *words)
    assert (result.returncode, result.stdout) == (status, b"")
    assert result.stderr.startswith(says)
    assert result.stderr or not says


def test_a_node_that_is_down_is_trouble(cluster: LocalCluster) -> None:
    cluster.run("heorot", "node", "stop", "2", check=True)
    try:
        result = cluster.run("bprsh", "n2", "true")
        assert result.returncode == 255
        assert b"n2" in result.stderr
    finally:
        cluster.run("heorot", "node", "start", "2", check=True)
        eventually(lambda: cluster.run("bprsh", "n2", "true").returncode == 0, "n2 up again")


@pytest.mark.parametrize("host", ["-oProxyCommand=touch {}", "x@-oProxyCommand=touch {}"])
def test_a_host_that_looks_like_an_option_runs_nothing(cluster: LocalCluster, tmp_path: Path, host: str) -> None:
    mark = tmp_path / "mark"
    result = cluster.run("bprsh", "--", host.format(mark), "true")
    assert result.returncode == 255
    assert b"begins with a dash, and is no host" in result.stderr
    # As an option it is one that is ignored, and the host is what follows.
    assert cluster.run("bprsh", f"-oProxyCommand=touch {mark}", "n0", "true").returncode == 0
    assert not mark.exists()


def test_what_ssh_would_read_is_not_read(cluster: LocalCluster, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host *\n  ProxyCommand touch {tmp_path}/mark\n  User nobody\n")
    assert shown(cluster.run("bprsh", "-F", str(config), "n0", "id -u")) == (0, b"%d\n" % os.geteuid(), b"")
    assert not (tmp_path / "mark").exists()


def test_what_is_left_out_is_said_unless_the_caller_wants_quiet(cluster: LocalCluster) -> None:
    said = b"bprsh: -A changes nothing: neither an agent nor windows are forwarded\n"
    assert shown(cluster.run("bprsh", "-A", "n0", "true")) == (0, b"", said)
    assert shown(cluster.run("bprsh", "-qAt", "n0", "true")) == (0, b"", b"")
    said = b"bprsh: no terminal for the command, as stdin is none here; -tt gives one in any case\n"
    assert shown(cluster.run("bprsh", "-t", "n0", "true")) == (0, b"", said)


def test_a_terminal_is_given_where_none_is_if_it_is_asked_for_twice(cluster: LocalCluster) -> None:
    assert cluster.run("bprsh", "n0", "test -t 1").returncode == 1
    assert shown(cluster.run("bprsh", "-tt", "n0", "test -t 0 && test -t 1 && echo yes")) == (0, b"yes\r\n", b"")


def test_a_login_shell_at_a_terminal(cluster: LocalCluster) -> None:
    with Shell(cluster.environment) as shell:
        shell.type("bprsh n1\n")
        shell.expect("bprsh n1\r\n")
        shell.type("test -t 0 && echo node=$HEOROT_NODE term=$TERM; exit 5\n")
        shell.expect("node=1 term=")
        shell.expect(PROMPT)
        assert shell.run("echo status $?") == "status 5\r\n"
    cluster.await_idle()


def test_a_key_begins_an_escape_at_a_terminal_unless_the_caller_wants_none(cluster: LocalCluster) -> None:
    with Shell(cluster.environment) as shell:
        shell.type("bprsh -e % -t n1 'echo up; exec cat'\n")
        shell.expect("up\r\n")
        shell.type("%.")
        shell.expect(PROMPT)
        shell.type("bprsh -e none -t n1 'echo up; exec cat'\n")
        shell.expect("up\r\n")
        shell.type("~.\n")
        shell.expect("~.\r\n~.\r\n")
        shell.type("\x03")
        shell.expect(PROMPT)
    cluster.await_idle()


def test_a_directory_of_the_cluster_may_be_relative(cluster: LocalCluster) -> None:
    words = ("--dir", cluster.directory.name, "n0", "echo $HEOROT_DIR")
    result = cluster.run("bprsh", *words, cwd=cluster.directory.parent)
    assert shown(result) == (0, b"%s\n" % os.fsencode(cluster.directory), b"")


def test_who_calls_is_answered_as_ssh_answers_what_it_would_do(cluster: LocalCluster) -> None:
    result = cluster.run("bprsh", "-G", "-p", "22", "me@n7")
    assert shown(result) == (0, b"host n7\nuser me\nhostname n7\nport 22\n", b"")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_caller_that_ends_it_ends_the_command(cluster: LocalCluster, number: int) -> None:
    with cluster.running("bprsh", "n1", "echo up; exec sleep 1000", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(number)
        assert process.wait() == 128 + number
    cluster.await_idle()


def test_a_caller_that_kills_it_leaves_nothing_running(cluster: LocalCluster) -> None:
    with cluster.running("bprsh", "n1", "echo up; sleep 1000; echo down", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.kill()
    cluster.await_idle()


def test_a_reader_that_goes_away_ends_it(cluster: LocalCluster) -> None:
    result = cluster.run("sh", "-c", "bprsh n0 yes | head -n 2")
    assert shown(result) == (0, b"y\ny\n", b"")
    cluster.await_idle()


def test_a_link_called_ssh_is_the_same_command(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "ssh").symlink_to(cluster.environment["PATH"].partition(":")[0] + "/bprsh")
    assert shown(cluster.run(str(tmp_path / "ssh"), "n1", "echo $HEOROT_NODE")) == (0, b"1\n", b"")


# ------------------------------------------------------------------ users

PRELOADED = (
    BECOME
    + """
import importlib, os, pkgutil, sys
import heorot.cli.bprsh
for package in ("heorot.cli.foreground", "heorot.client", "heorot.core.client"):
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__, package + "."):
        importlib.import_module(module.name)
os.access = lambda path, mode: True
if sys.argv[1] != "0":
    become(int(sys.argv[1]))
os._exit(heorot.cli.bprsh.run_bprsh(sys.argv[2:]))
"""
)
"""Another user may not be able to read the Python that runs the tests: here all of the program is loaded before."""


def as_somebody(cluster: LocalCluster, uid: int, *words: str) -> Finished:
    """Run the command as this user."""
    open_to_all(cluster.directory.parent)
    return cluster.run(sys.executable, "-c", PRELOADED, str(uid), *words, cwd="/")


def test_root_may_be_anybody_there(cluster: LocalCluster) -> None:
    account = pwd.getpwnam("nobody")
    words = ("-oSetEnv=SHELL=/bin/sh", "nobody@n0", "id -u; id -g; id -G; pwd; echo $HOME $USER")
    result = as_somebody(cluster, 0, *words)
    ids = b"%d\n%d\n%s\n" % (account.pw_uid, account.pw_gid, b" ".join(b"%d" % g for g in groups_of(account)))
    there = os.path.isdir(account.pw_dir)
    place = account.pw_dir if there else "/"
    assert (result.returncode, result.stdout) == (0, ids + f"{place}\n{account.pw_dir} nobody\n".encode())
    said = f"bprsh: there is no directory {account.pw_dir} on this node: the command runs in /\n"
    assert result.stderr == (b"" if there else said.encode())


def groups_of(account: pwd.struct_passwd) -> list[int]:
    return os.getgrouplist(account.pw_name, account.pw_gid)


def test_a_user_who_cannot_read_the_program_is_told_and_root_does_not_go_on(cluster: LocalCluster) -> None:
    script = PRELOADED.replace("lambda path, mode: True", "lambda path, mode: False")
    result = cluster.run(sys.executable, "-c", script, "0", "nobody@n0", "id -u", cwd="/")
    assert (result.returncode, result.stdout) == (255, b"")
    assert b"bprsh: 'nobody' may not read" in result.stderr


def test_a_user_is_nobody_else(cluster: LocalCluster) -> None:
    result = as_somebody(cluster, OTHER, "root@n0", "id -u")
    assert (result.returncode, result.stdout) == (255, b"")
    assert result.stderr.endswith(b"here and on the nodes; only root may be 'root' there\n")
    result = as_somebody(cluster, OTHER, "n0", "id -u; echo $USER; pwd")
    assert shown(result) == (0, b"%d\n%d\n/\n" % (OTHER, OTHER), b"")
