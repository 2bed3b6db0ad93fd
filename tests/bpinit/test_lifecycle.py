"""Launch, exit, output, inventory, question, release: through a real bpinit."""

from __future__ import annotations

import errno
import os
import signal
import stat
from typing import Any

import pytest

from heorot.core.space import events as e
from heorot.core.space.machine import Space
from heorot.core.wire import tree as m
from tests.bpinit.space_rig import BASE, NODE, SIZE, Agent, SpaceRig, launch, peer_closed


def test_a_command_runs_and_everything_is_told(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", b"echo out; echo err >&2; exit 7"))
    assert agent.wait_over("1.1") == {0: 7 << 8}
    assert agent.output[("1.1", 0, 1)] == b"out\n"
    assert agent.output[("1.1", 0, 2)] == b"err\n"
    reports = agent.reports("1.1")
    assert reports[-1].exited == [NODE, 0, 7 << 8, 4, 4]
    assert [sum(r.nodes_started for r in reports), sum(r.nodes_over for r in reports)] == [1, 1]


def test_a_lasting_start_is_told(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.2", b"sleep", b"1000"))
    agent.wait_started("1.2")
    assert not agent.over("1.2")
    assert agent.reports("1.2")[0].nodes_started == 1
    agent.send(m.Query(1, "1.2", None, None, signal.SIGTERM, False))
    assert agent.wait_over("1.2") == {0: signal.SIGTERM}


def test_ranks_know_who_they_are(rig: SpaceRig, agent: Agent) -> None:
    script = b"echo $BPROC_RANK $HEOROT_RANK $HEOROT_SIZE $HEOROT_JOB $HEOROT_NODE $BPROC_PROGNAME"
    runs = [NODE, 1, 90, 2, NODE, 1]
    agent.send(rig.launch("1.5", b"sh", b"-c", script, runs=runs))
    assert agent.wait_over("1.5") == {0: 0, 3: 0}
    assert agent.output[("1.5", 3, 1)] == b"0000003 3 4 1.5 3 sh\n"
    assert agent.output[("1.5", 0, 1)] == b"0000000 0 4 1.5 3 sh\n"


def test_signals_that_mean_nothing_to_it_leave_the_space_alone(rig: SpaceRig, agent: Agent) -> None:
    agent.run("1.0", b"true", uid=rig.uid, gid=rig.uid)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGUSR1, signal.SIGALRM, signal.SIGCHLD, signal.SIGRTMIN):
        os.kill(rig.pid, number)
    assert agent.run("1.1", b"echo", b"alive", uid=rig.uid, gid=rig.uid) == b"alive\n"


def test_a_rank_leads_its_own_session_with_clean_signals(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"grep", b"-E", b"^(Sig|NSsid|NSpgid|NSpid)", b"/proc/self/status"))
    agent.wait_over("1.1")
    fields = dict(line.split(b":\t") for line in bytes(agent.output[("1.1", 0, 1)]).splitlines())
    pid = str(agent.started("1.1")[0]).encode()
    assert fields[b"NSsid"].split()[-1] == pid == fields[b"NSpgid"].split()[-1]
    assert int(fields[b"SigBlk"], 16) == 0
    # 32 and 33 belong to the C library: nobody can change them.
    assert int(fields[b"SigIgn"], 16) & ~(3 << 31) == 0


def test_nothing_but_the_three_streams_is_inherited(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", b"ls -l /proc/$$/fd >&2; ls /proc/$$/fd", stdin=b"", ranks=3))
    agent.wait_over("1.1")
    for rank in range(3):
        assert agent.output[("1.1", rank, 1)] == b"0\n1\n2\n", agent.output[("1.1", rank, 2)]


def test_the_same_ticket_starts_nothing_twice(rig: SpaceRig, agent: Agent) -> None:
    mark = os.path.join(rig.work, "mark").encode()
    command = rig.launch("1.1", b"sh", b"-c", b'echo ran >> "$0"', mark, stdout=None, stderr=None)
    agent.send(command, command)
    agent.wait_over("1.1")
    agent.send(command)
    agent.until(lambda: len(agent.reports("1.1")) >= 2, "the repeated report")
    second = rig.agent()
    second.send(m.Inventorize(), command)
    second.wait_over("1.1")
    second.send(m.Release("1.1"), command)
    failure = second.until(lambda: second.failed("1.1"), "the refusal")[0]
    assert "released already" in failure.text
    second.settle()
    with open(mark, "rb") as file:
        assert file.read() == b"ran\n"


def test_inventory_hands_over_everything(rig: SpaceRig, agent: Agent) -> None:
    agent.send(
        rig.launch("1.1", b"sh", b"-c", b"echo kept; exit 3"),
        rig.launch("1.2", b"sleep", b"1000", ranks=2),
        rig.launch("1.3", b"/no/such/command"),
    )
    agent.acknowledge = False
    agent.wait_over("1.1")
    agent.wait_over("1.3")
    agent.wait_started("1.2", 2)
    agent.close()
    second = rig.agent()
    second.send(m.Inventorize())
    second.until(lambda: bytes(second.output.get(("1.1", 0, 1), b"")) == b"kept\n", "the output once more")
    inventory = second.answers[0]
    assert isinstance(inventory, m.Inventory)
    jobs = {job.job: job for job in inventory.jobs}
    assert jobs["1.1"].exited == [0, 3 << 8, 5, 0]
    assert jobs["1.2"].running == [0, agent.started("1.2")[0], 1, agent.started("1.2")[1]]
    assert [failure.error for failure in jobs["1.3"].failed] == [errno.ENOENT]
    assert inventory.init_pid == rig.pid
    second.send(m.Release("1.1"), m.Release("1.2"), m.Release("1.3"), m.Inventorize())
    second.until(lambda: isinstance(second.answers[-1], m.Inventory) and not second.answers[-1].jobs, "an empty space")
    second.until(lambda: not rig.processes(), "the end of the released ranks")


def test_an_agent_may_vanish_at_any_time(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sh", b"-c", b"i=0; while [ $i -lt 200 ]; do echo $i; i=$((i+1)); done"))
    agent.acknowledge = False
    agent.wait_started("1.1")
    agent.close()
    incarnations = set()
    for _ in range(5):
        current = rig.agent()
        current.acknowledge = False
        current.send(m.Inventorize())
        current.until(lambda a=current: a.answers, "an inventory")  # type: ignore[misc]
        assert isinstance(current.answers[0], m.Inventory)
        incarnations.add(current.answers[0].incarnation)
    assert len(incarnations) == 1
    last = rig.agent()
    last.send(m.Inventorize(), rig.launch("1.1", b"true"))
    assert last.wait_over("1.1") == {0: 0}
    assert last.output[("1.1", 0, 1)] == b"".join(b"%d\n" % i for i in range(200))


def test_the_newer_agent_replaces_the_older(rig: SpaceRig, agent: Agent) -> None:
    agent.send(m.Inventorize())
    agent.until(lambda: agent.answers, "an inventory")
    second = rig.agent()
    second.send(m.Inventorize())
    second.until(lambda: second.answers, "an inventory")
    assert peer_closed(agent.socket)


def test_what_breaks_the_protocol_is_disconnected_and_nothing_else(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"sleep", b"1000"))
    pids = agent.wait_started("1.1")
    agent.socket.sendall(b"\0\0\0\3abc")
    assert peer_closed(agent.socket)
    second = rig.agent()
    second.send(m.Launch(b"junk", b""))
    assert peer_closed(second.socket)
    third = rig.agent()
    assert third.ask(m.Query(1, "1.1", None, None, 0, True)).processes[0].pid == pids[0]


def test_a_launch_can_be_fetched_by_a_new_head(rig: SpaceRig, agent: Agent) -> None:
    command = rig.launch("1.1", b"true")
    agent.send(command, m.FetchLaunch("1.1"), m.FetchLaunch("9.9"))
    agent.until(lambda: sum(isinstance(a, m.LaunchCopy) for a in agent.answers) == 2, "two copies")
    copies = [a for a in agent.answers if isinstance(a, m.LaunchCopy)]
    assert copies == [m.LaunchCopy("1.1", command.ticket, command.signature), m.LaunchCopy("9.9", b"", b"")]


@pytest.mark.parametrize(
    ("argv", "error", "text"),
    [
        (b"frobnicate", errno.ENOENT, "no such command: frobnicate"),
        (b"/no/such", errno.ENOENT, "no such command: /no/such"),
        (b"/etc/passwd", errno.EACCES, "cannot execute /etc/passwd: Permission denied"),
        (b"/etc", errno.EACCES, "cannot execute /etc: Is a directory"),
        (b"/dev/null", errno.EACCES, "cannot execute /dev/null: Permission denied: it is a device"),
        (b"", errno.ENOENT, "the command is empty"),
        (b"caf\xe9", errno.ENOENT, r"no such command: caf\xe9"),
        (b"/no/\xff\xfe", errno.ENOENT, r"no such command: /no/\xff\xfe"),
    ],
)
def test_what_cannot_start_says_why(rig: SpaceRig, agent: Agent, argv: bytes, error: int, text: str) -> None:
    agent.send(rig.launch("1.1", argv, ranks=2))
    agent.until(lambda: agent.over("1.1"), "the failure")
    assert {rank: failure.error for rank, failure in agent.failed("1.1").items()} == {0: error, 1: error}
    assert text in agent.failed("1.1")[1].text
    assert agent.started("1.1") == {}


def test_a_missing_directory_says_so(rig: SpaceRig, agent: Agent) -> None:
    agent.send(rig.launch("1.1", b"true", directory=b"/no/where"))
    agent.until(lambda: agent.over("1.1"), "the failure")
    assert agent.failed("1.1")[0].text == "cannot enter the directory /no/where: No such file or directory"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"directory": b"/\xff"}, r"cannot enter the directory /\xff: No such file or directory"),
        ({"stdin": b"/\xff"}, r"cannot read /\xff: No such file or directory"),
        ({"stdout": b"/no/\xff"}, r"cannot write to /no/\xff: No such file or directory"),
        ({"environment": [b"PATH=/\xff"]}, r"no such command: true (PATH is /\xff)"),
    ],
)
def test_names_that_are_not_utf8_end_no_node(rig: SpaceRig, agent: Agent, fields: dict[str, Any], text: str) -> None:
    agent.send(rig.launch("1.1", b"true", **fields))
    agent.until(lambda: agent.over("1.1"), "the failure")
    assert agent.failed("1.1")[0].text == text


def test_scripts_and_long_arguments(rig: SpaceRig, agent: Agent) -> None:
    path = os.path.join(rig.work, "script")
    with open(path, "wb") as file:
        file.write(b'echo plain script "$1"\n')
    os.chmod(path, 0o755)
    assert agent.run("1.1", path.encode(), b"x", uid=rig.uid, gid=rig.uid) == b"plain script x\n"
    directory = rig.work.encode()
    found = agent.run(
        "1.2", b"script", b"y", uid=rig.uid, gid=rig.uid, directory=directory, environment=[b"PATH=:/bin"]
    )
    assert found == b"plain script y\n"
    with open(path, "wb") as file:
        file.write(b"#!/no/interpreter\n")
    agent.send(rig.launch("1.3", path.encode()))
    agent.until(lambda: agent.over("1.3"), "the failure")
    assert agent.failed("1.3")[0].error == errno.ENOENT
    assert agent.failed("1.3")[0].text == f"cannot execute {path}: its interpreter /no/interpreter does not exist"
    with open(path, "wb") as file:
        file.write(b"#!/bin/sh\r\necho hello\r\n")
    agent.send(rig.launch("1.9", path.encode()))
    agent.until(lambda: agent.over("1.9"), "the failure")
    assert agent.failed("1.9")[0].error == errno.ENOENT
    told = (
        f"cannot execute {path}: its interpreter '/bin/sh\\r' does not exist (the script has the line ends of Windows"
    )
    assert agent.failed("1.9")[0].text.startswith(told)
    # Linux accepts no single argument of 128 KiB (MAX_ARG_STRLEN, with its end).
    agent.send(rig.launch("1.4", b"true", b"x" * (128 * 1024)))
    agent.until(lambda: agent.over("1.4"), "the failure")
    assert agent.failed("1.4")[0].error == errno.E2BIG
    assert "too long" in agent.failed("1.4")[0].text
    length = agent.run("1.5", b"sh", b"-c", b"echo ${#1}", b"-", b"x" * (128 * 1024 - 1), uid=rig.uid, gid=rig.uid)
    assert length == b"131071\n"


def test_a_large_environment_arrives(rig: SpaceRig, agent: Agent) -> None:
    environment = [b"PATH=/usr/bin:/bin", b"BIG=" + b"x" * 100_000, b"EQUALS=a=b", b"junk", b"=odd", b"EMPTY="]
    script = b"echo ${#BIG} $EQUALS ${EMPTY-unset} $(printenv | grep -c junk)"
    found = agent.run("1.1", b"sh", b"-c", script, environment=environment, uid=rig.uid, gid=rig.uid)
    assert found == b"100000 a=b 0\n"


def test_files_instead_of_streams(rig: SpaceRig, agent: Agent) -> None:
    out = os.path.join(rig.work, "out").encode()
    agent.send(
        rig.launch("1.1", b"sh", b"-c", b"cat; echo done", stdin=b"/etc/hostname", stdout=out, umask=0o027, ranks=3)
    )
    assert set(agent.wait_over("1.1").values()) == {0}
    with open("/etc/hostname", "rb") as file:
        expected = file.read() + b"done\n"
    with open(out, "rb") as file:
        assert sorted(file.read().splitlines()) == sorted((expected * 3).splitlines())
        status = os.fstat(file.fileno())
    assert stat.S_IMODE(status.st_mode) == 0o640
    assert status.st_uid == rig.uid
    agent.send(rig.launch("1.2", b"true", stdout=b"/no/where/file"))
    agent.until(lambda: agent.over("1.2"), "the failure")
    assert agent.failed("1.2")[0].text == "cannot write to /no/where/file: No such file or directory"


def test_descriptors_are_given_back(rig: SpaceRig, agent: Agent) -> None:
    agent.run("1.1", b"true", uid=rig.uid, gid=rig.uid)
    before = rig.file_descriptors()
    for index in range(10):
        agent.send(
            rig.launch(f"2.{index}", b"true", stdin=b"", ranks=5), rig.launch(f"3.{index}", b"/no/such", stdin=b"")
        )
        agent.wait_over(f"2.{index}")
        agent.wait_over(f"3.{index}")
        agent.send(m.Release(f"2.{index}"))
    agent.ask(m.Query(1, None, None, None, 0, False))
    assert rig.file_descriptors() == before


def test_pids_come_from_the_nodes_range(rig: SpaceRig, agent: Agent) -> None:
    pid = int(agent.run("1.1", b"sh", b"-c", b"echo $$", uid=rig.uid, gid=rig.uid))
    assert pid == agent.started("1.1")[0]
    if rig.mode == "namespace":
        assert BASE <= pid < BASE + SIZE
        seen = agent.run("1.2", b"sh", b"-c", b"echo /proc/[0-9]*; cat /proc/1/comm", uid=rig.uid, gid=rig.uid)
        *paths, name, number = seen.split()
        assert (name, number) == (b"bpinit", b"n%d" % NODE)
        assert {int(path.rpartition(b"/")[2]) for path in paths} <= {1, *range(BASE, BASE + SIZE)}


def test_another_users_ticket_is_refused_without_root() -> None:
    space = SpaceRig("rootless")
    agent = space.agent()
    agent.send(launch("1.1", b"true", uid=space.uid + 1, gid=space.uid + 1))
    agent.until(lambda: agent.over("1.1"), "the failure")
    assert agent.failed("1.1")[0].error == errno.EPERM
    space.end()


def test_a_mistake_about_one_rank_is_told_and_costs_the_node_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Space.handle

    def handle(space: Space, event: e.SpaceEvent, now_ms: int) -> list[e.SpaceInstruction]:
        # In the daemon, which is forked from here: the end of the first process is taken for a second start of it.
        if type(event) is e.ProcessExited and event.slot == 1:
            event = e.ProcessStarted(1, 7)
        return honest(space, event, now_ms)

    monkeypatch.setattr(Space, "handle", handle)
    space = SpaceRig("rootless")
    agent = space.agent()
    agent.send(space.launch("1.1", b"true"))
    assert agent.run("1.2", b"echo", b"alive", uid=space.uid, gid=space.uid) == b"alive\n"
    agent.until(lambda: "started cannot happen" in space.log_text(), "the word of the mistake")
    assert "ProcessExited(slot=1, status=0, clean=True" in space.log_text()
    assert "a rank in its process space is running, where started cannot happen" in space.log_text()
    assert not agent.over("1.1")
    space.end()
