"""bpstat, bpps, bpkill and bpjob against a cluster of real daemons."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

import heorot
from heorot.cli import bpjob
from tests.cluster.harness import DEADLINE_S, Cluster, await_that


def lines(trio: Cluster, *words: str) -> list[str]:
    return trio.check(*words).decode().splitlines()


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize(
    "command", ["bpps", "bpps --json", "bpstat", "bpjob list", "bpkill -l", "heorot status", "bpsh -h"]
)
def test_output_that_cannot_be_written_is_said_in_one_line(trio: Cluster, command: str) -> None:
    name, *words = command.split()
    with open("/dev/full", "wb") as device:
        full = trio.run(name, *words, stdout=device)
    assert full.returncode == 74
    assert full.stderr.decode() == f"{name}: cannot write output: No space left on device\n"
    closed = trio.run(name, *words, stdout=None, preexec_fn=lambda: os.close(1))
    assert (closed.returncode, closed.stderr.decode()) == (74, f"{name}: cannot write output: Bad file descriptor\n")


@pytest.mark.parametrize("words", [("head",), ("token",), ("node",), ("certificate", "-h"), ("node", "help")])
def test_heorot_explains_groups_of_commands(trio: Cluster, words: tuple[str, ...]) -> None:
    helped = trio.run("heorot", words[0], words[1] if len(words) > 1 else "--help")
    assert helped.returncode == 0
    commands = [line for line in helped.stdout.decode().splitlines() if line.startswith("  heorot ")]
    assert commands
    assert all(line.startswith(f"  heorot {words[0]} ") for line in commands)


@pytest.mark.parametrize("group", ["head", "token", "certificate", "node"])
def test_heorot_asks_what_about_a_group_of_commands(trio: Cluster, group: str) -> None:
    refused = trio.run("heorot", group)
    assert (refused.returncode, refused.stdout) == (2, b"")
    assert refused.stderr.decode().startswith(f"heorot: what about the {group}? One of the commands below is needed\n")
    assert f"  heorot {group} ".encode() in refused.stderr


@pytest.mark.parametrize(
    "words", ["bpsh -V", "heorot -V", "heorot head init --version", "heorot certificate show -V", "heorot up -v"]
)
def test_every_command_tells_its_version(trio: Cluster, words: str) -> None:
    name, *rest = words.split()
    assert trio.check(name, *rest).decode() == f"{name} (Heorot) {heorot.__version__}\n"


def test_bpkill_says_which_signal_it_does_not_know(trio: Cluster) -> None:
    refused = trio.run("bpkill", "-NOSIG", "1.1")
    assert refused.returncode == 2
    assert b"unknown signal 'NOSIG'" in refused.stderr


# ------------------------------------------------------------------ bpstat


def test_bpstat_folds_nodes_of_one_state(trio: Cluster) -> None:
    assert lines(trio, "bpstat") == [
        "Node(s)  Status  Mode        User  Group",
        "0-2      up      ---x--x--x  root  root",
    ]


def test_bpstat_long_has_the_known_header(trio: Cluster) -> None:
    header, *rows = lines(trio, "bpstat", "-l", "n[1-2]")
    assert header.split() == ["Node", "Address", "Status", "Mode", "User", "Group", "Host"]
    assert [row.split() for row in rows] == [
        [number, f"127.1.0.{number}", "up", "---x--x--x", "root", "root", f"n{number}"] for number in ("1", "2")
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("-n",), ["0", "1", "2"]),
        (("-n", "-R"), ["2", "1", "0"]),
        (("-n", "-O", "2,0,2"), ["2", "0", "2"]),
        (("-n", "2,0"), ["0", "2"]),
        (("-n", "-O", "2", "0-1"), ["2", "0", "1"]),
        (("-t", "up"), ["3"]),
        (("-l", "-t"), ["3"]),
        (("-s", "n1"), ["up"]),
        (("-a", "n1"), ["127.1.0.1"]),
        (("-A", "127.1.0.2"), ["2"]),
    ],
)
def test_bpstat_prints_one_property(trio: Cluster, words: tuple[str, ...], expected: list[str]) -> None:
    assert lines(trio, "bpstat", *words) == expected


def test_bpstat_json_has_the_stable_fields(trio: Cluster) -> None:
    nodes = json.loads(trio.check("bpstat", "--json"))
    assert [node["id"] for node in nodes] == [0, 1, 2]
    stable = {"id", "name", "state", "address", "mode", "user", "group", "parent", "agent_pid", "init_pid", "ranks"}
    assert stable <= set(nodes[0])
    assert (nodes[1]["name"], nodes[1]["state"], nodes[1]["mode"]) == ("n1", "up", 0o111)


def test_bpstat_lists_processes_as_json(trio: Cluster, sleepers: str) -> None:
    found = json.loads(trio.check("bpstat", "-p", "--json"))
    wanted = [{"pid": row["pid"], "node": row["node"]} for row in trio.processes("--job", sleepers)]
    assert [row for row in wanted if row in found] == wanted
    assert len(wanted) == 3
    refused = trio.run("bpstat", "-P", "--json")
    assert (refused.returncode, refused.stdout) == (2, b"")


def test_bpstat_names_what_does_not_exist(trio: Cluster) -> None:
    unknown = trio.run("bpstat", "n7")
    assert (unknown.returncode, unknown.stdout) == (125, b"")
    assert b"n7" in unknown.stderr
    assert trio.run("bpstat", "-A", "192.0.2.1").returncode == 1


def test_a_question_about_a_state_in_which_no_node_is_has_an_empty_answer(trio: Cluster) -> None:
    assert lines(trio, "bpstat", "down") == ["Node(s)  Status  Mode  User  Group"]
    assert lines(trio, "bpstat", "-t", "down") == ["0"]
    assert lines(trio, "bpstat", "-n", "notup") == []
    assert lines(trio, "bpstat", "--json", "down") == ["[]"]
    assert lines(trio, "bpstat", "-p", "error") == ["PID\tNode"]
    assert lines(trio, "bpps", "-H", "-n", "down") == []
    refused = trio.run("bpsh", "down", "true")
    assert (refused.returncode, refused.stderr) == (125, b"bpsh: no node is selected by 'down'\n")


def test_bpstat_finds_the_nodes_of_processes(trio: Cluster, sleepers: str) -> None:
    pids = trio.job(sleepers)["pids"]
    listed = lines(trio, "bpstat", "-p")
    assert listed[0] == "PID\tNode"
    assert {f"{pid}\t{rank}" for rank, pid in pids.items()} <= set(listed)
    ps = f"  PID TTY CMD\n    1 ?   init\n{pids['2']} ?   sleep\n"
    augmented = trio.run("bpstat", "-P", stdin=ps.encode())
    assert augmented.stdout.decode() == f"NODE\t  PID TTY CMD\n\t    1 ?   init\n2\t{pids['2']} ?   sleep\n"
    assert trio.run("bpstat", "-P", stdin=b"nonsense\n").returncode == 1


# ------------------------------------------------------------------ bpps


def test_bpps_shows_every_rank_with_its_place(trio: Cluster, sleepers: str) -> None:
    rows = trio.processes("-j", sleepers)
    assert [(row["node"], row["rank"], row["job"], row["argv"]) for row in rows] == [
        (node, node, sleepers, ["sleep", "1000"]) for node in range(3)
    ]
    assert all(row["user"] == "root" and row["state"] == "S" and row["leader"] for row in rows)
    assert {str(row["rank"]): row["pid"] for row in rows} == trio.job(sleepers)["pids"]


def test_bpps_prints_a_table(trio: Cluster, sleepers: str) -> None:
    header, *rows = lines(trio, "bpps", "-j", sleepers)
    assert header.split() == ["PID", "NODE", "JOB", "RANK", "USER", "STATE", "START", "COMMAND"]
    assert [row.split()[1:6] for row in rows] == [[f"n{n}", sleepers, str(n), "root", "S"] for n in range(3)]
    assert all(row.endswith("sleep 1000") for row in rows)
    assert lines(trio, "bpps", "-H", "-j", sleepers) == rows


def test_bpps_selects(trio: Cluster, sleepers: str) -> None:
    def nodes(*options: str) -> list[int]:
        return [row["node"] for row in trio.processes("-j", sleepers, *options)]

    assert nodes("-n", "n[1-2]") == [1, 2]
    assert nodes("-k", "-node") == [2, 1, 0]
    assert nodes("-u", "root") == [0, 1, 2]
    assert nodes("-u", "0") == [0, 1, 2]
    assert nodes("-u", "nobody") == []
    assert nodes("-s", "Z") == []
    assert nodes("-s", "SD") == [0, 1, 2]
    assert nodes("-s", "s,d") == [0, 1, 2]
    assert nodes("-u", "4000000000") == []


def test_bpps_tells_ranks_from_what_they_started(trio: Cluster) -> None:
    job = trio.detach("n1", "sh", "-c", "sleep 1000 & wait")
    await_that(lambda: len(trio.processes("-j", job)) == 2, "the rank and its child in the table")
    both = trio.processes("-j", job)
    (rank,) = trio.processes("-j", job, "--ranks-only")
    (child,) = (row for row in both if row["pid"] != rank["pid"])
    assert (rank["leader"], rank["rank"], child["leader"]) == (True, 0, False)
    assert child["parent_pid"] == rank["pid"]
    trio.check("bpkill", "-9", job)
    trio.run("bpjob", "wait", job)
    await_that(lambda: not trio.processes("-j", job), "rank and child gone")


@pytest.mark.parametrize(
    "words",
    [("-k", "beauty"), ("-w", "0"), ("--watch=x",), ("n1",), ("--nope",), ("-s", "Q"), ("-u", "no-such-user")],
)
def test_bpps_refuses_what_it_does_not_know(trio: Cluster, words: tuple[str, ...]) -> None:
    finished = trio.run("bpps", *words)
    assert (finished.returncode, finished.stdout) == (2, b"")
    assert finished.stderr.startswith(b"bpps: ")
    assert finished.stderr.count(b"\n") == 1


def test_a_reader_that_goes_away_ends_the_command_silently(trio: Cluster) -> None:
    read_end, write_end = os.pipe()
    with trio.start("bpps", stdout=write_end) as ps:
        os.close(read_end)
        os.close(write_end)
        assert ps.wait(DEADLINE_S) == -signal.SIGPIPE
        assert ps.stderr is not None
        assert ps.stderr.read() == b""


# ------------------------------------------------------------------ bpkill


def test_bpkill_reaches_a_process_by_its_pid(trio: Cluster, sleepers: str) -> None:
    pid = trio.job(sleepers)["pids"]["1"]
    trio.check("bpkill", "-USR1", str(pid))
    shown = trio.await_job(sleepers, lambda job: bool(job["exited"]), "one rank ended")
    assert shown["statuses"] == {"1": {"signal": signal.SIGUSR1}}
    gone = trio.run("bpkill", str(pid))
    assert (gone.returncode, gone.stderr.decode()) == (1, f"bpkill: ({pid}): no such process\n")


def test_bpkill_reaches_ranks_of_a_job(trio: Cluster, sleepers: str) -> None:
    trio.check("bpkill", "-s", "kill", f"{sleepers}:0,2")
    shown = trio.await_job(sleepers, lambda job: bool(job["exited"] == 2), "two ranks ended")
    assert shown["statuses"] == {"0": {"signal": 9}, "2": {"signal": 9}}
    assert trio.run("bpkill", f"{sleepers}:7").returncode == 1


def test_bpkill_reaches_a_process_group(trio: Cluster) -> None:
    job = trio.detach("n2", "sh", "-c", "sleep 1000 & wait")
    await_that(lambda: len(trio.processes("-j", job)) == 2, "the rank and its child in the table")
    leader = next(row["pid"] for row in trio.processes("-j", job) if row["leader"])
    trio.check("bpkill", "-9", "--", f"-{leader}")
    await_that(lambda: not trio.processes("-j", job), "the whole group gone")


def test_bpkill_stops_and_continues(trio: Cluster, sleepers: str) -> None:
    def states() -> set[str]:
        return {row["state"] for row in trio.processes("-j", sleepers)}

    trio.check("bpkill", "-STOP", sleepers)
    await_that(lambda: states() == {"T"}, "three stopped processes")
    trio.check("bpkill", "-CONT", sleepers)
    await_that(lambda: states() == {"S"}, "three sleeping processes")


def test_bpkill_zero_only_asks(trio: Cluster, sleepers: str) -> None:
    trio.check("bpkill", "-0", sleepers)
    assert trio.job(sleepers)["running"] == 3


def test_bpkill_says_what_is_wrong_before_it_signals(trio: Cluster, sleepers: str) -> None:
    for words in ((sleepers, "rubbish"), ("-NOSUCH", sleepers), (f"{sleepers}:x",), ("-s", "99", sleepers), ()):
        assert trio.run("bpkill", *words).returncode == 2
    assert trio.job(sleepers)["running"] == 3


def test_bpkill_lists_and_translates_signals(trio: Cluster) -> None:
    assert "9 KILL" in trio.check("bpkill", "-l").decode()
    assert lines(trio, "bpkill", "-l", "9", "143", "usr1", "SIGHUP", "RTMIN+2") == ["KILL", "TERM", "10", "1", "36"]


# ------------------------------------------------------------------ bpjob


def test_bpjob_lists_jobs_with_the_stable_fields(trio: Cluster, sleepers: str) -> None:
    (job,) = (job for job in trio.jobs() if job["job"] == sleepers)
    known = {key: job[key] for key in ("state", "ranks", "running", "exited", "attended", "detached", "nodes", "user")}
    assert known == {
        "state": "running",
        "ranks": 3,
        "running": 3,
        "exited": 0,
        "attended": False,
        "detached": True,
        "nodes": "n[0-2]",
        "user": "root",
    }
    (row,) = (line for line in lines(trio, "bpjob", "list", "-H", "-s", "running") if line.split()[0] == sleepers)
    assert row.endswith("sleep 1000")
    assert row.split()[3:8] == ["3", "3", "0", "0", "0"]
    assert sleepers not in trio.check("bpjob", "list", "-u", "nobody").decode()


def test_bpjob_shows_statuses_of_all_kinds(trio: Cluster) -> None:
    script = "case $BPROC_RANK in *0) exit 0 ;; *1) exit 5 ;; *2) kill -9 $$ ;; esac"
    job = trio.detach("-a", "sh", "-c", script)
    shown = trio.await_job(job, lambda job: bool(job["state"] == "done"), "the job done")
    assert shown["statuses"] == {"0": {"code": 0}, "1": {"code": 5}, "2": {"signal": 9}}
    text = trio.check("bpjob", "show", job).decode()
    rows = [line.split(None, 5) for line in text.splitlines()[-4:]]
    assert [row[5] for row in rows] == ["STATUS", "exit status 0", "exit status 5", "killed by SIGKILL"]
    assert [row[4] for row in rows] == ["PEAK", "-", "-", "-"]
    assert shown["used"]["2"]["peak_memory_bytes"] is None
    assert "Ranks:    3: 1 exited with 0, 1 exited with another status than 0, 1 killed by a signal\n" in text
    waited = trio.run("bpjob", "wait", job)
    assert waited.returncode == 137
    assert waited.stderr.decode() == (
        f"bpjob: job {job}: rank 1 on n1: exit status 5\nbpjob: job {job}: rank 2 on n2: killed by SIGKILL\n"
    )


def test_each_rank_is_counted_once() -> None:
    ended = {"0": {"lost": "n0 is lost"}, "1": {"signal": 15}, "2": {"code": 127, "error": "no such command: x"}}
    job = {"ranks": 7, "running": 2, "statuses": {**ended, "3": {"code": 0}}}
    assert bpjob.counts(job) == (
        "1 starting, 2 running, 1 never ran, 1 exited with 0, 1 killed by a signal, 1 lost with a node"
    )


def test_a_job_that_could_not_be_started_anywhere_has_not_ended_there(trio: Cluster) -> None:
    job = trio.detach("-a", "--image", "path", "/no/such/command")
    trio.await_job(job, lambda job: bool(job["state"] == "done"), "the job done")
    (row,) = (line for line in lines(trio, "bpjob", "list", "-H") if line.split()[0] == job)
    assert row.split()[3:8] == ["3", "0", "0", "3", "0"]
    assert "Ranks:    3: 3 never ran\n" in trio.check("bpjob", "show", job).decode()
    trio.run("bpjob", "attach", job)


def test_bpjob_waits_until_the_end(trio: Cluster, sleepers: str) -> None:
    with trio.start("bpjob", "wait", sleepers) as waiting:
        trio.check("bpjob", "kill", "-INT", f"{sleepers}:0-1")
        trio.await_job(sleepers, lambda job: bool(job["exited"] == 2), "two ranks ended")
        assert waiting.poll() is None
        trio.check("bpjob", "kill", f"{sleepers}:2")
        assert waiting.wait(DEADLINE_S) == 128 + 15


def test_bpjob_attach_collects_output_and_status(trio: Cluster) -> None:
    job = trio.detach("n[0-1]", "sh", "-c", "echo from $BPROC_RANK; echo trouble >&2; exit 4")
    trio.await_job(job, lambda job: bool(job["state"] == "done"), "the job done")
    attached = trio.run("bpjob", "attach", "--label", job)
    assert attached.returncode == 4
    assert sorted(attached.stdout.decode().splitlines()) == ["n0: from 0000000", "n1: from 0000001"]
    assert sorted(attached.stderr.decode().splitlines()) == ["n0: trouble", "n1: trouble"]
    again = trio.run("bpjob", "attach", job)
    assert (again.returncode, again.stdout) == (125, b"")
    assert b"collected" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_an_attached_client_may_be_killed_and_replaced(trio: Cluster, tmp_path: Path, number: signal.Signals) -> None:
    go_on = tmp_path / "go_on"
    script = f"echo early; while [ ! -e {go_on} ]; do sleep 0.05; done; echo late"
    job = trio.detach("n0", "sh", "-c", script)
    with trio.start("bpjob", "attach", job) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"early\n"
        assert trio.job(job)["attended"]
        assert b"reads job" in trio.run("bpjob", "attach", job).stderr
        first.send_signal(number)
        first.wait(DEADLINE_S)
    trio.await_job(job, lambda job: not job["attended"], "the job unattended")
    go_on.touch()
    second = trio.run("bpjob", "attach", "--from-start", job)
    assert second.returncode == 0
    assert second.stdout in (b"early\nlate\n", b"late\n")


def test_an_attached_terminal_can_interrupt_the_job(trio: Cluster, sleepers: str) -> None:
    with trio.start("bpjob", "attach", sleepers) as attached:
        trio.await_job(sleepers, lambda job: bool(job["attended"]), "the job attended")
        attached.send_signal(signal.SIGINT)
        assert attached.wait(DEADLINE_S) == 130
    assert trio.job(sleepers)["statuses"] == {str(rank): {"signal": 2} for rank in range(3)}


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("show", "9.9"), 125),
        (("attach", "9.9"), 125),
        (("wait", "9.9"), 125),
        (("kill", "9.9"), 1),
        ((), 2),
        (("fly",), 2),
        (("show",), 2),
        (("show", "1"), 2),
        (("show", "1.1", "1.2"), 2),
        (("list", "1.1"), 2),
        (("list", "--state", "done,asleep"), 2),
        (("list", "--user", "root,no-such-user"), 2),
    ],
)
def test_bpjob_says_what_is_wrong(trio: Cluster, words: tuple[str, ...], status: int) -> None:
    finished = trio.run("bpjob", *words)
    assert (finished.returncode, finished.stdout) == (status, b"")
    assert finished.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("bpjob list -s asleep", "'asleep' is not a state of a job; the states are launching, running, done"),
        ("bpps -j foo", "'foo' is not a job: an id is EPOCH.SEQUENCE, for example 1.42"),
        ("bpps -s RQ", "'Q' is not a state; the states are R running, S sleeping, "),
        ("bpps -u root,no-such-user", "there is no user 'no-such-user' on this host; "),
    ],
)
def test_a_selection_that_cannot_hold_names_what_there_is(trio: Cluster, words: str, said: str) -> None:
    assert said in trio.run(*words.split()).stderr.decode()


@pytest.mark.parametrize("name", ["bpstat", "bpps", "bpkill", "bpjob"])
def test_help_and_version_need_no_cluster(name: str, tmp_path: Path) -> None:
    nowhere = Cluster(tmp_path)
    assert nowhere.check(name, "--help").startswith(b"usage: " + name.encode())
    assert nowhere.check(name, "--version").startswith(name.encode() + b" (Heorot) ")
    assert nowhere.check(name, "-V") == nowhere.check(name, "-v")
