"""What ranks leave running: killed, counted and told; or, if it lingers, left alone until it ends or is ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heorot.bpinit import reaper
from heorot.core.wire import tree as m
from tests.bpinit.space_rig import NODE, Agent, SpaceRig
from tests.support.waiting import await_that

SERVER = b"sleep 1000 & setsid sleep 1001 & (setsid sleep 1002 &) ; "
SERVER_PROCESSES = 3
FAMILY = (
    b"sleep 1000 & g=gate$HEOROT_RANK; mkfifo $g; sh -c 'sleep 1003 & echo up >$0; wait' $g & read line <$g; exit 3"
)
"""A rank that leaves as many, one of them a child of another."""
ORDINARY = {
    "pipeline": b"yes | head -1; seq 100000 | sort -r | tail -1",
    "substitution": b"cat <(seq 100000) <(echo x) | wc -l; echo word > >(cat)",
    "xargs": b"seq 30 | xargs -P 8 -n 1 sh -c 'exit 0'",
    "make": b"cd $(mktemp -d) && printf 'all: a b c\\na b c:\\n\\tsleep 0\\n' > M && make -s -j3 -f M; rm -r $PWD",
    "last": b"(sleep 0.05 &)",
    "coprocess": b"coproc cat; echo x >&${COPROC[1]}",
}


def killed(agent: Agent, job: str) -> list[int]:
    """What reports say that was killed, flat: node, rank, count."""
    return [value for report in agent.reports(job) for value in report.killed]


def inventory(agent: Agent) -> m.Inventory:
    """Have the space say what it holds."""
    agent.answers.clear()
    agent.send(m.Inventorize())
    found: Any = agent.until(lambda: [a for a in agent.answers if isinstance(a, m.Inventory)], "the inventory")
    assert isinstance(found[0], m.Inventory)
    return found[0]


def test_what_was_killed_is_counted_and_said_again_to_whoever_asks_anew(rig: SpaceRig, agent: Agent) -> None:
    fields: dict[str, Any] = {"ranks": 2, "directory": os.fsencode(rig.work)}
    agent.send(rig.launch("1.1", b"sleep", b"1000"), rig.launch("1.2", b"sh", b"-c", FAMILY, **fields))
    assert agent.wait_over("1.2") == {0: 3 << 8, 1: 3 << 8}
    told = [NODE, 0, SERVER_PROCESSES, NODE, 1, SERVER_PROCESSES]
    assert sorted(killed(agent, "1.2")) == sorted(told)
    (held,) = [job for job in inventory(agent).jobs if job.job == "1.2"]
    assert held.killed == [0, SERVER_PROCESSES, 1, SERVER_PROCESSES]
    agent.send(rig.launch("1.2", b"sh", b"-c", SERVER))
    agent.until(lambda: killed(agent, "1.2") == told, "the whole report again")
    assert not agent.over("1.1")


@pytest.fixture
def stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bpinit that is made from now on stops what is left, as where what was killed is still there rounds later."""
    monkeypatch.setattr(reaper, "_KILLING_ROUNDS", 0)


def test_what_is_stopped_before_it_is_killed_is_counted_for_the_rank_that_left_it(
    stopping: None, rig: SpaceRig
) -> None:
    agent = rig.agent()
    agent.send(rig.launch("1.1", b"sleep", b"1000"))
    agent.send(rig.launch("1.2", b"sh", b"-c", FAMILY, ranks=2, directory=os.fsencode(rig.work)))
    assert agent.wait_over("1.2") == {0: 3 << 8, 1: 3 << 8}
    (held,) = [job for job in inventory(agent).jobs if job.job == "1.2"]
    assert held.killed == [0, SERVER_PROCESSES, 1, SERVER_PROCESSES]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bpinit that is made from now on gives what is left all the time that it needs on a busy machine."""
    monkeypatch.setattr(reaper, "_GRACE_MS", 60_000)


@pytest.mark.parametrize("script", ORDINARY.values(), ids=ORDINARY)
def test_what_ends_by_itself_is_not_said_to_have_been_killed(patient: None, rig: SpaceRig, script: bytes) -> None:
    agent = rig.agent()
    agent.send(rig.launch("1.1", b"bash", b"-c", script, ranks=3, directory=os.fsencode(rig.work)))
    assert agent.wait_over("1.1") == dict.fromkeys(range(3), 0), agent.output
    assert killed(agent, "1.1") == []


def test_what_somebody_ended_is_not_said_to_have_been_left(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", SERVER + b"wait"))
    agent.wait_started("1.1")
    await_that(lambda: len(rig.processes()) > SERVER_PROCESSES, "all of it")
    assert agent.ask(m.Query(1, "1.1", None, None, signal.SIGKILL, False)).matched == SERVER_PROCESSES + 1
    assert agent.wait_over("1.1") == {0: signal.SIGKILL}
    assert killed(agent, "1.1") == []


def test_what_lingers_belongs_to_its_rank_until_it_ends_by_itself(rig: SpaceRig, agent: Agent) -> None:
    gate = Path(rig.work) / "gate"
    os.mkfifo(gate)
    os.chmod(gate, 0o666)
    script = b"(setsid sh -c 'echo early; read line < gate; echo late' &) ; exit 4"
    fields: dict[str, Any] = {"directory": os.fsencode(rig.work), "linger": True, "max_processes": 1000}
    agent.send(rig.launch("1.1", b"sh", b"-c", script, **fields), rig.launch("1.2", b"true"))
    leader = agent.wait_started("1.1")[0]
    agent.wait_over("1.2")

    def rows() -> list[m.Process]:
        return agent.ask(m.Query(agent_questions.pop(), "1.1", None, None, 0, True)).processes

    agent_questions = list(range(1000))
    agent.until(lambda: [row.pid != leader for row in rows()] == [True], "only what lingers")
    assert [(row.rank, row.leader, row.parent_pid) for row in rows()] == [(0, False, 0)]
    assert inventory(agent).jobs[0].running == [0, leader]
    gate.write_text("go\n")
    assert agent.wait_over("1.1") == {0: 4 << 8}
    assert agent.output[("1.1", 0, 1)] == b"early\nlate\n"
    assert killed(agent, "1.1") == []


@pytest.mark.parametrize("how", ["signal", "release", "limit", "headless"])
def test_what_lingers_ends_with_its_job(rig: SpaceRig, agent: Agent, how: str) -> None:
    script = SERVER
    if how == "limit":
        script = (
            b"(setsid sh -c 'sleep 0.5; for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done; wait' &) ; " + script
        )
    limits = {"limit": {"max_processes": 8}, "headless": {"headless_ms": 300}}.get(how, {})
    agent.send(rig.launch("1.1", b"sh", b"-c", script + b"exit 0", linger=True, **limits))
    leader = agent.wait_started("1.1")[0]
    agent.until(lambda: not agent.over("1.1") and len(rig.processes()) >= SERVER_PROCESSES, "what lingers")
    if how == "signal":
        agent.until(lambda: leader not in _pids(agent), "the end of the rank's own process")
        assert agent.ask(m.Query(1, "1.1", None, None, signal.SIGTERM, False)).matched == SERVER_PROCESSES
    elif how == "release":
        agent.send(m.Release("1.1"))
    elif how == "headless":
        agent.send(m.Alone(True))
    if how != "release":
        assert agent.wait_over("1.1") == {0: 0}
        assert killed(agent, "1.1") == []
    await_that(lambda: not rig.processes(), "all of it ends")


def _pids(agent: Agent) -> list[int]:
    number = 2 + len(agent.answers)
    return [row.pid for row in agent.ask(m.Query(number, "1.1", None, None, 0, True)).processes]


def test_jobs_that_linger_do_not_keep_what_others_leave(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", SERVER, linger=True))
    agent.wait_started("1.1")
    agent.send(rig.launch("1.2", b"sh", b"-c", SERVER))
    assert agent.wait_over("1.2") == {0: 0}
    assert killed(agent, "1.2") == [NODE, 0, SERVER_PROCESSES]
    assert agent.ask(m.Query(1, "1.1", None, None, signal.SIGKILL, False)).matched == SERVER_PROCESSES
    assert agent.wait_over("1.1") == {0: 0}


def test_waiting_for_what_lingers_costs_next_to_nothing(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", SERVER, linger=True))
    agent.wait_started("1.1")
    agent.until(lambda: len(_pids(agent)) == SERVER_PROCESSES, "what lingers")

    def turns() -> int:
        status = Path(f"/proc/{rig.pid}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    # The first round after a change is followed by others for as long as it is in doubt whose something is.
    agent.settle(0.5)
    before = turns()
    agent.settle(2)
    assert turns() - before <= 10
    agent.send(m.Release("1.1"))
    await_that(lambda: not rig.processes(), "all of it ends")


def test_a_crowd_that_lingers_is_no_bomb(rig: SpaceRig, agent: Agent) -> None:
    script = b"for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1000 & done"
    agent.send(rig.launch("1.1", b"sh", b"-c", script, linger=True))
    leader = agent.wait_started("1.1")[0]
    agent.until(lambda: leader not in _pids(agent), "the end of the rank's own process")
    agent.settle(0.5)
    assert agent.ask(m.Query(1, "1.1", None, None, signal.SIGKILL, False)).matched == 20
    assert agent.wait_over("1.1") == {0: 0}
    assert killed(agent, "1.1") == []


@pytest.fixture
def isolated() -> Iterator[SpaceRig]:
    """A bpinit with a PID namespace of its own."""
    space = SpaceRig("namespace")
    yield space
    space.end()


@pytest.mark.skipif(os.getuid() != 0, reason="choosing a PID needs root")
def test_the_number_of_a_session_that_has_ended_may_be_anothers(isolated: SpaceRig) -> None:
    space, agent = isolated, isolated.agent()
    agent.send(space.launch("1.1", b"sh", b"-c", b"setsid sleep 1000 & exit", linger=True))
    leader = agent.wait_started("1.1")[0]
    agent.until(lambda: len(_pids(agent)) == 1 and leader not in _pids(agent), "only what lingers")
    again = b"echo %d >/proc/sys/kernel/ns_last_pid; setsid sleep 1001 & echo $!" % (leader - 1)
    agent.send(space.launch("1.2", b"sh", b"-c", again))
    assert agent.wait_over("1.2") == {0: 0}
    assert agent.output[("1.2", 0, 1)] == b"%d\n" % leader
    assert killed(agent, "1.2") == [NODE, 0, 1]
    assert len(_pids(agent)) == 1
