"""Bytes through the whole chain: process, bpinit, agents, head, client."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import heorot
from tests.cluster.harness import DEADLINE_S, Cluster, await_that, private_bytes

pytestmark = pytest.mark.slow

MB = 1_000_000
BYTES_PER_RANK = 2 * MB
"""The benchmark sends 16 MB; here the exactness counts."""
BROADCAST_BYTES = 10 * MB
FLAT_BYTES = 4 * MB
"""By so much a daemon's memory may grow while streams stand still: their windows, and what malloc keeps."""

WRITER = """
import hashlib, os
rank = os.environ["BPROC_RANK"]
data = hashlib.shake_128(rank.encode()).digest(%d)
os.write(2, hashlib.sha256(data).hexdigest().encode())
view = memoryview(data)
while view:
    view = view[os.write(1, view[:50021]):]
"""


def test_sixty_four_ranks_that_write_at_the_same_time_arrive_exactly(large: Cluster) -> None:
    script = WRITER % BYTES_PER_RANK
    received = [hashlib.sha256() for _ in range(64)]
    sizes, claims = [0] * 64, [b""] * 64
    arguments = [sys.executable, "-I", "-S", "-c", script]
    with heorot.connect(large.directory) as connection, connection.spawn(arguments) as job:
        for chunk in job.output:
            if chunk.stream == 1:
                received[chunk.rank].update(chunk.data)
                sizes[chunk.rank] += len(chunk.data)
            else:
                claims[chunk.rank] += chunk.data
        statuses = job.wait(DEADLINE_S)
    assert [status.code for status in statuses] == [0] * 64
    assert sizes == [BYTES_PER_RANK] * 64
    assert [digest.hexdigest().encode() for digest in received] == claims
    assert len(set(claims)) == 64


def test_input_is_broadcast_to_sixty_four_ranks_exactly(large: Cluster) -> None:
    data = os.urandom(BROADCAST_BYTES)
    output = large.check("bpsh", "-a", "/usr/bin/sha256sum", stdin=data)
    assert output == f"{hashlib.sha256(data).hexdigest()}  -\n".encode() * 64


def test_binary_bytes_pass_unchanged_in_both_directions_and_both_streams(shared: Cluster) -> None:
    data = bytes(range(256)) * 1000 + os.urandom(300_000) + b"\xff\x00\r\n\x1a\x04\x03"
    result = shared.run("bpsh", "n6", "/usr/bin/tee", "/dev/stderr", stdin=data)
    assert result.returncode == 0
    assert result.stdout == data
    assert result.stderr == data


def test_the_end_of_input_reaches_every_rank(shared: Cluster) -> None:
    assert shared.check("bpsh", "-a", "/usr/bin/wc", "-c") == b"0\n" * 8


def test_input_ends_in_pieces_as_it_was_written(shared: Cluster) -> None:
    with shared.start("bpsh", "n3", "/bin/cat", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for piece in (b"a", b"bc", b"\n" * 3):
            process.stdin.write(piece)
            # It comes back while the input is still open: nothing waits for a full buffer.
            assert process.stdout.read(len(piece)) == piece
        process.stdin.close()
        process.stdin = None
        assert process.wait(DEADLINE_S) == 0


def test_ranks_that_take_no_input_do_not_hold_up_the_others(shared: Cluster) -> None:
    data = os.urandom(3 * MB)
    script = "case $BPROC_RANK in *3) exec /usr/bin/sha256sum;; *1) exec 0</dev/null; sleep 1;; esac"
    output = shared.check("bpsh", "-a", "/bin/sh", "-c", script, stdin=data)
    assert output == f"{hashlib.sha256(data).hexdigest()}  -\n".encode()


def test_a_reader_that_stops_stalls_its_own_job_alone_and_costs_no_memory(large: Cluster) -> None:
    status = large.status()
    daemons = {"head": large.head_pid()}
    for number in (0, 1, 63):
        daemons[f"agent {number}"] = status["nodes"][number]["agent_pid"]
        daemons[f"init {number}"] = status["nodes"][number]["init_pid"]
    large.check("bpsh", "-a", "/bin/sh", "-c", "head -c 300000 /dev/zero")
    before = {name: private_bytes(pid) for name, pid in daemons.items()}
    with large.start("bpsh", "-L", "-a", "/usr/bin/yes", "abcdefghijklmnop") as stalled:
        assert stalled.stdout is not None
        line = b"abcdefghijklmnop\n"
        assert stalled.stdout.read(len(line)) == line

        # All writers sleep in write(2), and use no more processor time: their streams stand still.
        def writers() -> list[tuple[str, int]]:
            rows = [row for row in large.processes() if row["argv"][0] == "/usr/bin/yes"]
            assert len(rows) == 64
            return [(row["state"], row["user_time_ms"]) for row in rows]

        def standing() -> bool:
            former = writers()
            return all(state == "S" for state, _ in former) and former == writers() and former == writers()

        await_that(standing, "all writers standing still")
        for _ in range(5):
            assert large.check("bpsh", "-a", "/bin/echo", "onward") == b"onward\n" * 64
        grown = {name: private_bytes(pid) - before[name] for name, pid in daemons.items()}
        assert max(grown.values()) < FLAT_BYTES + 64 * 65536, grown
        # And it goes on where it stood.
        more = b""
        while len(more) < 3 * MB:
            more += stalled.stdout.read(1 << 16)
        assert set(more.split(b"\n")[:-1]) == {line.strip()}
        stalled.kill()


def test_output_into_a_file_on_the_node(shared: Cluster, tmp_path: Path) -> None:
    target = tmp_path / "output"
    assert shared.check("bpsh", "-O", str(target), "n2", "/bin/echo", "there") == b""
    assert target.read_bytes() == b"there\n"


def test_a_broken_pipe_ends_bpsh_and_its_job_as_it_ends_a_local_command(shared: Cluster) -> None:
    with shared.start("bpsh", "-a", "/usr/bin/yes", "until-the-pipe-breaks") as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"until"
        process.stdout.close()
        process.stdout = None
        status = process.wait(DEADLINE_S)
    assert status in (-13, 128 + 13)
    await_that(lambda: not [row for row in shared.processes() if "until-the-pipe-breaks" in row["argv"]], "job gone")


def test_whole_lines_stay_whole(large: Cluster) -> None:
    script = 'i=0; while [ $i -lt 300 ]; do printf "%s-" "$BPROC_RANK"; echo $i; i=$((i+1)); done'
    lines = large.check("bpsh", "-L", "-a", "/bin/sh", "-c", script).splitlines()
    assert sorted(lines) == sorted(f"{rank:07}-{i}".encode() for rank in range(64) for i in range(300))
