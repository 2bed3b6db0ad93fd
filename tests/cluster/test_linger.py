"""What ranks leave running on a real cluster: killed and told, folded; or kept in the job with --linger."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import uuid

import pytest

import heorot.aio
from tests.cluster.harness import DEADLINE_S, Cluster, await_that, host_pids


@pytest.fixture
def marker() -> str:
    """A number of seconds that no other process sleeps."""
    return f"1000.{uuid.uuid4().int}"


def leaves(marker: str, then: str = "exit") -> tuple[str, ...]:
    """A command that leaves two processes on a node, one of them in a session of its own."""
    return "/bin/sh", "-c", f"sleep {marker} & setsid sleep {marker} & {then}"


PROCESSES = 2


def test_what_was_left_is_killed_and_told_in_one_line(shared: Cluster, marker: str) -> None:
    result = shared.run("bpsh", "n[0-2,5,7]", *leaves(marker, "exit 3"))
    assert result.returncode == 3
    left = [line for line in result.stderr.decode().splitlines() if "left running" in line]
    assert len(left) == 1
    assert left[0].startswith("bpsh: job ")
    assert left[0].endswith(f"what it left running was ended: {5 * PROCESSES} processes on n[0-2,5,7]")
    assert not host_pids(marker)


def test_nothing_is_told_of_a_job_that_leaves_nothing(shared: Cluster) -> None:
    # It waits for all that it has started: what is left gets a moment to end, which is short on a busy machine.
    script = (
        "cat <(seq 1000) | wc -l; yes | head -1; seq 20 | xargs -P 4 -n 1 sh -c 'exit 0'; echo word > >(cat); wait $!"
    )
    result = shared.run("bpsh", "-a", "/bin/bash", "-c", script)
    assert (result.returncode, result.stderr) == (0, b"")
    assert result.stdout.count(b"word\n") == 8


def test_whoever_asks_later_is_told_too(shared: Cluster, marker: str) -> None:
    job = shared.detach("n[3-4]", *leaves(marker))
    waited = shared.run("bpjob", "wait", job)
    text = f"what it left running was ended: {2 * PROCESSES} processes on n[3-4]"
    assert (waited.returncode, waited.stderr.decode()) == (0, f"bpjob: job {job}: {text}\n")
    shown = shared.job(job)
    assert (shown["text"], shown["left_running"]) == (text, 2 * PROCESSES)
    assert shown["left_running_by_rank"] == {"0": PROCESSES, "1": PROCESSES}
    attached = shared.run("bpjob", "attach", job)
    assert text.encode() in attached.stderr


def test_what_lingers_stays_in_the_table_until_it_is_killed(shared: Cluster, marker: str) -> None:
    with shared.start("bpsh", "--linger", "n[1,6]", *leaves(marker, "echo ready; exit 5")) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
        await_that(lambda: len(host_pids(marker)) == 4, "what lingers")
        rows = [row for row in shared.processes() if marker in row["argv"]]
        assert sorted(row["node"] for row in rows) == [1, 1, 6, 6]
        assert not any(row["leader"] for row in rows)
        job = rows[0]["job"]
        shared.await_job(job, lambda shown: shown["state"] == "running", "the starts told")
        shared.check("bpjob", "kill", job)
        errors = process.communicate(timeout=DEADLINE_S)[1]
        assert process.returncode == 5
        assert b"left running" not in errors
    await_that(lambda: not host_pids(marker), "nothing is left")


def test_what_lingers_ends_by_itself_with_all_that_it_had_to_say(shared: Cluster) -> None:
    with shared.start(
        "bpsh", "--linger", "--json", "n2", "/bin/sh", "-c", "(sleep 0.5; echo late) & exit 7"
    ) as process:
        output = process.communicate(timeout=DEADLINE_S)[0]
    assert process.returncode == 7
    document = json.loads(output)
    assert (document["text"], document["ranks"][0]["stdout"]) == ("", "late\n")


def test_a_hang_up_ends_what_lingers(shared: Cluster, marker: str) -> None:
    with shared.start("bpsh", "--linger", "n[0,3]", *leaves(marker, "echo ready")) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"ready\n"] * 2
        await_that(lambda: len(host_pids(marker)) == 4, "what lingers")
        os.kill(process.pid, signal.SIGKILL)
    await_that(lambda: not host_pids(marker), "nothing is left after the hang-up")


def test_the_library_tells_and_lingers_too(shared: Cluster, marker: str) -> None:
    with heorot.connect(shared.directory) as connection:
        with connection.spawn(leaves(marker), nodes="n4") as job:
            job.wait()
            assert job.reason == f"what it left running was ended: {PROCESSES} processes on n4"
        with connection.spawn(leaves(marker), nodes="n4", linger=True) as job:
            await_that(lambda: len(host_pids(marker)) == PROCESSES, "what lingers")
            job.kill()
            job.wait()
            assert job.reason == ""
    await_that(lambda: not host_pids(marker), "nothing is left")


def test_the_asynchronous_library_lingers_too(shared: Cluster, marker: str) -> None:
    async def linger() -> str:
        async with heorot.aio.connect(shared.directory) as connection:
            job = await connection.spawn(leaves(marker), nodes="n4", linger=True)
            await asyncio.to_thread(await_that, lambda: len(host_pids(marker)) == PROCESSES, "what lingers")
            await job.kill()
            await job.wait()
            return job.reason

    assert asyncio.run(linger()) == ""
    await_that(lambda: not host_pids(marker), "nothing is left")


def test_a_new_head_hears_once_what_was_killed_and_knows_what_lingers(own: Cluster, marker: str) -> None:
    told = own.detach("n[2,6]", *leaves(marker))
    own.check("bpjob", "wait", "-q", told)
    job = own.detach("--linger", "n[2,6]", *leaves(marker))
    await_that(lambda: len(host_pids(marker)) == 4, "what lingers")
    os.kill(own.head_pid(), signal.SIGKILL)
    text = f"what it left running was ended: {2 * PROCESSES} processes on n[2,6]"
    shown = own.await_job(told, lambda shown: bool(shown["state"] == "done"), "the new head knows it")
    assert (shown["text"], shown["left_running"]) == (text, 2 * PROCESSES)
    own.await_job(job, lambda shown: shown["state"] == "running", "the new head knows that it runs")
    assert len(host_pids(marker)) == 4
    own.check("bpjob", "kill", "-s", "KILL", job)
    assert own.run("bpjob", "wait", job).stderr == b""
    await_that(lambda: not host_pids(marker), "nothing is left")
