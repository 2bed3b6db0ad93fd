"""What both forms of the library do, on a cluster of real daemons: one list of behaviour, held by each."""

from __future__ import annotations

import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import heorot
from heorot.client import job as client_job
from heorot.core.client import messages
from heorot.core.client.job import JobState
from tests.client.conftest import Connect
from tests.support.fake_head import FakeHead, Staying, result
from tests.support.local_cluster import LocalCluster, eventually


@pytest.fixture
def library(connect: Connect, cluster: LocalCluster) -> Iterator[heorot.Cluster]:
    with connect(cluster.directory) as library:
        yield library
    cluster.await_idle()


def test_spawn_and_wait(library: heorot.Cluster) -> None:
    with library.spawn(["sh", "-c", "exit $((0$BPROC_RANK + 3))"], "n[0-2]") as job:
        assert [status.code for status in job.wait()] == [3, 4, 5]
        assert job.nodes == [0, 1, 2]
        assert job.statuses[1] == heorot.Status(4)


def test_a_connection_runs_many_jobs(library: heorot.Cluster) -> None:
    for number in range(20):
        assert library.run(["sh", "-c", f"exit {number}"], number % 3).exit_status == number


def test_run_gives_everything_by_rank(library: heorot.Cluster) -> None:
    data = os.urandom(2_500_000)
    completed = library.run(["sh", "-c", "cat; echo $BPROC_RANK >&2"], [2, 0, 2], input=data)
    assert completed.stdout == [data] * 3
    assert completed.stderr == [b"0000000\n", b"0000001\n", b"0000002\n"]
    assert completed.check() is completed


def test_a_failed_rank_can_be_an_exception(library: heorot.Cluster) -> None:
    with pytest.raises(heorot.JobFailed, match=r"1 of 2 ranks failed; rank 1: exit status 7") as caught:
        library.run(["sh", "-c", "exit $((0$BPROC_RANK * 7))"], "0-1").check()
    assert caught.value.completed.statuses[0].success


def test_output_comes_as_it_is_written(library: heorot.Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = library.spawn(["sh", "-c", f"echo one; while [ ! -e {gate} ]; do sleep 0.01; done; echo two >&2"], 1)
    assert job.read() == heorot.Chunk(0, 1, b"one\n")
    assert job.poll() is None
    gate.touch()
    assert list(job.output) == [heorot.Chunk(0, 2, b"two\n")]
    assert job.wait() == [heorot.Status(0)]


def test_lines_are_put_together(library: heorot.Cluster) -> None:
    job = library.spawn(["sh", "-c", "printf 'a\\nb'; sleep 0.1; printf 'c\\n\\nend'"], "0")
    assert [line.data for line in job.lines] == [b"a", b"bc", b"", b"end"]


def test_input_in_pieces(library: heorot.Cluster) -> None:
    with library.spawn(["wc", "-c"], "up", stdin=heorot.PIPE) as job:
        for _ in range(40):
            job.write(bytes(100_000))
        job.close_stdin()
        job.close_stdin()
        assert [chunk.data for chunk in job.output] == [b"4000000\n"] * 3
        with pytest.raises(ValueError, match="closed already"):
            job.write(b"more")


def test_input_for_one_rank(library: heorot.Cluster) -> None:
    with library.spawn(["cat"], "n[0-1]", stdin=heorot.PIPE) as job:
        job.write(b"zero", rank=0)
        job.write(b"one", rank=1)
        job.close_stdin(0)
        job.close_stdin(1)
        output: dict[int, bytes] = {}
        for chunk in job.output:
            output[chunk.rank] = output.get(chunk.rank, b"") + chunk.data
        assert output == {0: b"zero", 1: b"one"}


def test_nobody_takes_input_any_more(library: heorot.Cluster) -> None:
    with library.spawn(["true"], 0, stdin=heorot.PIPE) as job:
        job.wait()
        with pytest.raises(BrokenPipeError):
            job.write(b"x")


def test_signals(library: heorot.Cluster) -> None:
    with library.spawn(["sleep", "1000"], [0, 1, 2]) as job:
        assert set(job.wait_started()) == {0, 1, 2}
        assert job.signal(signal.SIGUSR1, ranks=[1]) == 1
        eventually(lambda: job.poll() or job.statuses, "rank 1 to end")
        assert job.statuses == {1: heorot.Status(signal=signal.SIGUSR1)}
        assert job.kill() == 2
        assert [status.exit_status for status in job.wait()] == [137, 138, 137]
        assert job.kill() == 0


def test_waiting_has_a_limit(library: heorot.Cluster) -> None:
    with library.spawn(["sleep", "1000"], 0) as job:
        with pytest.raises(TimeoutError, match=r"not over after 0\.05 s"):
            job.wait(0.05)
        with pytest.raises(TimeoutError):
            job.read(0.01)
        with pytest.raises(TimeoutError, match="is not over"):
            job.communicate(timeout_s=0.01)
        with pytest.raises(TimeoutError):
            library.wait(job.id, 0.01)
        assert job.poll() is None


def test_leaving_a_job_ends_it(library: heorot.Cluster) -> None:
    with library.spawn(["sleep", "1000"], "up") as job:
        job.wait_started()
        assert len(job.processes()) == 3
    assert job.processes() == []


def test_output_that_nobody_reads_does_not_hold_up_others(library: heorot.Cluster) -> None:
    with library.spawn(["yes"], "up") as stalled:
        stalled.wait_started()
        assert library.run(["echo", "on"], "up").stdout == [b"on\n"] * 3
        assert stalled.poll() is None


def test_closing_the_connection_ends_its_jobs(connect: Connect, cluster: LocalCluster) -> None:
    with connect(cluster.directory) as library:
        job = library.spawn(["sleep", "1000"], "up")
        job.wait_started()
    cluster.await_idle()
    with pytest.raises(heorot.ConnectionLost):
        job.wait()


def test_a_detached_job_outlives_its_connection(connect: Connect, cluster: LocalCluster) -> None:
    with connect(cluster.directory) as library:
        started = library.spawn(["sh", "-c", "sleep 0.2; echo result; exit 3"], 2, detached=True)
        with pytest.raises(heorot.RequestError, match="attach to it"):
            started.read()
    with connect(cluster.directory) as library:
        assert library.wait(started.id)["statuses"] == {"0": {"code": 3}}
        job = library.attach(started.id)
        assert list(job.output) == [heorot.Chunk(0, 1, b"result\n")]
        assert job.wait() == [heorot.Status(3)]


def test_waiting_for_a_detached_job(library: heorot.Cluster) -> None:
    job = library.spawn(["sh", "-c", "sleep 0.1; exit 4"], "0-1", detached=True)
    with pytest.raises(TimeoutError):
        job.wait(0.01)
    assert job.wait() == [heorot.Status(4)] * 2


def test_a_job_can_be_left_and_taken_up_again(library: heorot.Cluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = library.spawn(["sh", "-c", f"echo one; while [ ! -e {gate} ]; do sleep 0.01; done; echo two"], 0)
    assert job.read() == heorot.Chunk(0, 1, b"one\n")
    job.detach()
    assert job.detached
    gate.touch()
    again = library.attach(job.id, from_start=False)
    assert b"".join(chunk.data for chunk in again.output) == b"two\n"


def test_questions(library: heorot.Cluster) -> None:
    assert [row["name"] for row in library.nodes()] == ["n0", "n1", "n2"]
    assert [row["id"] for row in library.nodes("n[1-2]")] == [1, 2]
    assert library.nodes("down") == []
    assert library.resolve("2,0-1,2") == [2, 0, 1, 2]
    assert library.status()["heads"][0]["role"] == "active"
    with library.spawn(["sleep", "1000"], 1) as job:
        job.wait_started()
        assert [row["pid"] for row in library.processes(1)] == list(job.pids.values())
        assert [row["state"] for row in library.jobs() if row["job"] == job.id] == ["running"]
        assert library.signal(list(job.pids.values()), signal.SIGTERM) == 1
        assert job.wait() == [heorot.Status(signal=signal.SIGTERM)]
    assert library.job(job.id)["statuses"] == {"0": {"signal": 15}}


def test_watching(library: heorot.Cluster) -> None:
    with library.spawn(["sleep", "1000"], [0, 2]) as job:
        job.wait_started()
        rounds = library.watch(["nodes", "jobs", "processes"], 0.1, nodes=[0, 1, 2])
        first = next(rounds)
        assert [(node, row.name, row.state) for node, row in first.nodes.items()] == [
            (0, "n0", "up"), (1, "n1", "up"), (2, "n2", "up")
        ]  # fmt: skip
        assert sorted(first.changed) == ["jobs", "nodes", "processes"]
        assert first.jobs[job.id].running == 2
        mine = {key for key, row in first.processes.items() if row.job == job.id}
        assert mine == {(0, job.pids[0]), (2, job.pids[1])}
        assert first.processes[0, job.pids[0]].argv == [b"sleep", b"1000"]
        job.signal(signal.SIGKILL, [0])
        gone: set[Any] = set()
        for now in rounds:
            gone.update(now.gone.get("processes", []))
            if mine & gone:
                break
        assert mine & gone == {(0, job.pids[0])}
        assert now.missing == []


def test_a_watch_that_cannot_be_is_refused_and_the_connection_goes_on(library: heorot.Cluster) -> None:
    for rounds, code in (
        (library.watch("weather"), "bad-request"),
        (library.watch("nodes", nodes="n9"), "bad-nodes"),
        (library.watch(["processes"], job="9.9"), "no-such-job"),
    ):
        with pytest.raises(heorot.RequestError) as caught:
            next(rounds)
        assert caught.value.code == code
    assert len(library.nodes()) == 3


def test_a_watch_of_who_looks_seldom_is_told_the_newest(connect: Connect, tmp_path: Path) -> None:
    sent: list[list[Any]] = []

    def changed(message: list[Any]) -> list[Any]:
        sent.append(message)
        rows = [{"id": len(sent), **dict.fromkeys(NODE_FIELDS, ""), **dict.fromkeys(NODE_NUMBERS, 0), **NODE_FLAGS}]
        return ["changed", message[1], "nodes", True, rows, [], False, [], []]

    with FakeHead(tmp_path, {"watch": changed, "seen": changed, "unwatch": result(None)}) as head:
        with connect(tmp_path) as library:
            rounds = library.watch("nodes")
            assert list(next(rounds).nodes) == [1]
            assert [message[0] for message in head.requests] == ["hello", "watch"], "nobody has asked for more"
            assert list(next(rounds).nodes) == [2]
        assert [message[0] for message in sent] == ["watch", "seen"]


NODE_FIELDS = ("name", "state", "address", "user", "group", "release")
NODE_NUMBERS = ("mode", "uid", "gid", "ranks")
NODE_FLAGS = {"parent": None, "agent_pid": None, "init_pid": None, "silent": False, "seen": True}


def test_surroundings_can_be_chosen(library: heorot.Cluster, tmp_path: Path) -> None:
    completed = library.run(
        ["/bin/sh", "-c", "pwd; umask; ulimit -Sn; echo $WHAT"],
        0, environment={"WHAT": "this"}, directory=tmp_path, umask=0o27, limits={7: (50, 60)},
    )  # fmt: skip
    assert completed.stdout[0].decode() == f"{tmp_path}\n0027\n50\nthis\n"


def test_streams_may_be_files_on_the_node(library: heorot.Cluster, tmp_path: Path) -> None:
    with library.spawn(["cat", "/etc/hostname"], 0, stdout=tmp_path / "out", stderr=heorot.DEVNULL) as job:
        assert job.wait() == [heorot.Status(0)]
    assert (tmp_path / "out").read_bytes() == Path("/etc/hostname").read_bytes()


def test_a_terminal_for_the_rank(library: heorot.Cluster) -> None:
    with library.spawn(["sh", "-c", "stty size; tty -s"], 0, stdin=heorot.PIPE, terminal=(12, 34)) as job:
        assert b"".join(chunk.data for chunk in job.output) == b"12 34\r\n"
        assert job.wait() == [heorot.Status(0)]


def test_a_command_that_does_not_exist(library: heorot.Cluster) -> None:
    (status,) = library.run(["/no/such"], 0).statuses
    assert (status.code, status.success) == (127, False)
    assert "/no/such" in status.text


def test_refusals_are_typed(library: heorot.Cluster) -> None:
    with pytest.raises(heorot.RequestError, match="no node n99"):
        library.spawn(["true"], "n99")
    with pytest.raises(heorot.RequestError) as caught:
        library.attach("1.999999")
    assert caught.value.code == "no-such-job"
    with pytest.raises(ValueError, match="argv"):
        library.spawn("true", 0)
    with pytest.raises(ValueError, match="stdout"):
        library.spawn(["true"], 0, stdout=7)
    assert library.run(["true"], 0).exit_status == 0


def test_no_cluster_is_said(connect: Connect, tmp_path: Path) -> None:
    with pytest.raises(heorot.RequestError, match="start one with 'heorot up") as caught:
        connect(tmp_path)
    assert caught.value.code == "no-cluster"


def test_a_long_path_to_the_cluster(connect: Connect, cluster: LocalCluster, tmp_path: Path) -> None:
    directory = tmp_path / ("d" * 120)
    directory.symlink_to(cluster.directory)
    with connect(directory) as library:
        assert len(library.nodes()) == 3


def test_a_copy_says_how_far_it_is(library: heorot.Cluster, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(100_000))
    there: list[tuple[int, ...]] = []
    library.copy_to(tmp_path / "data", "n[0-2]", tmp_path / "there", progress=lambda *far: there.append(far)).check()
    back: list[tuple[int, ...]] = []
    library.copy_from(1, tmp_path / "there", tmp_path / "back", progress=lambda *far: back.append(far)).check()
    assert there[-1][1:] == (3, 3)
    assert back[-1][0] >= 100_000  # with the words around the files
    assert back[-1][1:] == (1, 1)


def test_breaking_the_protocol_is_one_error_for_everybody(connect: Connect, tmp_path: Path) -> None:
    with FakeHead(tmp_path, {"status": lambda message: b"\0\0\0\1\xc1"}), connect(tmp_path) as library:
        for _ in range(2):
            with pytest.raises(heorot.ProtocolError) as caught:
                library.status()
            assert isinstance(caught.value, heorot.RequestError)
            assert caught.value.code == "protocol"


def launched(message: list[Any]) -> list[Any]:
    return ["spawned", message[1], "7.1", [0, 1], 65536]


def test_closing_a_job_of_which_nothing_more_is_heard_is_no_error(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_job, "CLOSE_TIMEOUT_S", 0.05)
    with FakeHead(tmp_path, {"spawn": launched, "signal": lambda message: None}) as head:
        with connect(tmp_path) as library:
            library.spawn(["true"], 0, image="path").close()
        eventually(lambda: head.requests[-1][0] == "release", "the job to be released")


def test_closing_a_job_whose_cluster_goes_is_no_error(connect: Connect, tmp_path: Path) -> None:
    def gone(message: list[Any]) -> bytes:
        (tmp_path / "cluster.toml").unlink()
        return b""

    (tmp_path / "cluster.toml").touch()
    with FakeHead(tmp_path, {"spawn": launched, "signal": gone}), connect(tmp_path) as library:
        library.spawn(["true"], 0, image="path").close()
        with pytest.raises(heorot.ConnectionLost, match="was taken down"):
            library.status()


def test_a_launch_that_was_interrupted_is_ended_as_soon_as_it_is_known(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the user interrupts while the head has not answered yet is not forgotten by who hears the answer."""
    launches: list[list[Any]] = []
    first = iter([True])

    def interrupted(state: JobState) -> bool:
        if next(first, False):
            raise KeyboardInterrupt
        return bool(state.id)

    monkeypatch.setattr(JobState, "launched", property(interrupted))

    def late(message: list[Any]) -> Staying:
        answers = (launched(launches[0]), ["result", message[1], {}])
        return Staying(b"".join(messages.encode(answer) for answer in answers))

    with FakeHead(tmp_path, {"spawn": launches.append, "status": late, "signal": lambda message: None}) as head:
        with connect(tmp_path) as library:
            with pytest.raises(KeyboardInterrupt):
                library.spawn(["true"], 0, image="path")
            library.status()
            eventually(lambda: head.requests[-1][0] == "signal", "the job to be killed")
        assert head.requests[-1][2] == "7.1"


def test_nodes_are_set_and_given_back(library: heorot.Cluster) -> None:
    assert library.set_node_state([2, 0], "drain", "fan") == {"nodes": [2, 0], "late": []}
    with pytest.raises(heorot.RequestError, match=r"n0 is set to drain \(by .*: fan\)") as caught:
        library.run(["true"], [0, 1], image="path")
    assert caught.value.code == "node-closed"
    library.set_node_mode("n1", 0o110)
    library.set_node_owner(1, 0)
    library.set_node_group(1, "0")
    assert [row["mode"] for row in library.nodes(1)] == [0o110]
    library.set_node_mode("n1", 0o111)
    library.set_node_state("n[0-2]", "up")
    with pytest.raises(heorot.RequestError, match="there is no user"):
        library.set_node_owner(1, "nobody-of-this-name")


@pytest.mark.parametrize("kind", ["Cluster", "Job"])
def test_both_forms_have_the_same_methods_with_the_same_parameters(kind: str) -> None:
    def methods(of: type) -> dict[str, object]:
        names = [name for name in dir(of) if not name.startswith("_")]
        values = [getattr(of, name) for name in names]
        return {
            name: list(inspect.signature(value).parameters.values()) if callable(value) else "property"
            for name, value in zip(names, values, strict=True)
        }

    assert methods(getattr(heorot.aio, kind)) == methods(getattr(heorot, kind))
