"""Bytes: output of many ranks to one reader, and one input to many ranks."""

from __future__ import annotations

import os
import time

from bench.cluster import BenchError, Cluster
from bench.floor import broadcast_floor_s, pipe_chain_floor_s
from bench.results import Report, Series

MB = 1_000_000
HOPS = 4
"""bpinit, agent, head and bpsh copy each byte of output; the agents of some nodes one step further down once more."""
BLOCK_BYTES = 1 << 16


def output(report: Report, cluster: Cluster, bytes_per_rank: int, repetitions: int) -> None:
    """Every rank writes; bpsh hands everything to one pipe."""
    total = bytes_per_rank * cluster.nodes
    arguments = ["-a", "/usr/bin/head", "-c", str(bytes_per_rank), "/dev/zero"]
    floors, times = [], []
    for _ in range(repetitions):
        floors.append(pipe_chain_floor_s(total, HOPS))
        times.append(_timed_output(cluster, arguments, total))
    what = f"{cluster.nodes} ranks x {bytes_per_rank / MB:.0f} MB output"
    _add(report, "output", what, f"a chain of pipes with {HOPS} copying processes", Series(floors), Series(times))


def _timed_output(cluster: Cluster, arguments: list[str], total: int) -> float:
    null = os.open(os.devnull, os.O_RDWR)
    source, target = os.pipe()
    try:
        start = time.perf_counter()
        pid = cluster.start("bpsh", *arguments, stdin=null, stdout=target)
        os.close(target)
        received = 0
        while data := os.read(source, BLOCK_BYTES):
            received += len(data)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        elapsed = time.perf_counter() - start
    finally:
        os.close(source)
        os.close(null)
    if status != 0 or received != total:
        raise BenchError(f"bpsh ended with {status} and gave {received} of {total} bytes")
    return elapsed


def broadcast(report: Report, cluster: Cluster, total_bytes: int, repetitions: int) -> None:
    """One input of `total_bytes` for every rank, each of which counts what it gets."""
    floors, times = [], []
    for _ in range(repetitions):
        floors.append(broadcast_floor_s(total_bytes, cluster.nodes))
        times.append(_timed_input(cluster, total_bytes))
    what = f"{total_bytes / MB:.0f} MB of input to {cluster.nodes} ranks"
    _add(report, "broadcast", what, "one process that writes into a pipe for each", Series(floors), Series(times))


def _timed_input(cluster: Cluster, total: int) -> float:
    source, target = os.pipe()
    result_source, result_target = os.pipe()
    start = time.perf_counter()
    pid = cluster.start("bpsh", "-a", "/usr/bin/wc", "-c", stdin=source, stdout=result_target)
    os.close(source)
    os.close(result_target)
    try:
        block = bytes(BLOCK_BYTES)
        left = total
        while left:
            left -= os.write(target, block[: min(left, BLOCK_BYTES)])
        os.close(target)
        target = -1
        counts = b""
        while data := os.read(result_source, BLOCK_BYTES):
            counts += data
    except BrokenPipeError:
        raise BenchError("bpsh ended before it had read its input") from None
    finally:
        if target >= 0:
            os.close(target)
        os.close(result_source)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        elapsed = time.perf_counter() - start
    if status != 0 or counts.split() != [b"%d" % total] * cluster.nodes:
        raise BenchError(f"bpsh ended with {status}; not every rank counted {total} bytes: {counts[:200]!r}")
    return elapsed


def _add(report: Report, key: str, what: str, floor_name: str, floor: Series, time_taken: Series) -> None:
    report.add(f"{key}-floor", f"floor of {what}: {floor_name}", floor, "s")
    report.add(key, what, time_taken, "s")
    report.add(f"{key}-ratio", f"{what}, by the floor", time_taken.ratios_to(floor), "x")
