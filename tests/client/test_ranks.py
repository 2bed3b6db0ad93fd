"""Ranks one by one, in both forms of the library, on a cluster of real daemons."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM
from typing import Any

import msgpack
import pytest

import heorot
from heorot import RankEvent, Status
from tests.client.conftest import Connect
from tests.support.fake_head import FakeHead, Staying
from tests.support.local_cluster import LocalCluster, eventually

STOPPED, CONTINUED = RankEvent(stopped_by=SIGSTOP), RankEvent(continued=True)


@pytest.fixture
def library(connect: Connect, cluster: LocalCluster) -> Iterator[heorot.Cluster]:
    with connect(cluster.directory) as library:
        yield library
    cluster.await_idle()


def test_each_rank_is_waited_for_by_itself_and_says_what_it_has_used(library: heorot.Cluster) -> None:
    script = "[ $BPROC_RANK = 0000001 ] && exec sleep 1000; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 123"
    with library.spawn(["sh", "-c", script], "n[0-2]") as job:
        first, second, third = job.ranks
        assert [rank.node for rank in (first, second, third)] == [0, 1, 2]
        assert [rank.number for rank in (first, second, third)] == [0, 1, 2]
        for rank in (third, first):
            assert rank.wait() == Status(123)
            assert rank.status == Status(123)
            used = rank.used
            assert used is not None
            assert used.cpu_time_ms > 0
        pids = job.pids
        assert [first.pid, third.pid] == [pids[0], pids[2]]
        with pytest.raises(TimeoutError, match=r"rank 1 of job .* is not over after"):
            second.wait(0.05)
        assert second.status is None
        assert second.used is None
        assert second.signal(SIGTERM) == 1
        assert second.wait() == Status(signal=SIGTERM)
        assert second.wait_event() == RankEvent(status=Status(signal=SIGTERM))
        assert job.wait() == [Status(123), Status(signal=SIGTERM), Status(123)]
        assert second.signal(SIGTERM) == 0


def test_stops_are_events_each_told_once(library: heorot.Cluster) -> None:
    with library.spawn(["sleep", "1000"], [0, 1]) as job:
        job.wait_started()
        one, other = job.ranks
        for _ in range(3):
            assert one.signal(SIGSTOP) == 1
            assert one.wait_event(60) == STOPPED
            assert one.stopped_by == SIGSTOP
            with pytest.raises(TimeoutError, match="did not stop, go on or end"):
                one.wait_event(0.05)
            assert one.signal(SIGCONT) == 1
            assert one.wait_event(60) == CONTINUED
            assert one.stopped_by is None
        with pytest.raises(TimeoutError):
            other.wait_event(0)
        one.signal(SIGSTOP)
        assert one.wait_event(60) == STOPPED
        assert one.kill() == 1
        assert one.wait_event(60) == RankEvent(status=Status(signal=SIGKILL))
        assert one.stopped_by is None
        assert other.status is None


def test_a_rank_that_stops_itself_and_what_it_wrote_before(library: heorot.Cluster) -> None:
    with library.spawn(["sh", "-c", "echo before; kill -STOP $$; echo after; exit 3"], 1) as job:
        (rank,) = job.ranks
        assert rank.wait_event(60) == STOPPED
        chunk = job.read()
        assert chunk is not None
        assert chunk.data == b"before\n"
        rank.signal(SIGCONT)
        events = [rank.wait_event(60)]
        while events[-1].status is None:
            events.append(rank.wait_event(60))
        # That it went on may be told, or only its end.
        assert events[-1] == RankEvent(status=Status(3))
        assert events[:-1] in ([], [CONTINUED])
        assert b"".join(chunk.data for chunk in job.output) == b"after\n"


def test_ranks_are_a_sequence_of_the_same_objects(cluster: LocalCluster) -> None:
    with heorot.connect(cluster.directory) as library, library.spawn(["true"], [2, 2, 0]) as job:
        assert len(job.ranks) == 3
        assert job.ranks[1] is job.ranks[1]
        assert job.ranks[-1] is job.ranks[2]
        assert job.ranks[:2] == [job.ranks[0], job.ranks[1]]
        with pytest.raises(IndexError):
            job.ranks[3]
        job.wait()
        assert [repr(rank)[:8] for rank in job.ranks] == ["<rank 0 ", "<rank 1 ", "<rank 2 "]
        assert "n0: Status(code=0)>" in repr(job.ranks[2])


def test_of_a_detached_job_ranks_are_waited_for_by_whoever_attaches(library: heorot.Cluster) -> None:
    job = library.spawn(["sh", "-c", "kill -STOP $$; exit 5"], 0, detached=True)
    with pytest.raises(heorot.RequestError, match="runs detached: attach to it"):
        job.ranks[0].wait()
    eventually(lambda: library.job(job.id)["stopped"] == {"0": int(SIGSTOP)}, "the rank to stop")
    with library.attach(job.id) as joined:
        assert joined.ranks[0].wait_event(60) == STOPPED
        joined.ranks[0].signal(signal.SIGCONT)
        assert joined.ranks[0].wait(60) == Status(5)
    with pytest.raises(heorot.RequestError, match="attach"):
        job.ranks[0].wait_event()
    assert job.wait() == [Status(5)]
    assert job.ranks[0].wait() == Status(5)


def test_an_older_word_on_a_stop_undoes_no_newer_one(connect: Connect, tmp_path: Path) -> None:
    def spawned(message: list[Any]) -> bytes:
        words = [[0, 3, 19, 0, 0], [0, 2, 0, 0, 0], [0, 1, 19, 0, 0], [1, 2, 0, 0, 0, 1, 1, 19, 0, 0]]
        said = [["spawned", message[1], "7.1", [0, 2], 65536], *(["stopped", "7.1", ranks] for ranks in words)]
        payloads = map(msgpack.packb, said)
        return Staying(b"".join(len(payload).to_bytes(4, "big") + payload for payload in payloads))

    with FakeHead(tmp_path, {"spawn": spawned}) as head, connect(head.directory) as library:
        job = library.spawn(["sleep", "1000"], "n[0-1]", image="path")
        assert job.ranks[0].wait_event(60) == STOPPED
        assert job.ranks[1].wait_event(60) == CONTINUED
        with pytest.raises(TimeoutError):
            job.ranks[0].wait_event(0.05)
        assert [rank.stopped_by for rank in job.ranks] == [SIGSTOP, None]
