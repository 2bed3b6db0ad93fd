"""`bpjob attach --watch` on a real cluster: it sees what the reader sees, and nothing of it reaches the job."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.cluster.harness import DEADLINE_S, Cluster, await_that, stopped


def job_of(cluster: Cluster, marker: Path) -> str:
    """Return the id of the job with this file among its arguments, as soon as it runs."""

    def found() -> str:
        rows = [row for row in cluster.processes() if str(marker) in row["argv"] and row["leader"]]
        return str(rows[0]["job"]) if rows else ""

    return str(await_that(found, "the job runs"))


TICKS = 'while [ ! -e "$0" ]; do echo tick; sleep 0.05; done; '


def test_it_sees_the_rest_and_ends_with_the_job_and_its_status(shared: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = ("/bin/sh", "-c", TICKS + "echo last; exit 3", str(go))
    with shared.start("bpsh", "n1", *command) as reader:
        job = job_of(shared, go)
        with shared.start("bpjob", "attach", "--watch", "--label", job) as onlooker:
            assert onlooker.stdout is not None
            assert onlooker.stdout.readline() == b"n1: tick\n"
            go.touch()
            status, output, errors = onlooker.outcome()
        read_status, read, _ = reader.outcome()
    assert (status, errors) == (3, b"")
    assert output.endswith(b"n1: last\n")
    assert (read_status, read.splitlines()[-1]) == (3, b"last")
    assert read.count(b"tick") > output.count(b"tick")


def test_who_goes_or_is_interrupted_leaves_the_job_as_it_is(shared: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with shared.start("bpsh", "n[1-2]", "/bin/sh", "-c", TICKS, str(go)) as reader:
        job = job_of(shared, go)
        for number in (signal.SIGINT, signal.SIGKILL):
            with shared.start("bpjob", "attach", "--watch", job) as onlooker:
                assert onlooker.stdout is not None
                assert onlooker.stdout.readline() == b"tick\n"
                onlooker.send_signal(number)
                assert onlooker.wait(DEADLINE_S) == -number
        assert shared.job(job)["running"] == 2
        go.touch()
        assert reader.outcome()[0] == 0


def test_one_that_takes_nothing_slows_nobody_down_and_is_told_what_it_missed(shared: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    size = 40_000_000
    command = ("/bin/sh", "-c", TICKS + f"head -c {size} /dev/zero | tr '\\0' x", str(go))
    with shared.start("bpsh", "n3", *command) as reader:
        job = job_of(shared, go)
        with shared.start("bpjob", "attach", "--watch", job) as onlooker:
            assert onlooker.stdout is not None
            assert onlooker.stdout.readline() == b"tick\n"
            with stopped(onlooker.pid):
                go.touch()
                status, output, _ = reader.outcome()
                assert (status, output.count(b"x")) == (0, size)
            status, seen, errors = onlooker.outcome()
    assert status == 0
    missed = sum(int(line.split()[1]) for line in errors.decode().splitlines() if "are missing here" in line)
    assert missed > 0
    assert seen.count(b"x") + missed >= size


def test_it_looks_on_under_the_next_head(own: Cluster, tmp_path: Path) -> None:
    go = tmp_path / "go"
    with own.start("bpsh", "n1", "/bin/sh", "-c", TICKS + "echo last", str(go)) as reader:
        job = job_of(own, go)
        with own.start("bpjob", "attach", "--watch", job) as onlooker:
            assert onlooker.stdout is not None
            assert onlooker.stdout.readline() == b"tick\n"
            os.kill(own.head_pid(), 9)
            own.await_up(1)
            own.await_job(job, lambda shown: bool(shown["attended"]), "the reader is back")
            go.touch()
            status, output, _ = onlooker.outcome()
        assert reader.outcome()[0] == 0
    assert status == 0
    assert output.splitlines()[-1] == b"last"


def test_what_cannot_be_looked_at_is_said(shared: Cluster) -> None:
    refused = shared.run("bpjob", "attach", "--watch", "9.9")
    assert refused.returncode == 125
    assert b"there is no job 9.9" in refused.stderr
    job = shared.detach("n0", "/bin/sh", "-c", "exit 4")
    shared.run("bpjob", "wait", "-q", job)
    assert shared.run("bpjob", "attach", "--watch", job).returncode == 4
    wrong = shared.run("bpjob", "attach", "--watch", "-f", job, stdin=b"")
    assert (wrong.returncode, b"exclude each other" in wrong.stderr) == (2, True)
