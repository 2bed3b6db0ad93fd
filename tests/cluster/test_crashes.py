"""Daemons and clients that are killed while jobs run: who notices, and what is left."""

from __future__ import annotations

import os
import signal
import subprocess
import uuid

import pytest

from tests.cluster.harness import DEADLINE_S, Cluster, await_that, host_pids, is_alive, kill_hard, parent

LINES = 20_000
COUNT = f"i=0; while [ $i -lt {LINES} ]; do echo line-$i; i=$((i+1)); done"
EXPECTED = b"".join(b"line-%d\n" % i for i in range(LINES))


def test_agent_killed_during_output_is_not_noticed_by_the_job(own: Cluster) -> None:
    agent = own.node(6)["agent_pid"]
    with own.start("bpsh", "n6", "/bin/sh", "-c", f"{COUNT}; exit 7") as process:
        assert process.stdout is not None
        first = process.stdout.read(1000)
        kill_hard(agent)
        output, errors = process.communicate(timeout=DEADLINE_S)
    assert first + output == EXPECTED
    assert (process.returncode, errors) == (7, b"")
    own.await_up()
    assert own.node(6)["agent_pid"] != agent


def test_interior_agents_killed_during_output_are_not_noticed_by_the_job(own: Cluster) -> None:
    with own.start("bpsh", "-p", "n2,n3,n6", "/bin/sh", "-c", f"{COUNT}; exit 3") as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        for number in (0, 2):
            kill_hard(own.node(number)["agent_pid"])
        output, errors = process.communicate(timeout=DEADLINE_S)
    lines = (first + output).splitlines(keepends=True)
    for node in (b"  2: ", b"  3: ", b"  6: "):
        assert b"".join(line.removeprefix(node) for line in lines if line.startswith(node)) == EXPECTED
    assert len(lines) == 3 * LINES
    assert (process.returncode, errors) == (3, b"")


def test_agent_killed_while_input_is_broadcast_loses_no_byte(own: Cluster) -> None:
    data = os.urandom(1 << 20)
    with own.start("bpsh", "-a", "/usr/bin/md5sum", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(data[:400_000])
        process.stdin.flush()
        kill_hard(own.node(0)["agent_pid"])
        kill_hard(own.node(5)["agent_pid"])
        output, errors = process.communicate(data[400_000:], timeout=DEADLINE_S)
    digest = subprocess.run(["/usr/bin/md5sum"], input=data, stdout=subprocess.PIPE, check=True).stdout
    assert output == digest * 7
    assert (process.returncode, errors) == (0, b"")


def test_agents_killed_around_launches_start_every_rank_once(own: Cluster, tmp_path: os.PathLike[str]) -> None:
    for attempt in range(3):
        log = os.path.join(tmp_path, f"started-{attempt}")
        with own.start("bpsh", "-a", "/bin/sh", "-c", f'echo "$BPROC_RANK" >> {log}') as process:
            kill_hard(own.node(attempt)["agent_pid"])
            _, errors = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, errors) == (0, b"")
        with open(log) as file:
            assert sorted(map(int, file)) == list(range(7))
        own.await_up()


def test_node_killed_during_a_job_loses_its_rank_alone(own: Cluster) -> None:
    with own.start(
        "bpsh", "-p", "n2,n6,n4", "/bin/sh", "-c", "echo here; read word; echo $word", stdin=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert b"here" in process.stdout.readline()
        node = own.node(2)
        os.kill(node["agent_pid"], signal.SIGKILL)
        kill_hard(node["init_pid"])
        await_that(lambda: own.node(2)["state"] == "down", "node 2 down")
        output, errors = process.communicate(b"onward\n", timeout=DEADLINE_S)
    # n6 was below n2 in the tree, and goes on.
    assert sorted(output.splitlines()) == [b"  4: onward", b"  6: onward"]
    assert process.returncode == 255
    assert b"n2" in errors
    assert b"n4" not in errors
    assert b"n6" not in errors


def test_lost_ranks_are_told_from_those_that_ended(own: Cluster) -> None:
    job = own.detach("n1,n3", "/bin/sh", "-c", '[ "$BPROC_RANK" = 0000000 ] || exec sleep 600; exit 5')
    own.await_job(job, lambda shown: shown["exited"] == 1, "rank 0 over")
    kill_hard(own.node(3)["init_pid"])
    shown = own.await_job(job, lambda shown: shown["running"] == 0, "no rank runs")
    assert shown["statuses"]["0"] == {"code": 5}
    assert set(shown["statuses"]["1"]) == {"lost"}


def test_a_dead_nodes_processes_are_dead_and_it_can_be_started_again(own: Cluster) -> None:
    marker = uuid.uuid4().hex
    own.detach("n4", "/bin/sh", "-c", "sleep 600 & setsid sleep 600 & wait", marker)
    pids = await_that(lambda: host_pids(marker), "the process there")
    kill_hard(own.node(4)["init_pid"])
    await_that(lambda: not any(map(is_alive, pids)), "the node's processes gone")
    own.check("heorot", "node", "start", "n4")
    own.await_up(4)
    assert own.check("bpsh", "n4", "echo", "again") == b"again\n"
    assert own.processes("-n", "n4") == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_client_that_dies_takes_its_job_with_it(shared: Cluster, number: int) -> None:
    marker = uuid.uuid4().hex
    script = "trap '' TERM HUP INT; sleep 600 & echo ready; while :; do sleep 600; done"
    with shared.start("bpsh", "-a", "/bin/sh", "-c", script, marker) as process:
        assert process.stdout is not None
        for _ in range(8):
            assert process.stdout.readline() == b"ready\n"
        job = next(row["job"] for row in shared.processes() if marker in row["argv"])
        # A client that may still speak forwards the signal, which these processes ignore; the second time it gives up.
        process.send_signal(number)
        if number != signal.SIGKILL:
            await_that(lambda: len(host_pids(marker)) == 8, "the processes, which ignore the signal")
            process.kill()
        process.communicate(timeout=DEADLINE_S)
    await_that(lambda: not host_pids(marker), "no process of the job left")
    await_that(lambda: not [row for row in shared.processes() if row["job"] == job], "the table without the job")


def test_nothing_is_left_when_the_warden_is_killed(own: Cluster) -> None:
    marker = uuid.uuid4().hex
    own.detach("-a", "/bin/sh", "-c", "sleep 600 & setsid sleep 600 & exec sleep 600", marker)
    own.detach("-a", "sleep", "600", marker)
    status = own.status()
    daemons = [head[key] for head in status["heads"] for key in ("pid", "keeper_pid")]
    for node in status["nodes"]:
        daemons += [node["agent_pid"], node["init_pid"]]
    # The keeper's parent, which forks and restarts all daemons of an embedded cluster.
    kill_hard(parent(parent(own.head_pid())))
    own.down()
    await_that(lambda: not [pid for pid in daemons if is_alive(pid)], "the end of all daemons")
    await_that(lambda: not host_pids(marker), "the end of all jobs")
    assert not own.directory.exists()
