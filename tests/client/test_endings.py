"""How a rank ended is said in one way, whoever says it."""

from __future__ import annotations

import signal

import pytest

from heorot.cli import bpjob
from heorot.cli.bpkill import short_signal_name
from heorot.cli.foreground import words
from heorot.client.endings import in_words
from heorot.client.job import Completed, JobFailed
from heorot.core.client.end import Status
from heorot.core.client.job import JobState
from heorot.linux.signal_names import signal_name

ENDS = {
    "exit status 3": Status(3),
    "killed by SIGTERM": Status(signal=signal.SIGTERM),
    "killed by SIGSEGV (core dumped)": Status(signal=signal.SIGSEGV, core_dumped=True),
    "killed by SIGRTMIN+2": Status(signal=signal.SIGRTMIN + 2),
    "the node was lost": Status.of_lost(""),
    "the node was lost (n3 does not answer)": Status.of_lost("n3 does not answer"),
    "no such command: x": Status.of_failure(2, "no such command: x"),
    "could not be started, error 12": Status.of_failure(12, ""),
}


@pytest.mark.parametrize("said", ENDS)
def test_an_end_is_a_phrase(said: str) -> None:
    assert in_words(ENDS[said]) == said


@pytest.mark.parametrize("said", ["exit status 3", "killed by SIGTERM", "the node was lost", "no such command: x"])
def test_every_program_says_the_same(said: str) -> None:
    status = ENDS[said]
    shown = {"lost": ""} if status.lost else status.as_json()
    job = {"job": "1.1", "statuses": {"0": shown, "1": {"code": 0}}, "rank_nodes": [7, 8]}
    assert bpjob.troubles(job) == [f"job 1.1: rank 0 on n7: {said}"]
    with pytest.raises(JobFailed, match=f"rank 0: {said}$"):
        Completed([status, Status(0)], [b"", b""], [b"", b""]).check()
    state = JobState(1)
    state.spawned("1.1", [7, 2], 1)
    state.statuses = {0: status, 1: Status(0)}
    lines = words.failures(state) + words.folded(state, [0, 1])
    assert [line.partition(";")[0] for line in lines] == [f"n7 (rank 0): {said}"]


def test_a_signal_has_one_name() -> None:
    assert [signal_name(number) for number in (9, 64, 36, 200)] == ["SIGKILL", "SIGRTMAX", "SIGRTMIN+2", "signal 200"]
    assert [short_signal_name(number) for number in (9, 64, 36, 32)] == ["KILL", "RTMAX", "RTMIN+2", "32"]
