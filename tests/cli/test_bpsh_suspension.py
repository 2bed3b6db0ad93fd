"""`bpsh --pty` at a real terminal, under a real shell: ranks that stop themselves, and escapes."""

from __future__ import annotations

import os
import pty
import select
import signal
import termios
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.local_cluster import DEADLINE_S, LocalCluster, eventually
from tests.support.terminal import PROMPT, Shell

SUSPEND = "~\x1a"
LOOP = "while :; do sleep 0.02; done"


@pytest.fixture
def shell(cluster: LocalCluster) -> Iterator[Shell]:
    """An interactive bash, whose children are jobs."""
    with Shell(cluster.environment) as shell:
        yield shell
    cluster.await_idle()


def stopped(cluster: LocalCluster) -> list[int]:
    """Return the PIDs of ranks that are stopped."""
    return [row["pid"] for row in cluster.processes() if row["state"] == "T"]


def expect_given_back(shell: Shell, before: int) -> None:
    """Wait until the shell has the terminal again, as it was."""
    shell.expect("Stopped")
    shell.expect(PROMPT)
    assert shell.flags() == before
    assert before & termios.ICANON


def until_size(rows: int, columns: int) -> str:
    """Return what waits until the terminal has this size, and says so."""
    return f'while [ "$(stty size)" != "{rows} {columns}" ]; do sleep 0.02; done; echo si""zed'


def test_a_rank_that_stops_itself_gives_the_terminal_back_and_fg_lets_it_go_on(shell: Shell) -> None:
    before = shell.flags()
    shell.resize(30, 100)
    shell.type(
        f"bpsh --pty 0 sh -c 'echo shown; kill -STOP $$; {until_size(44, 122)}; kill -STOP $$; read x; exit 5'\n"
    )
    shell.expect("shown\r\n")
    expect_given_back(shell, before)
    assert "bpsh --pty" in shell.run("jobs")
    shell.resize(44, 122)
    shell.type("fg\n")
    # The new size is told, although nobody was there when the window got it.
    shell.expect("sized\r\n")
    expect_given_back(shell, before)
    shell.type("fg\n")
    shell.expect("exit 5'\r\n")
    shell.type("a line\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 5\r\n"
    assert shell.flags() == before


def test_all_that_was_written_before_the_stop_is_shown_before_the_terminal_is_given_back(shell: Shell) -> None:
    shell.type("bpsh --pty 0 sh -c 'seq 20000; echo the la\"\"st; kill -STOP $$; exit 3'\n")
    assert "Stopped" not in shell.expect("the last\r\n")
    shell.expect("Stopped")
    shell.expect(PROMPT)
    shell.type("fg\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 3\r\n"


def test_a_rank_that_is_stopped_by_somebody_else_and_ended_while_bpsh_is_stopped(
    cluster: LocalCluster, shell: Shell
) -> None:
    before = shell.flags()
    shell.type("bpsh --pty 0 sh -c 'echo up; exec sleep 1000'\n")
    shell.expect("up\r\n")
    (pid,) = [row["pid"] for row in cluster.processes()]
    cluster.run("bpkill", "-STOP", str(pid))
    expect_given_back(shell, before)
    cluster.run("bpkill", "-KILL", str(pid))
    shell.type("fg\n")
    shell.expect("killed by SIGKILL")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 137\r\n"


def test_the_terminal_is_kept_as_long_as_one_rank_runs(cluster: LocalCluster, shell: Shell, tmp_path: Path) -> None:
    before = shell.flags()
    go = tmp_path / "go"
    script = f"[ $BPROC_RANK = 0000001 ] && until [ -e {go} ]; do sleep 0.02; done; kill -STOP $$; echo on; exit 4"
    shell.type(f"bpsh --pty 0-1 sh -c 'echo up; {script}'\n")
    shell.expect("up\r\n")
    shell.expect("up\r\n")
    eventually(lambda: len(stopped(cluster)) == 1, "one rank to stop")
    assert not shell.flags() & termios.ICANON
    go.touch()
    expect_given_back(shell, before)
    shell.type("fg\n")
    shell.expect("on\r\n")
    shell.expect("on\r\n")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 4\r\n"


def test_bpsh_that_is_told_to_stop_takes_its_ranks_along_and_does_not_stop_again_for_them(
    cluster: LocalCluster, shell: Shell
) -> None:
    before = shell.flags()
    shell.type(f'bpsh --pty 0 sh -c \'echo up; trap "echo en""ded; exit 6" TERM; {LOOP}\'\n')
    shell.expect("up\r\n")
    (child,) = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()
    for _ in range(3):
        os.kill(int(child), signal.SIGTSTP)
        expect_given_back(shell, before)
        assert stopped(cluster)
        shell.type("fg\n")
        shell.expect(f"{LOOP}'\r\n")
        eventually(lambda: not stopped(cluster), "the ranks to go on")
    os.kill(int(child), signal.SIGTERM)
    shell.expect("ended\r\n")
    shell.expect(PROMPT)


def test_in_the_shell_of_a_shell_the_whole_job_stops(shell: Shell) -> None:
    before = shell.flags()
    shell.type('sh -c \'bpsh --pty 0 sh -c "kill -STOP \\$\\$; exit 7"; echo in""ner $?\'\n')
    expect_given_back(shell, before)
    shell.type("fg\n")
    shell.expect("inner 7\r\n")
    shell.expect(PROMPT)


def test_where_nobody_could_let_it_go_on_the_rank_goes_on_at_once(cluster: LocalCluster) -> None:
    # The leader of a session, whose process group has no parent in it.
    pid, screen = pty.fork()
    if pid == 0:
        try:
            words = ["bpsh", "--pty", "0", "sh", "-c", "kill -STOP $$; echo went on; exit 8"]
            os.execvpe("bpsh", words, cluster.environment)
        finally:
            os._exit(127)
    shown = b""
    with suppress(OSError):
        while select.select([screen], [], [], DEADLINE_S)[0]:
            shown += os.read(screen, 4096)
    os.close(screen)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 8
    assert shown == b"went on\r\n"
    cluster.await_idle()


def test_an_escape_leaves_the_job_which_ends_as_by_a_hang_up(cluster: LocalCluster, shell: Shell) -> None:
    before = shell.flags()
    shell.type(f"bpsh --pty 0 sh -c 'trap : INT QUIT; echo up; {LOOP}'\n")
    shell.expect("up\r\n")
    shell.type("\x03\x1c\r~.")
    shell.expect("which ends as by a hang-up\r\n")
    shell.expect(PROMPT)
    assert shell.flags() == before
    assert shell.run("echo status $?") == "status 129\r\n"
    cluster.await_idle()


def test_an_escape_suspends_bpsh_alone_and_another_lists_them(
    cluster: LocalCluster, shell: Shell, tmp_path: Path
) -> None:
    before = shell.flags()
    mark = tmp_path / "mark"
    shell.type(f"bpsh --pty 0 sh -c 'echo up; while [ ! -e {mark} ]; do sleep 0.02; done; touch {mark}.seen; cat'\n")
    shell.expect("up\r\n")
    shell.type("~?")
    shell.expect("~^Z  suspend bpsh")
    shell.expect("start of a line only)\r\n")
    shell.type(SUSPEND)
    expect_given_back(shell, before)
    mark.touch()
    eventually(lambda: mark.with_name("mark.seen").exists(), "the rank to run on")
    assert not stopped(cluster)
    shell.type("fg\n")
    shell.expect("cat'\r\n")
    shell.type("~~tilde\n")
    shell.expect("~tilde\r\n~tilde\r\n")
    shell.type("no ~. escape\n")
    shell.expect("no ~. escape\r\nno ~. escape\r\n")
    shell.type("\x04")
    shell.expect(PROMPT)
    assert shell.run("echo status $?") == "status 0\r\n"


def test_with_another_escape_or_none_the_usual_one_goes_through(shell: Shell) -> None:
    shell.type("bpsh --pty -e none 0 cat\n")
    shell.expect("cat\r\n")
    shell.type("~.\n")
    shell.expect("~.\r\n~.\r\n")
    shell.type("\x04")
    shell.expect(PROMPT)
    shell.type("bpsh --pty --escape ^] 0 cat\n")
    shell.expect("cat\r\n")
    shell.type("~.\n")
    shell.expect("~.\r\n~.\r\n")
    shell.type("\x1d.")
    shell.expect("as by a hang-up\r\n")
    shell.expect(PROMPT)
    assert shell.run("bpsh -e xy 0 true").startswith("bpsh: --escape is one character, ^ and a letter, or none")
