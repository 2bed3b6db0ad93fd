"""`bpsh` at a terminal: job control, keys that send signals, remote terminals, and the state that it leaves behind."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_head import Answer, FakeHead
from tests.support.local_cluster import LocalCluster, eventually
from tests.support.terminal import PROMPT, Shell

INTERRUPT, STOP, END_OF_INPUT = "\x03", "\x1a", "\x04"


@pytest.fixture
def shell(cluster: LocalCluster) -> Iterator[Shell]:
    with Shell(cluster.environment) as shell:
        yield shell
    cluster.await_idle()


def test_interrupt_reaches_every_rank(shell: Shell) -> None:
    shell.type("bpsh -a sh -c 'trap \"echo caught; exit 3\" INT; echo up; while :; do sleep 0.02; done'\n")
    for _ in range(3):
        shell.expect("up\r\n")
    shell.type(INTERRUPT)
    for _ in range(3):
        shell.expect("caught\r\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 3\r\n"


def test_death_by_interrupt_is_quiet(shell: Shell) -> None:
    shell.type("bpsh -a sh -c 'echo up; exec sleep 1000'\n")
    for _ in range(3):
        shell.expect("up\r\n")
    shell.type(INTERRUPT)
    # The new line is the shell's, as after any command that dies so.
    assert shell.expect(PROMPT) == "^C\r\n"
    assert shell.run("echo status $?") == "status 130\r\n"


def test_a_second_interrupt_kills(shell: Shell) -> None:
    shell.type("bpsh 0 sh -c 'trap \"echo no\" INT; echo up; while :; do sleep 0.02; done'\n")
    shell.expect("up\r\n")
    shell.type(INTERRUPT)
    shell.expect("no\r\n")
    shell.type(INTERRUPT)
    shell.expect("interrupted twice: killing the job")
    shell.expect("bpsh: n0 (rank 0): killed by SIGKILL")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 137\r\n"


def test_quit_reaches_the_job(shell: Shell) -> None:
    shell.type("bpsh 0 sh -c 'trap \"echo caught; exit 4\" QUIT; echo up; while :; do sleep 0.02; done'\n")
    shell.expect("up\r\n")
    shell.type("\x1c")
    shell.expect("caught\r\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 4\r\n"


def test_stop_and_continue(cluster: LocalCluster, shell: Shell) -> None:
    shell.type("bpsh n[0-1] sh -c 'while :; do echo tick; sleep 0.02; done'\n")
    shell.expect("tick\r\n")
    shell.type(STOP)
    shell.expect("Stopped")
    shell.expect(PROMPT)

    def stopped() -> bool:
        # What had just ended stays (Z) until its stopped parent asks for it; a parent whose child was stopped between
        # vfork and its program waits for that (D).
        states = {row["state"] for row in cluster.processes()}
        return "T" in states and states <= {"T", "Z", "D"}

    eventually(stopped, "every process to stop")
    shell.type("fg\n")
    shell.expect("tick\r\n")
    eventually(lambda: "T" not in {row["state"] for row in cluster.processes()}, "every process to go on")
    shell.type(INTERRUPT)
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 130\r\n"


def test_interrupt_ends_the_loop_of_the_shell_too(shell: Shell) -> None:
    shell.type("for i in 1 2 3; do bpsh 0 sh -c 'echo up; exec sleep 1000'; echo gone on; done\n")
    shell.expect("up\r\n")
    shell.type(INTERRUPT)
    assert "gone on" not in shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 130\r\n"


def test_in_the_background_it_runs_although_it_could_read(shell: Shell) -> None:
    shell.type("bpsh 0 sh -c 'sleep 0.2; echo background work done' & wait; echo status $?\n")
    shell.expect("\r\n")
    shell.expect("background work done\r\n")
    shell.expect("status 0\r\n")
    shell.expect(PROMPT)


def test_brought_to_the_foreground_it_reads(shell: Shell) -> None:
    shell.type("bpsh 0 sh -c 'echo up; cat; echo end of input' &\n")
    shell.expect("up\r\n")
    shell.type("fg\n")
    shell.expect("cat; echo end of input'\r\n")
    shell.type("typed\n")
    shell.expect("typed\r\ntyped\r\n")
    shell.type(END_OF_INPUT)
    shell.expect("end of input\r\n")
    shell.expect(PROMPT)


def test_a_closed_window_hangs_up(cluster: LocalCluster) -> None:
    with Shell(cluster.environment) as shell:
        shell.type("bpsh -a sh -c 'echo up; exec sleep 1000'\n")
        for _ in range(3):
            shell.expect("up\r\n")
    cluster.await_idle()


def test_a_remote_terminal_has_the_size_of_ours(shell: Shell) -> None:
    shell.resize(33, 111)
    shell.type("bpsh --pty 0 sh -c 'trap \"stty size; exit 5\" WINCH; stty size; while :; do sleep 0.02; done'\n")
    shell.expect("33 111\r\n")
    shell.resize(44, 122)
    shell.expect("44 122\r\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 5\r\n"


def test_keys_go_to_the_remote_terminal(shell: Shell) -> None:
    before = shell.flags()
    assert before & termios.ICANON
    shell.type("bpsh --pty 0 bash --norc --noprofile --noediting -i\n")
    shell.type("PS1='fa''r> '\n")
    shell.expect("far> ")
    assert not shell.flags() & termios.ICANON
    shell.type("cat\n")
    shell.type("echoed\n")
    shell.expect("echoed\r\nechoed\r\n")
    shell.type(INTERRUPT)
    shell.expect("far> ")
    shell.type("cat\n")
    shell.type("again\n")
    shell.expect("again\r\nagain\r\n")
    shell.type(STOP)
    shell.expect("Stopped")
    shell.expect("far> ")
    shell.type("fg\n" + END_OF_INPUT)
    shell.expect("far> ")
    shell.type("exit 6\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 6\r\n"
    assert shell.flags() == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_put_right_when_a_signal_ends_it(shell: Shell, number: signal.Signals) -> None:
    before = shell.flags()
    shell.type("bpsh --pty 0 sh -c 'echo up; exec sleep 1000'\n")
    shell.expect("up\r\n")
    (child,) = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
    os.kill(int(child), number)
    shell.expect(PROMPT)
    assert shell.flags() == before


def test_the_end_of_input_leaves_a_job_that_was_joined_running(
    cluster: LocalCluster, shell: Shell, tmp_path: Path
) -> None:
    go_on = tmp_path / "go_on"
    script = f"echo early; while [ ! -e {go_on} ]; do sleep 0.02; done; echo late; exit 3"
    job = cluster.bpsh("--detach", "0", "sh", "-c", script).stdout.decode().strip()
    shell.type(f"bpjob attach {job}\n")
    shell.expect_all(f"bpjob: Ctrl-D leaves job {job} running; ", "early\r\n")
    shell.type("typed in vain\n" + END_OF_INPUT)
    shell.expect(f"bpjob: job {job} runs on: 'bpjob attach {job}' joins it again\r\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 0\r\n"
    shell.type(f"bpjob attach {job}\n")
    shell.expect("Ctrl-D leaves")
    go_on.touch()
    # What was shown is not shown again.
    assert "early" not in shell.expect("late\r\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 3\r\n"


def leave_in_vain(shell: Shell, head: FakeHead, detach: Answer) -> None:
    """Join a job, and leave it by Ctrl-D under a head that answers so."""
    head.answers = {"attach": lambda message: ["spawned", message[1], "7.1", [3, 1], 65536], "detach": detach}
    shell.type(f"bpjob attach --dir {head.directory} 7.1\n")
    shell.expect("Ctrl-D leaves job 7.1 running; ")
    shell.type(END_OF_INPUT)


def test_that_a_job_runs_on_is_not_said_if_the_head_is_lost_before_it_has_heard_of_it(
    shell: Shell, tmp_path: Path
) -> None:
    name, away = tmp_path / "head.sock", tmp_path / "away"

    def die(message: list[Any]) -> bytes:
        name.rename(away)
        return b""

    with FakeHead(tmp_path, {}) as head:
        leave_in_vain(shell, head, die)
        shell.expect("bpjob: no head has answered; whether job 7.1 runs on is unknown: see 'bpjob show 7.1'\r\n")
        assert "joins it again" not in shell.expect(PROMPT)
        assert shell.run("echo status $?") == "status 255\r\n"
        away.rename(name)


def test_that_a_job_runs_on_is_not_said_if_the_head_refuses(shell: Shell, tmp_path: Path) -> None:
    with FakeHead(tmp_path, {}) as head:
        leave_in_vain(shell, head, lambda message: ["error", message[1], "no-such-job", "there is no job 7.1"])
        shell.expect("bpjob: there is no job 7.1; whether job 7.1 runs on is unknown: see 'bpjob show 7.1'\r\n")
        assert "joins it again" not in shell.expect(PROMPT)
        assert shell.run("echo status $?") == "status 255\r\n"


def test_a_head_that_does_not_say_whether_a_job_runs_on_is_not_waited_for_after_an_interrupt(
    shell: Shell, tmp_path: Path
) -> None:
    with FakeHead(tmp_path, {}) as head:
        leave_in_vain(shell, head, lambda message: None)
        eventually(lambda: any(request[0] == "detach" for request in head.requests), "the job to be left")
        shell.type(INTERRUPT)
        shell.expect("whether job 7.1 runs on is unknown")
        shell.expect(PROMPT)
        assert shell.run("echo status $?") == "status 130\r\n"


def test_a_job_that_was_joined_does_not_end_with_the_window(cluster: LocalCluster) -> None:
    job = cluster.bpsh("--detach", "0", "sh", "-c", "echo up; exec sleep 1000").stdout.decode().strip()
    with Shell(cluster.environment) as closed:
        closed.type(f"bpjob attach {job}\n")
        closed.expect("up\r\n")
    with Shell(cluster.environment) as shell:
        eventually(lambda: "no" in shell.run(f"bpjob list -H | grep '^{job} '").split(), "nobody attends the job")
        shell.type(f"bpjob attach {job}\n")
        shell.expect("Ctrl-D leaves")
        shell.type(INTERRUPT)
        shell.expect(PROMPT)
        assert shell.run("echo status $?") == "status 130\r\n"
    cluster.await_idle()


def test_keys_are_left_to_whoever_reads_the_output(cluster: LocalCluster, shell: Shell) -> None:
    job = cluster.bpsh("--detach", "0", "sh", "-c", "echo up; exec sleep 1000").stdout.decode().strip()
    shell.type(f"bpjob attach {job} | (read line; echo got $line; head -n 1 < /dev/tty; bpjob kill -9 {job})\n")
    shell.expect("got up\r\n")
    shell.type("a key\n")
    shell.expect("a key\r\na key\r\n")
    shell.expect(PROMPT)


def test_lines_about_ranks_start_at_the_left(shell: Shell) -> None:
    shell.type("bpsh --pty 0 sh -c 'kill -KILL $$'\n")
    shell.expect("bpsh: n0 (rank 0): killed by SIGKILL\r\n")
    shell.expect(PROMPT)
