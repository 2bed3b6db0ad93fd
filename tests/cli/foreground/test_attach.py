"""`bpjob attach` loses nothing of a job, however it is left: what was not written is kept for the next attach."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from tests.support.local_cluster import LocalCluster, eventually
from tests.support.terminal import PROMPT, Shell

END_OF_INPUT = "\x04"
MANY, FEW = 50000, 30000
"""So many lines are more than a stream's window holds, or less; both are more than a terminal and a pipe take."""


def numbers(lines: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(1, lines + 1))


def counting(cluster: LocalCluster, lines: int, go_on: Path) -> str:
    """Start a detached job that counts, and ends with 3 when it may."""
    script = f"seq {lines}; : > {go_on}.counted; while [ ! -e {go_on} ]; do sleep 0.02; done; exit 3"
    return cluster.bpsh("--detach", "0", "sh", "-c", script, check=True).stdout.decode().strip()


def await_state(cluster: LocalCluster, job: str, state: str) -> None:
    def reached() -> bool:
        listed = cluster.run("bpjob", "list", "-H", "-s", state, check=True).stdout.decode().splitlines()
        return job in [line.split()[0] for line in listed]

    eventually(reached, f"job {job} to be {state}")


def await_keys_read(shell: Shell) -> None:
    """Wait until what was typed is read, but for an end of input, which is not counted."""
    terminal = os.open(f"/proc/{shell.pid}/fd/0", os.O_RDWR | os.O_NOCTTY)
    try:
        eventually(
            lambda: struct.unpack("i", fcntl.ioctl(terminal, termios.FIONREAD, b"\0" * 4)) == (0,),
            "the keys to be read",
        )
    finally:
        os.close(terminal)


def output(text: str) -> bytes:
    """Return what is the job's of what a terminal showed; the lines of bpjob itself may stand within."""
    return re.sub("bpjob: .*\n", "", text).encode()


def attach_behind(shell: Shell, job: str) -> int:
    """Attach at a terminal that shows bytes as they come, and stop reading it soon; return where its screen begins.

    An end of input that is typed when the command has just ended is the shell's: it shall not end for that.
    """
    shell.type("set -o ignoreeof; stty -echo -opost\n")
    shell.expect("opost\r\n")
    shell.expect(PROMPT)
    start = len(shell.screen)
    shell.type(f"bpjob attach {job}\n")
    shell.expect("\n9999\n")
    return start


@pytest.mark.parametrize("lines", [MANY, FEW])
def test_the_end_of_input_loses_nothing_if_the_job_ends_while_the_terminal_is_behind(
    cluster: LocalCluster, tmp_path: Path, lines: int
) -> None:
    go_on = tmp_path / "go_on"
    job = counting(cluster, lines, go_on)
    with Shell(cluster.environment) as shell:
        start = attach_behind(shell, job)
        eventually(Path(f"{go_on}.counted").exists, "all to be counted")
        shell.type("typed in vain\n" + END_OF_INPUT)
        await_keys_read(shell)
        go_on.touch()
        await_state(cluster, job, "done")
        shell.expect(PROMPT)
        shown = output(shell.screen[start:].partition(PROMPT)[0])
        shell.type("echo status $?\n")
        shell.expect("status ")
        status = shell.expect("\n")
    again = cluster.run("bpjob", "attach", job)
    assert shown + again.stdout == numbers(lines)
    if status == "3":
        assert (again.returncode, again.stdout) == (125, b"")
        assert b"collected" in again.stderr
    else:
        assert (status, again.returncode) == ("0", 3)


@pytest.mark.parametrize(("lines", "over"), [(MANY, False), (FEW, True)])
def test_a_hang_up_keeps_exactly_what_was_not_written(
    cluster: LocalCluster, tmp_path: Path, lines: int, over: bool
) -> None:
    go_on = tmp_path / "go_on"
    job = counting(cluster, lines, go_on)
    with cluster.running("bpjob", "attach", job, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as attached:
        assert attached.stdout is not None
        shown = attached.stdout.read(1)
        if over:
            go_on.touch()
            await_state(cluster, job, "done")
        attached.send_signal(signal.SIGHUP)
        # Not before it has ended: with somebody who reads it might write all that it has.
        assert attached.wait() == 128 + signal.SIGHUP
        shown += attached.stdout.read()
    go_on.touch()
    await_state(cluster, job, "done")
    again = cluster.run("bpjob", "attach", job)
    assert 0 < len(shown) < len(numbers(lines))
    assert shown + again.stdout == numbers(lines)
    assert again.returncode == 3


def test_a_hang_up_keeps_a_line_that_waits_for_its_end(cluster: LocalCluster, tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    script = f"echo whole; printf par; while [ ! -e {go_on} ]; do sleep 0.02; done; echo tial"
    job = cluster.bpsh("--detach", "0", "sh", "-c", script, check=True).stdout.decode().strip()
    with cluster.running("bpjob", "attach", "-p", job, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as attached:
        assert attached.stdout is not None
        assert attached.stdout.readline() == b"  0: whole\n"
        attached.send_signal(signal.SIGHUP)
        assert attached.stdout.read() == b""
    go_on.touch()
    await_state(cluster, job, "done")
    assert cluster.run("bpjob", "attach", "-p", job).stdout == b"  0: partial\n"


def test_what_a_closed_window_has_not_shown_is_shown_again(cluster: LocalCluster, tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    job = counting(cluster, MANY, go_on)
    with Shell(cluster.environment) as shell:
        start = attach_behind(shell, job)
        shown = output(shell.screen[start:])
    eventually(
        lambda: b" no " in cluster.run("bpjob", "list", "-H", "-s", "running").stdout, "nobody to attend the job"
    )
    go_on.touch()
    again = cluster.run("bpjob", "attach", job)
    assert again.returncode == 3
    assert numbers(MANY).startswith(shown)
    assert numbers(MANY).endswith(again.stdout)
    assert len(shown) + len(again.stdout) >= len(numbers(MANY))


def test_a_reader_that_closes_its_pipe_leaves_the_job_running(cluster: LocalCluster, tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    job = counting(cluster, MANY, go_on)
    left = cluster.run("bash", "-c", f"bpjob attach {job} | head -n 1; echo ${{PIPESTATUS[0]}}")
    assert left.stdout == b"1\n141\n"
    assert left.stderr.decode() == f"bpjob: job {job} runs on: 'bpjob attach {job}' joins it again\n"
    await_state(cluster, job, "running")
    go_on.touch()
    again = cluster.run("bpjob", "attach", job)
    assert again.returncode == 3
    assert again.stdout
    assert numbers(MANY).endswith(again.stdout)


def test_a_job_that_is_over_keeps_what_a_full_disk_did_not_take(cluster: LocalCluster, tmp_path: Path) -> None:
    go_on = tmp_path / "go_on"
    go_on.touch()
    job = counting(cluster, 10, go_on)
    await_state(cluster, job, "done")
    left = cluster.run("bash", "-c", f"bpjob attach {job} > /dev/full")
    assert left.returncode == 74
    assert f"bpjob: job {job} is over: 'bpjob attach {job}' shows what was not written" in left.stderr.decode()
    again = cluster.run("bpjob", "attach", job)
    assert (again.returncode, again.stdout) == (3, numbers(10))
