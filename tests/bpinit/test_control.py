"""Questions, signals, strays, limits, many processes, and the end of the space itself."""

from __future__ import annotations

import os
import resource
import signal
import socket
import time
from itertools import count
from pathlib import Path

import pytest

from heorot.bpinit import strays
from heorot.bpinit.namespace import SpaceError, pid_range
from heorot.core.wire import tree as m
from tests.bpinit.conftest import MODES
from tests.bpinit.space_rig import DEADLINE_S, NODE, Agent, SpaceRig, launch
from tests.support.other_user import OTHER, become, own_uid
from tests.support.waiting import await_that

BOMBER = own_uid()
BOMB_PROCESSES = int(os.environ.get("HEOROT_TEST_BOMB_PROCESSES", "1000"))
FAMILY = b"sleep 1000 & setsid sleep 1001 & (setsid sh -c 'sleep 1002 & sleep 1003 & wait' &) ; echo up; wait"


def poll(condition: object, what: str) -> None:
    assert callable(condition)
    await_that(condition, what)


def test_the_table_shows_descendants_wherever_they_went(rig: SpaceRig, agent: Agent) -> None:
    before_ms = int(time.time() * 1000)
    agent.send(rig.launch("1.1", b"sh", b"-c", FAMILY), rig.launch("1.2", b"sleep", b"50"))

    def rows() -> list[m.Process]:
        return agent.ask(m.Query(1, "1.1", None, None, 0, True)).processes

    agent.until(lambda: {r.argv[-1] for r in rows()} >= {b"1000", b"1001", b"1002", b"1003"}, "the family")
    found = rows()
    assert all((r.job, r.rank, r.uid) == ("1.1", 0, rig.uid) for r in found)
    assert [r.argv[:2] for r in found if r.leader] == [[b"sh", b"-c"]]
    agent.wait_started("1.1")
    leader = next(r for r in found if r.leader)
    assert leader.pid == agent.started("1.1")[0]
    assert leader.parent_pid == 0
    assert leader.memory_bytes > 0
    assert before_ms - 2000 <= leader.started_at_ms <= int(time.time() * 1000) + 2000
    assert {r.parent_pid for r in found if r.argv[-1] == b"1000"} == {leader.pid}
    everything = agent.ask(m.Query(2, None, None, None, 0, True))
    assert {r.job for r in everything.processes} == {"1.1", "1.2"}
    assert agent.ask(m.Query(3, None, None, [leader.pid], 0, True)).processes[0].pid == leader.pid
    assert agent.ask(m.Query(4, None, None, [-leader.pid], 0, True)).matched >= 2
    assert agent.ask(m.Query(5, "1.2", None, [leader.pid], 0, True)).matched == 0
    assert agent.ask(m.Query(6, "9.9", None, None, 0, True)).matched == 0


def test_a_signal_reaches_every_process_once(rig: SpaceRig, agent: Agent) -> None:
    script = (
        b"trap 'echo leader' USR1; (trap 'echo member' USR1; echo up; while :; do sleep 0.01; done) &"
        b" setsid sh -c \"trap 'echo apart' USR1; echo up; while :; do sleep 0.01; done\" &"
        b" echo up; while :; do wait; done"
    )
    agent.send(rig.launch("1.1", b"sh", b"-c", script))

    def lines() -> list[bytes]:
        return sorted(bytes(agent.output.get(("1.1", 0, 1), b"")).splitlines())

    agent.until(lambda: lines() == [b"up"] * 3, "three shells")
    for _ in range(3):
        agent.ask(m.Query(77, "1.1", None, None, signal.SIGUSR1, False))
    agent.until(lambda: len(lines()) >= 6, "three answers")
    agent.settle()
    assert lines() == [b"apart", b"leader", b"member", b"up", b"up", b"up"]
    agent.ask(m.Query(78, "1.1", None, None, signal.SIGKILL, False))
    agent.until(lambda: agent.over("1.1"), "the end")


def test_stop_and_continue(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sleep", b"1000", ranks=2))
    agent.wait_started("1.1", 2)

    def states() -> dict[int, str]:
        return {r.rank: r.state for r in agent.ask(m.Query(1, "1.1", None, None, 0, True)).processes}

    assert agent.ask(m.Query(10, "1.1", [1], None, signal.SIGSTOP, False)).matched == 1
    agent.until(lambda: states() == {0: "S", 1: "T"}, "rank 1 stopped")
    agent.ask(m.Query(11, "1.1", None, None, signal.SIGCONT, False))
    agent.until(lambda: states() == {0: "S", 1: "S"}, "rank 1 going on")
    pids = agent.started("1.1")
    agent.ask(m.Query(12, None, None, [pids[0], -pids[1]], signal.SIGTERM, False))
    assert agent.wait_over("1.1") == {0: signal.SIGTERM, 1: signal.SIGTERM}


def test_a_signal_reaches_only_processes_of_the_user_who_asks(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sleep", b"1000"))
    agent.wait_started("1.1")
    pid = agent.started("1.1")[0]
    other = rig.uid + 1
    assert agent.ask(m.Query(1, None, None, [pid, -pid], signal.SIGKILL, False, other)).matched == 0
    assert agent.ask(m.Query(2, "1.1", None, None, signal.SIGKILL, True, other)) == m.Reply(2, 0, [])
    assert agent.ask(m.Query(3, None, None, [pid], signal.SIGTERM, False, rig.uid)).matched == 1
    assert agent.wait_over("1.1") == {0: signal.SIGTERM}


@pytest.mark.parametrize(
    "limits", [[resource.RLIMIT_NOFILE, 1 << 63, 1 << 63], [resource.RLIMIT_CPU, -7, -7], [99, 1, 1]]
)
def test_impossible_limits_do_not_end_the_space(rig: SpaceRig, agent: Agent, limits: list[int]) -> None:
    assert agent.run("1.1", b"echo", b"fine", limits=limits, uid=rig.uid, gid=rig.uid) == b"fine\n"


def test_limits_that_are_no_triples_fail_the_launch_and_not_the_space(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"echo", limits=[99, 1]))
    agent.until(lambda: agent.over("1.1"), "the failure")
    assert "a limit of the launch" in agent.failed("1.1")[0].text
    assert agent.run("1.2", b"echo", b"fine", uid=rig.uid, gid=rig.uid) == b"fine\n"


def test_long_failures_of_many_ranks_fit_into_an_inventory(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"x" * 100_000, ranks=100))
    agent.until(lambda: agent.over("1.1"), "a hundred failures")
    agent.send(m.Inventorize())

    def inventory() -> m.Inventory | None:
        return next((answer for answer in agent.answers if isinstance(answer, m.Inventory)), None)

    failed = agent.until(inventory, "the inventory").jobs[0].failed
    assert len(failed) == 100
    assert all(failure.text.startswith("no such command: xxx") for failure in failed)


def test_nobody_can_pass_a_process_off_as_another_users(rig: SpaceRig, agent: Agent) -> None:
    other = rig.uid + 4321 if rig.mode == "namespace" else rig.uid
    agent.send(rig.launch("1.1", b"sleep", b"50"))
    agent.wait_started("1.1")
    forged = b"HEOROT_JOB=1.1 HEOROT_RANK=0 setsid -f sleep 1000; echo up; sleep 50"
    agent.send(launch("1.2", b"sh", b"-c", forged, uid=other, gid=other))
    agent.until(lambda: bytes(agent.output.get(("1.2", 0, 1), b"")) == b"up\n", "the forger")

    def owner() -> str | None:
        rows = agent.ask(m.Query(1, None, None, None, 0, True)).processes
        # Not setsid's own child, which has the same last word and is still in the forger's session.
        return next((row.job for row in rows if row.argv == [b"sleep", b"1000"] and row.parent_pid == 0), None)

    found = agent.until(lambda: (job := owner()) is not None and (job,), "the forged process")
    assert found == ("1.1" if other == rig.uid else "",)


HOLD = b"head -c 209715200 /dev/zero | tail -n 1 | cksum"
"""Holds its input, 200 MiB without an end of a line, in the memory of one process, and computes of it."""


def test_what_a_rank_has_used_is_measured_as_it_is_reaped(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", HOLD), rig.launch("1.2", b"true"))
    agent.wait_over("1.1")
    agent.wait_over("1.2")
    (large,) = [report for report in agent.reports("1.1") if report.used]
    assert large.used_runs == [NODE, 0, 1]
    user_time_ms, system_time_ms, peak_kib = large.used
    assert user_time_ms + system_time_ms > 0
    assert 200 << 10 <= peak_kib < 800 << 10
    # It has begun in our own memory, and took less: how much, nobody knows.
    (small,) = [report for report in agent.reports("1.2") if report.used]
    assert small.used[2] == 0


def test_a_signal_is_not_lost_on_ranks_that_are_still_to_start(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sleep", b"1000", ranks=100), m.Query(1, "1.1", None, None, signal.SIGTERM, False))
    assert agent.wait_over("1.1") == dict.fromkeys(range(100), signal.SIGTERM)


def test_nothing_is_left_when_a_rank_ends(rig: SpaceRig, agent: Agent) -> None:
    script = FAMILY.replace(b"wait'", b"wait'").removesuffix(b"wait") + b" exit 3"
    agent.send(rig.launch("1.1", b"sleep", b"1000"))
    agent.wait_started("1.1")
    alone = len(rig.processes())
    agent.send(rig.launch("1.2", b"sh", b"-c", script, ranks=3))
    # It is over although its descendants held the pipe open: they were killed.
    assert agent.wait_over("1.2") == {0: 3 << 8, 1: 3 << 8, 2: 3 << 8}
    assert len(rig.processes()) == alone
    assert not agent.over("1.1")


def test_a_release_kills_and_forgets(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", FAMILY, ranks=2))
    agent.wait_started("1.1", 2)
    agent.send(m.Release("1.1"))
    poll(lambda: not rig.processes(), "the released job's processes end")
    # What it had killed is there for a moment more, until it is reaped.
    questions = count(1)
    poll(lambda: agent.ask(m.Query(next(questions), None, None, None, 0, True)).matched == 0, "nothing is left")


BOMBS = {
    "crowd": b"i=0; while [ $i -lt 100 ]; do setsid sleep 1000 & i=$((i+1)); done",
    "group": b"b() { b | b & }; b",
    "sessions": b'b() { setsid sh -c "$B" & setsid sh -c "$B" & wait; }; b',
    "orphans": b'b() { setsid sh -c "$B" & setsid sh -c "$B" & }; b',
}
CROWDS = {"namespace": list(BOMBS), "rootless": ["crowd"]}


KEEP_ON = b"""
$SIG{CHLD} = "IGNORE";
while (1) {
    my $pid = fork;
    if (defined $pid && !$pid) { exec "sh", "-c", $ENV{B} . "; wait; sleep 1000" }
    select undef, undef, undef, 0.05;
}
"""
"""Lets off a bomb again and again: one that has starved at the limit that protects the host is gone before it is
counted, and a shell gives up when it can start nothing. For Perl, which is on each Debian."""


# Without a namespace that limit holds for what runs as root beside it, too: there, a crowd.
@pytest.mark.parametrize(("mode", "bomb"), [(mode, name) for mode in MODES for name in CROWDS[mode]])
def test_a_fork_bomb_ends_at_the_jobs_limit(mode: str, bomb: str) -> None:
    rig = SpaceRig(mode)
    agent = rig.agent()
    code = BOMBS[bomb]
    # A user of its own, with a limit that keeps the host alive should this test fail: two bombs of one user would
    # starve each other at it.
    uid = BOMBER if mode == "namespace" else rig.uid
    limits = [resource.RLIMIT_NPROC, BOMB_PROCESSES, BOMB_PROCESSES] if mode == "namespace" else []
    environment = [b"PATH=/usr/bin:/bin", b"B=" + code]
    argv = (b"perl", b"-e", KEEP_ON)
    fields = {"uid": uid, "gid": uid, "limits": limits, "environment": environment, "max_processes": 40}
    agent.send(rig.launch("1.1", *argv, stderr=None, **fields))
    agent.until(lambda: agent.over("1.1"), "the end of the bomb")
    notes = [note.text for report in agent.reports("1.1") for note in report.notes]
    assert len(notes) == 1
    assert "exceed its limit of 40" in notes[0]
    assert agent.exited("1.1")[0] == signal.SIGKILL
    poll(lambda: not rig.processes(), "all of the bomb ends")
    rig.end()


def test_limits_and_umask_are_the_jobs(rig: SpaceRig, agent: Agent) -> None:
    limits = [resource.RLIMIT_NOFILE, 77, 99, resource.RLIMIT_CORE, 0, 0, resource.RLIMIT_CPU, 100, 200]
    # Without CAP_SYS_RESOURCE the hard limits come a moment after the start.
    script = (
        b"until [ $(ulimit -Hn) = 99 ] && [ $(ulimit -Ht) = 200 ]; do :; done;"
        b"ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -St; ulimit -Ht; umask"
    )
    fields = {"limits": limits, "umask": 0o027, "uid": rig.uid, "gid": rig.uid}
    assert agent.run("1.1", b"sh", b"-c", script, **fields).split() == [b"77", b"99", b"0", b"100", b"200", b"0027"]
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert agent.run("1.2", b"sh", b"-c", b"ulimit -Sn", uid=rig.uid, gid=rig.uid) == b"%d\n" % soft
    agent.send(rig.launch("1.3", b"sh", b"-c", b"while :; do :; done", limits=[resource.RLIMIT_CPU, 1, 1]))
    agent.wait_over("1.3")
    assert agent.exited("1.3")[0] in (signal.SIGKILL, signal.SIGXCPU)


def test_users_and_groups_become_the_jobs_and_no_privilege_is_left() -> None:
    if os.getuid() != 0:
        return
    space = SpaceRig("namespace")
    agent = space.agent()
    script = b"id -u; id -g; id -G; grep -E '^(Uid|Gid|CapEff|CapPrm)' /proc/self/status; id -ru; kill -TERM 1"
    agent.send(space.launch("1.1", b"sh", b"-c", script, uid=4321, gid=5432, groups=[6543, 7654]))
    agent.wait_over("1.1")
    lines = bytes(agent.output[("1.1", 0, 1)]).splitlines()
    assert lines[:3] == [b"4321", b"5432", b"5432 6543 7654"]
    table = dict(line.split(b":") for line in lines[3:7])
    assert set(table[b"Uid"].split()) == {b"4321"}
    assert set(table[b"Gid"].split()) == {b"5432"}
    assert int(table[b"CapEff"], 16) == int(table[b"CapPrm"], 16) == 0
    assert agent.run("1.2", b"id", b"-u") == b"0\n"
    # Not even root ends the space from inside.
    agent.send(space.launch("1.3", b"sh", b"-c", b"kill -KILL 1; kill -TERM 1; kill -INT 1; echo still"))
    agent.wait_over("1.3")
    assert agent.output[("1.3", 0, 1)] == b"still\n"
    space.end()


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES[:1])
def test_two_thousand_processes(mode: str) -> None:
    space = SpaceRig(mode)
    agent = space.agent()
    count = 2000
    agent.send(space.launch("1.1", b"sleep", b"1000", ranks=count, stdin=b""))
    agent.until(lambda: sum(r.nodes_started for r in agent.reports("1.1")), "all ranks started")
    assert len(agent.started("1.1")) + len(agent.failed("1.1")) == count
    assert not agent.failed("1.1")
    reply = agent.ask(m.Query(1, None, None, None, 0, True))
    assert reply.matched == count
    assert {row.rank for row in reply.processes} == set(range(count))
    agent.send(m.Query(2, "1.1", None, None, signal.SIGTERM, False))
    assert agent.wait_over("1.1") == dict.fromkeys(range(count), signal.SIGTERM)
    agent.send(m.Release("1.1"))
    assert agent.ask(m.Query(3, None, None, None, 0, True)).matched == 0
    space.end()


def test_too_few_descriptors_fail_the_rank_and_not_the_node() -> None:
    space = SpaceRig("rootless", descriptors=60)
    agent = space.agent()
    agent.send(space.launch("1.1", b"sleep", b"1000", ranks=40))
    agent.until(lambda: sum(r.nodes_started for r in agent.reports("1.1")), "all ranks started or failed")
    assert len(agent.started("1.1")) > 8
    assert len(agent.started("1.1")) + len(agent.failed("1.1")) == 40
    assert "Too many open files" in agent.failed("1.1")[39].text
    agent.send(m.Release("1.1"))
    poll(lambda: not space.processes(), "the ranks end")
    assert agent.run("1.2", b"echo", b"fine", uid=space.uid, gid=space.uid) == b"fine\n"
    space.end()


def test_only_root_and_the_owner_may_connect(rig: SpaceRig) -> None:
    if os.getuid() != 0:
        return
    os.chmod(rig.directory, 0o755)
    os.chmod(rig.path, 0o666)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        result = b"?"
        try:
            become(OTHER)
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(DEADLINE_S)
                connection.connect(rig.path)
                result = connection.recv(1) or b"refused"
        except ConnectionError:
            result = b"refused"
        finally:
            os.write(writer, result)
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        assert file.read() == b"refused"
    os.waitpid(pid, 0)
    poll(lambda: f"refused a connection of uid {OTHER}" in rig.log_text(), "a line in the log")


def test_strays_of_a_killed_rootless_space_are_found() -> None:
    space = SpaceRig("rootless")
    agent = space.agent()
    agent.send(space.launch("1.1", b"sh", b"-c", FAMILY, stdout=None, stderr=None))
    pids = agent.wait_started("1.1")
    poll(lambda: len(space.processes()) >= 6, "the family")
    os.kill(space.pid, signal.SIGKILL)
    poll(lambda: Path(f"/proc/{space.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z", "bpinit's end")
    found = strays.find_strays(space.marker)
    assert pids[0] in found
    assert set(found) == space.processes()
    assert strays.find_strays("another") == []
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    poll(lambda: not space.processes(), "the strays end")
    space.end()


def test_the_ranges_of_pids() -> None:
    assert pid_range(0, 63) == (65536, 65536)
    assert pid_range(62, 63) == (63 * 65536, 65536)
    assert pid_range(1022, 1023) == (1023 * 4096, 4096)
    base, size = pid_range(1023, 1024)
    assert (base, size) == (1024 * 2048, 2048)
    with pytest.raises(SpaceError, match="not one of a cluster of 5 nodes"):
        pid_range(5, 5)
    with pytest.raises(SpaceError, match="too few PIDs"):
        pid_range(0, 100_000)
    assert NODE == 3
