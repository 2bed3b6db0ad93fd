"""Clients of a plain user that ask for much and read little, or nothing: nobody else pays for it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

import heorot
from tests.cluster.harness import Cluster, await_that, cluster, private_bytes
from tests.cluster.test_quotas import end_jobs, user
from tests.support.other_user import open_to_all, own_uid

ALICE = own_uid()
RANKS = 64
"""Of which each may send 4 MiB at once, if its client could have its way."""
JOB_BYTES = 12 << 20
"""What a job may have on its way."""
FRAMES_BYTES = 4 << 20
"""What frames take besides, and what allocators keep."""


@pytest.fixture(scope="module")
def four() -> Iterator[Cluster]:
    """Four nodes, in a tree of two levels, which users may reach."""
    with cluster(4, "--fanout", "2") as made:
        open_to_all(made.directory.parent)
        yield made


def test_who_watches_and_never_reads_is_told_once(four: Cluster) -> None:
    script = """
client = Client().greet()
for request in range(1, 101):
    client.send(*messages.watch_topics(request, ["nodes", "jobs", "processes"], 0))
tell(True)
"""
    pid = four.head_pid()
    with user(four, ALICE, script) as alice:
        assert alice.told()
        before = private_bytes(pid)
        for _ in range(10):
            four.check("bpsh", "n[0-3]", "/bin/true")
        with heorot.connect(four.directory) as root:
            for now in root.watch(["jobs", "processes"], interval_s=0.1):
                if all(job.state == "done" for job in now.jobs.values()) and not now.processes:
                    break
        assert private_bytes(pid) - before < FRAMES_BYTES
        assert four.head_pid() == pid
    assert not four.processes()


def test_who_gives_turns_to_all_streams_has_no_more_on_their_way_than_a_job_may(four: Cluster) -> None:
    script = f"""
client = Client().greet()
what = dict(WHAT, stdout=b"", nodes="n[0-3]," * {RANKS // 4 - 1} + "n[0-3]")
client.send(*messages.spawn(1, argv=[b"/usr/bin/head", b"-c", b"16777216", b"/dev/zero"], detached=False, **what))
job = client.answer(1)[2]
for rank in range({RANKS}):
    client.send(*messages.client_ack(job, rank, 1, 0, 1 << 60))
ends = {{}}

def read_until(request):
    while (message := client.receive())[0] != "result" or message[1] != request:
        if message[0] == "output":
            ends[message[2]] = max(ends.get(message[2], 0), message[4] + len(message[5]))

client.send("status", 2)
read_until(2)
tell(job)
sys.stdin.readline()
for request in range(3, 13):
    client.send("processes", request, "", None)
    read_until(request)
tell(sum(ends.values()))
"""
    try:
        with user(four, ALICE, script) as alice:
            job = alice.told()
            assert four.check("bpsh", "n[0-3]", "/bin/echo", "x") == b"x\n" * 4
            assert alice.process.stdin is not None
            alice.process.stdin.write(b"go on\n")
            alice.process.stdin.flush()
            assert 0 < alice.told() <= JOB_BYTES
            assert four.job(job)["state"] != "done"
    finally:
        end_jobs(four)


def test_a_picture_that_nobody_looks_at_is_the_newest_one_when_somebody_does(four: Cluster) -> None:
    with four.start("bpps", "--watch", "0.1", stdout=subprocess.PIPE) as watching:
        assert watching.stdout is not None
        watching.stdout.read(1)
        os.kill(watching.pid, signal.SIGSTOP)
        for seconds in range(1000, 1006):
            four.check("bpjob", "kill", "-KILL", four.detach("n0", "/bin/sleep", str(seconds)))
        last = four.detach("n1", "/bin/sleep", "2000")
        await_that(lambda: [row["argv"] for row in four.processes()] == [["/bin/sleep", "2000"]], "one process left")
        os.kill(watching.pid, signal.SIGCONT)
        shown = b""
        while b"sleep 2000" not in shown:
            shown += watching.stdout.read(65536)
        # One update was on its way when it was stopped, perhaps; all that came later is one change.
        assert shown.count(b"sleep 10") <= 1
        watching.send_signal(signal.SIGTERM)
        watching.communicate()
    four.check("bpjob", "kill", "-KILL", last)
    end_jobs(four)
