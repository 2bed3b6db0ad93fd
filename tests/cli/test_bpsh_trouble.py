"""`bpsh` when the head is silent, says nonsense, goes away, or its own output is stuck."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import pytest

from heorot.core.client import messages
from heorot.core.client.messages import SPAWN_AGAIN
from tests.support.fake_head import Answer, FakeHead, Staying
from tests.support.local_cluster import LocalCluster, eventually


def frames(*messages: list[Any]) -> bytes:
    """Return messages as they travel."""
    payloads = [msgpack.packb(message) for message in messages]
    return b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads)


def spawned(*more: list[Any]) -> Callable[[list[Any]], bytes]:
    """Acknowledge a job of one rank, say more about it, and die, unless it is done."""
    kind = Staying if more and more[-1][0] == "done" else bytes
    return lambda message: kind(
        frames(["spawned", message[1], "7.1", [3, 1], 65536], ["started", "7.1", [0, 99]], *more)
    )


def bpsh(cluster: LocalCluster, head: FakeHead, *words: str) -> subprocess.CompletedProcess[bytes]:
    return cluster.bpsh("--dir", str(head.directory), *words)


def refused(code: str, text: str) -> Callable[[list[Any]], list[Any]]:
    """Refuse a request."""
    return lambda message: ["error", message[1], code, text]


def test_a_job_goes_on_under_the_next_head(cluster: LocalCluster, tmp_path: Path) -> None:
    """The first head dies after half a line, the next one repeats it and says the rest."""
    second = spawned(
        ["exited", "7.1", [0, 3 << 8, 12, 0]], ["output", "7.1", 0, 1, 0, b"half a line\n"], ["done", "7.1"]
    )
    answers: dict[str, Answer] = {"spawn": spawned(["output", "7.1", 0, 1, 0, b"half "]), "attach": second}
    with FakeHead(tmp_path, answers) as head:
        result = bpsh(cluster, head, "3", "true")
        eventually(lambda: any(request[0] == "attach" for request in head.requests), "the job to be resumed")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"half a line\n", b"")
    (resume,) = [request for request in head.requests if request[0] == "attach"]
    assert resume[2:] == ["7.1", False, True, [], False]


def test_a_job_that_the_next_head_does_not_know_is_said(cluster: LocalCluster, tmp_path: Path) -> None:
    answers: dict[str, Answer] = {
        "spawn": spawned(["output", "7.1", 0, 1, 0, b"half a line"]),
        "attach": refused("no-such-job", "there is no job 7.1"),
    }
    with FakeHead(tmp_path, answers) as head:
        result = bpsh(cluster, head, "-L", "3", "true")
    assert (result.returncode, result.stdout) == (255, b"half a line")
    assert result.stderr == b"bpsh: job 7.1: there is no job 7.1\n"


def test_a_launch_that_was_not_acknowledged_is_asked_for_again(cluster: LocalCluster, tmp_path: Path) -> None:
    def answer(message: list[Any]) -> Any:
        if not message[SPAWN_AGAIN]:
            return b""
        return spawned(["exited", "7.1", [0, 0, 0, 0]], ["done", "7.1"])(message)

    with FakeHead(tmp_path, {"spawn": answer}) as head:
        result = bpsh(cluster, head, "3", "true")
    assert (result.returncode, result.stderr) == (0, b"")
    first, again = [request for request in head.requests if request[0] == "spawn"]
    # The same launch, and since when it has been asked for, on the head's clock.
    assert again[: messages.SPAWN_ASKED_AT] == [*first[: messages.SPAWN_AGAIN], True]
    assert again[messages.SPAWN_ASKED_AT] <= 0
    assert len(first[messages.SPAWN_KEY]) == 16


def test_a_program_that_a_lost_head_was_to_keep_goes_to_the_next(cluster: LocalCluster, tmp_path: Path) -> None:
    """Nothing was started, so the next head is asked as if it were the first."""
    heads = 0

    def stage(message: list[Any]) -> Any:
        nonlocal heads
        heads += 1
        return b"" if heads < 3 else ["result", message[1], None]

    with FakeHead(tmp_path, {"stage": stage, "spawn": spawned()}) as head:
        result = bpsh(cluster, head, "--detach", "--image", "send", "3", "/bin/true")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"7.1\n", b"")
    assert [request[0] for request in head.requests] == [*["hello", "stage"] * 3, "spawn"]
    (launch,) = [request for request in head.requests if request[0] == "spawn"]
    assert launch[messages.SPAWN_AGAIN] is False


def test_a_program_that_was_lost_before_the_launch_was_acknowledged_goes_to_the_next(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    answers: dict[str, Answer] = {
        "stage": lambda message: ["result", message[1], None],
        "spawn": lambda message: ["spawned", message[1], "7.1", [3, 1], 65536] if message[SPAWN_AGAIN] else b"",
    }
    with FakeHead(tmp_path, answers) as head:
        result = bpsh(cluster, head, "--detach", "--image", "send", "3", "/bin/true")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"7.1\n", b"")
    assert [request[0] for request in head.requests] == ["hello", "stage", "spawn"] * 2


def test_a_program_is_not_kept_for_a_cluster_that_was_taken_down(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text("")

    def die_with_the_cluster(message: list[Any]) -> bytes:
        (tmp_path / "cluster.toml").unlink()
        return b""

    with FakeHead(tmp_path, {"stage": die_with_the_cluster}) as head:
        result = bpsh(cluster, head, "--detach", "--image", "send", "3", "/bin/true")
    assert result.returncode == 125
    assert result.stderr == f"bpsh: the cluster at {tmp_path} was taken down\n".encode()


def test_a_head_that_does_not_take_a_program_is_said(cluster: LocalCluster, tmp_path: Path) -> None:
    with FakeHead(tmp_path, {"stage": refused("image", "the cache is full")}) as head:
        result = bpsh(cluster, head, "--detach", "--image", "send", "3", "/bin/true")
    assert (result.returncode, result.stderr) == (125, b"bpsh: the cache is full\n")


def test_a_head_that_stays_away_while_a_program_is_handed_over_is_said(cluster: LocalCluster, tmp_path: Path) -> None:
    def go_away(message: list[Any]) -> bytes:
        # From now on it takes connections and is silent.
        answers["hello"] = answers["stage"] = lambda message: None
        return b""

    answers: dict[str, Answer] = {"stage": go_away}
    with FakeHead(tmp_path, answers) as head:
        words = ("--dir", str(tmp_path), "--detach", "--image", "send", "3", "/bin/true")
        process = cluster.start("bpsh", *words, stderr=subprocess.PIPE)
        assert process.stderr is not None
        with process:
            try:
                eventually(lambda: any(request[0] == "stage" for request in head.requests), "the program to be offered")
                said = process.stderr.readline()
                assert said == b"bpsh: the head is gone; waiting for the next one (nothing was started yet)\n"
            finally:
                process.kill()


def test_a_launch_that_cannot_be_known_is_said(cluster: LocalCluster, tmp_path: Path) -> None:
    unknown = refused("launch-unknown", "see 'bpjob list'")
    with FakeHead(tmp_path, {"spawn": lambda message: unknown(message) if message[SPAWN_AGAIN] else b""}) as head:
        result = bpsh(cluster, head, "3", "true")
    assert (result.returncode, result.stderr) == (255, b"bpsh: see 'bpjob list'\n")


def test_a_cluster_that_was_taken_down_is_not_waited_for(cluster: LocalCluster, tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text("")

    def die_with_the_cluster(message: list[Any]) -> bytes:
        (tmp_path / "cluster.toml").unlink()
        return b""

    with FakeHead(tmp_path, {"spawn": lambda message: spawned()(message), "attach": die_with_the_cluster}) as head:
        result = bpsh(cluster, head, "3", "true")
    assert result.returncode == 255
    assert result.stderr == f"bpsh: the cluster at {tmp_path} was taken down\n".encode()


def test_two_interrupts_leave_a_job_without_a_head(cluster: LocalCluster, tmp_path: Path) -> None:
    with FakeHead(tmp_path, {"spawn": spawned()}):
        process = cluster.start("bpsh", "--dir", str(tmp_path), "3", "true", stderr=subprocess.PIPE)
        assert process.stderr is not None
        with process:
            try:
                # The next head is there, but does not answer: until it does there is none.
                assert b"the head is gone; waiting for the next one (job 7.1 runs on)" in process.stderr.readline()
                process.send_signal(signal.SIGINT)
                assert b"SIGINT goes to the job when the next one is there" in process.stderr.readline()
                process.send_signal(signal.SIGINT)
                assert b"bpjob attach 7.1" in process.stderr.readline()
                assert process.wait(150) == -signal.SIGINT
            finally:
                process.kill()


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", frames(["output"]), frames([7]), b"\0\0\0\1\xc1"])
def test_a_head_that_talks_nonsense_is_said(cluster: LocalCluster, tmp_path: Path, garbage: bytes) -> None:
    with FakeHead(tmp_path, {"spawn": lambda message: garbage}) as head:
        result = bpsh(cluster, head, "3", "true")
    assert result.returncode == 125
    assert result.stderr.startswith(b"bpsh: the head ")


def test_a_head_that_refuses_this_release_is_said(cluster: LocalCluster, tmp_path: Path) -> None:
    with FakeHead(tmp_path, {"hello": lambda message: frames(["error", 0, "version", "too new"])}) as head:
        result = bpsh(cluster, head, "3", "true")
    assert (result.returncode, result.stderr) == (125, b"bpsh: too new\n")


def test_a_rank_that_was_lost_with_its_node(cluster: LocalCluster, tmp_path: Path) -> None:
    lost = spawned(["lost", "7.1", [[0, 3, "n3 does not answer"]]], ["done", "7.1", ""])
    with FakeHead(tmp_path, {"spawn": lost}) as head:
        result = bpsh(cluster, head, "3", "true")
    assert result.returncode == 255
    assert result.stderr == b"bpsh: n3 (rank 0): the node was lost (n3 does not answer); rank 0 has no exit status\n"


def test_why_a_job_was_ended_is_said(cluster: LocalCluster, tmp_path: Path) -> None:
    ended = spawned(["exited", "7.1", [0, 9, 0, 0]], ["done", "7.1", "more than 100 processes on n3"])
    with FakeHead(tmp_path, {"spawn": ended}) as head:
        result = bpsh(cluster, head, "3", "true")
    assert result.returncode == 137
    assert result.stderr == b"bpsh: n3 (rank 0): killed by SIGKILL\nbpsh: job 7.1: more than 100 processes on n3\n"


def test_two_interrupts_leave_a_silent_head(cluster: LocalCluster, tmp_path: Path) -> None:
    with FakeHead(tmp_path, {"spawn": lambda message: None}) as head:
        words = ("bpsh", "--dir", str(tmp_path), "3", "true")
        with cluster.running(*words, stdin=subprocess.DEVNULL) as process:
            eventually(lambda: any(request[0] == "spawn" for request in head.requests), "the request")
            eventually(lambda: b"poll" in wait_channel(process.pid), "bpsh to wait")

            def interrupted() -> bool:
                # Two that come at the same moment are one.
                process.send_signal(signal.SIGINT)
                return process.poll() is not None

            eventually(interrupted, "bpsh to leave")
            assert process.wait() == 130


def wait_channel(pid: int) -> bytes:
    """Return where in the kernel a process waits."""
    return Path(f"/proc/{pid}/wchan").read_bytes()


@pytest.mark.parametrize("options", [[], ["-p"], ["-s"]])
def test_a_stuck_reader_does_not_keep_a_job_from_ending(cluster: LocalCluster, options: list[str]) -> None:
    reader, writer = os.pipe()
    process = cluster.start("bpsh", *options, "-a", "yes", stdin=subprocess.DEVNULL, stdout=writer)
    try:
        assert os.read(reader, 1)
        process.terminate()
        # Nobody reads, and it ends all the same.
        assert process.wait(150) == 143
    finally:
        os.close(reader)
        os.close(writer)
        process.kill()
        process.wait()
    cluster.await_idle()


@pytest.mark.parametrize("acknowledged", [True, False])
def test_one_sigterm_ends_bpsh_when_no_head_comes(cluster: LocalCluster, tmp_path: Path, acknowledged: bool) -> None:
    (tmp_path / "cluster.toml").write_text("")
    answers: dict[str, Answer] = {"spawn": spawned() if acknowledged else lambda message: b""}
    with FakeHead(tmp_path, answers) as head:
        process = cluster.start("bpsh", "--dir", str(tmp_path), "3", "true", stderr=subprocess.PIPE)
        eventually(lambda: any(request[0] == "spawn" for request in head.requests), "the launch")
    with process:
        assert process.stderr is not None
        assert b"the head is gone" in process.stderr.readline()
        process.terminate()
        assert b"there is no head now" in process.stderr.readline()
        assert (b"job 7.1 runs on" if acknowledged else b"is unknown") in process.stderr.read()
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("files", range(4, 9))
def test_too_few_open_files_are_said_and_nothing_is_started(cluster: LocalCluster, tmp_path: Path, files: int) -> None:
    ran = tmp_path / "ran"
    result = cluster.run("sh", "-c", f"ulimit -n {files}; exec bpsh -n 0 touch {ran}")
    if result.returncode == 0:
        assert (result.stderr, ran.exists()) == (b"", True)
        return
    assert result.returncode == 125
    assert b"Too many open files" in result.stderr
    assert b"ulimit -n" in result.stderr
    assert result.stderr.count(b"\n") == 1
    assert not ran.exists()
