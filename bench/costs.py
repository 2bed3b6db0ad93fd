"""``python -m bench.costs``: what launches cost the daemons of real clusters, fitted for `heorot.sim.timed.scale`.

Clusters of 64 and 256 nodes with different fan-outs give the coefficients; a cluster that is left out of the fit (1,024
nodes) shows how far the model is off. Writes ``bench/out/costs.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench import machine
from bench.cluster import BenchError, Cluster, command, cpu_s
from bench.counting import CountingClient
from bench.fit import least_squares
from bench.launches import library_launches_s
from heorot.core.tree.shape import parent_of
from heorot.sim.timed.cluster import TimedCluster, one_machine
from heorot.sim.timed.costs import MEASURED, Costs, DaemonCosts, TimedUsage, as_json

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "bench" / "out" / "costs.json"
FIT = ((64, 8), (64, 32), (64, 64), (256, 16), (256, 32), (256, 128))
"""Nodes and fan-out of the clusters that the coefficients are fitted to."""
CHECK = ((64, 32), (256, 32), (1024, 32))
"""Those whose launches are predicted; the last is not fitted to."""
FAT_BYTES = 32 * 1024
FAT_RANKS = 4


@dataclass
class Sample:
    """What launches of one kind cost on one cluster: medians over rounds, in seconds for one launch."""

    nodes: int
    fanout: int
    ranks_a_node: int = 1
    environment_bytes: int = 0
    head_s: float = 0.0
    agents_s: list[float] = field(default_factory=list)
    """Of each node."""
    inits_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    """Of whole commands."""
    others_s: list[float] = field(default_factory=list)
    """The CPU time that other programs had meanwhile, on all cores."""

    @property
    def name(self) -> str:
        """Size and fan-out."""
        return f"{self.nodes}/{self.fanout}"


def _say(text: str) -> None:
    print(f"costs: {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------- real clusters


class FannedCluster(Cluster):
    """A cluster with a fan-out of its own."""

    def __init__(self, nodes: int, fanout: int) -> None:
        super().__init__(nodes, "--fanout", str(fanout))
        self.fanout = fanout

    def __enter__(self) -> FannedCluster:
        super().__enter__()
        return self


def measure(cluster: FannedCluster, rounds: int, repetitions: int, ranks_a_node: int = 1, fat: int = 0) -> Sample:
    """Launch over one connection again and again, and look at every daemon's CPU time before and after."""
    nodes = cluster.nodes
    sample = Sample(nodes, cluster.fanout, ranks_a_node, fat)
    daemons = cluster.daemon_pids()
    heads, agents, inits = [], [], []
    with CountingClient(cluster.directory) as client:
        for _ in range(3):
            client.launch_everywhere(nodes, ranks_a_node, fat)
        for _ in range(rounds):
            before = [[cpu_s([pid]) for pid in daemons[kind]] for kind in ("head", "agents", "inits")]
            for _ in range(repetitions):
                client.launch_everywhere(nodes, ranks_a_node, fat)
            after = [[cpu_s([pid]) for pid in daemons[kind]] for kind in ("head", "agents", "inits")]
            spent = [
                [(late - early) / repetitions for early, late in zip(*pair, strict=True)]
                for pair in zip(before, after, strict=True)
            ]
            heads.append(sum(spent[0]))
            agents.append(spent[1])
            inits.append(spent[2])
    sample.head_s = statistics.median(heads)
    sample.agents_s = [statistics.median(values) for values in zip(*agents, strict=True)]
    sample.inits_s = [statistics.median(values) for values in zip(*inits, strict=True)]
    return sample


def process_s(repetitions: int = 400) -> float:
    """Return the CPU time of ``/bin/true`` from its start to its end."""
    times = []
    for _ in range(repetitions):
        usage = os.wait4(os.posix_spawn("/bin/true", ["/bin/true"], {}), 0)[2]
        times.append(usage.ru_utime + usage.ru_stime)
    return statistics.median(times)


def _machine_s() -> float:
    """Return the CPU time that all cores have given to anybody so far, in seconds; ticks of 10 ms."""
    with open("/proc/stat", "rb") as file:
        user, nice, system, _idle, _wait, interrupts, soft, stolen = map(int, file.readline().split()[1:9])
    return (user + nice + system + interrupts + soft + stolen) / os.sysconf("SC_CLK_TCK")


def _bench_s() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def walls(sample: Sample, cluster: Cluster, repetitions: int, true_s: float) -> None:
    """Take the wall times of ``bpsh -a /bin/true``, and what of them other programs on this machine took away."""
    daemons = cluster.daemon_pids()
    pids = daemons["head"] + daemons["agents"] + daemons["inits"]
    for repetition in range(repetitions + 2):
        # What follows a launch is left to pass.
        time.sleep(0.4 + cluster.nodes / 2000)
        machine_s, daemons_s, bench_s = _machine_s(), cpu_s(pids), _bench_s()
        wall_s = cluster.timed("bpsh", "-a", "/bin/true")
        ours_s = cpu_s(pids) - daemons_s + _bench_s() - bench_s + cluster.nodes * true_s
        others_s = max(0.0, _machine_s() - machine_s - ours_s)
        if repetition >= 2:
            sample.wall_s.append(wall_s)
            sample.others_s.append(others_s)


def quiet_wall_s(sample: Sample) -> float:
    """Return the wall time less what others took: the median of the half of the launches in which that was least."""
    cores = len(os.sched_getaffinity(0))
    taken = sorted(
        (other / cores, wall - other / cores) for other, wall in zip(sample.others_s, sample.wall_s, strict=True)
    )
    return statistics.median(wall for _, wall in taken[: max(1, len(taken) // 2)])


# ---------------------------------------------------------------------------------------------------- the command


def bpsh_before_s(repetitions: int = 15) -> float:
    """Return the CPU time of `bpsh` until its request arrives: at a socket of ours, which no head reads."""
    directory = Path(tempfile.mkdtemp(prefix="heorot-bench-"))
    times = []
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(directory / "head.sock"))
            listener.listen()
            listener.settimeout(10)
            for _ in range(repetitions):
                environment = os.environ | {"HEOROT_DIR": str(directory)}
                pid = os.posix_spawn(command("bpsh"), ["bpsh", "-a", "/bin/true"], environment)
                try:
                    connection = listener.accept()[0]
                    connection.settimeout(10)
                    connection.recv(1)
                finally:
                    os.kill(pid, signal.SIGKILL)
                    usage = os.wait4(pid, 0)[2]
                connection.close()
                times.append(usage.ru_utime + usage.ru_stime)
    finally:
        shutil.rmtree(directory)
    return statistics.median(times)


def bpsh_cpu_s(cluster: Cluster, repetitions: int = 15) -> float:
    """Return the CPU time of a whole `bpsh n0 /bin/true`."""
    null = os.open(os.devnull, os.O_RDWR)
    times = []
    try:
        for _ in range(repetitions):
            pid = cluster.start("bpsh", "n0", "/bin/true", stdin=null, stdout=null)
            usage = os.wait4(pid, 0)[2]
            times.append(usage.ru_utime + usage.ru_stime)
    finally:
        os.close(null)
    return statistics.median(times)


# ---------------------------------------------------------------------------------------------------- chunks


def _timed_us(action: Callable[[], object], repetitions: int = 200) -> float:
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def chunk_us_per_kib(size_kib: int = 64) -> tuple[float, float]:
    """Return what a KiB of a chunk costs who takes it and who sends it: digest, TLS, socket, file."""
    data = os.urandom(size_kib * 1024)
    with tempfile.TemporaryFile() as file, tempfile.TemporaryDirectory(prefix="heorot-bench-") as directory:
        writes = _timed_us(lambda: os.pwrite(file.fileno(), data, 0))
        reads = _timed_us(lambda: os.pread(file.fileno(), len(data), 0))
        digest = _timed_us(lambda: sha256(data).digest())
        seal, unseal = _tls_us(Path(directory), data)
    left, right = socket.socketpair()
    with left, right:
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * len(data))

        def receive() -> None:
            missing = len(data)
            while missing:
                missing -= len(right.recv(missing))

        sends, receives = [], []
        for _ in range(200):
            sends.append(_timed_us(lambda: left.sendall(data), 1))
            receives.append(_timed_us(receive, 1))
    taken = statistics.median(receives) + unseal + digest + writes
    sent = reads + seal + statistics.median(sends)
    return taken / size_kib, sent / size_kib


def _tls_us(directory: Path, data: bytes) -> tuple[float, float]:
    """Return what TLS 1.3 needs to encrypt and to decrypt this."""
    pem = directory / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=n0",
         "-days", "1", "-keyout", str(pem), "-out", str(directory / "certificate.pem")],
        check=True, capture_output=True, timeout=30,
    )  # fmt: skip
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "certificate.pem", pem)
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    down, up = ssl.MemoryBIO(), ssl.MemoryBIO()
    upper = server.wrap_bio(up, down, server_side=True)
    lower = client.wrap_bio(down, up)
    for _ in range(8):
        for side in (lower, upper):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    seals, unseals = [], []
    for _ in range(200):
        seals.append(_timed_us(lambda: upper.write(data), 1))
        unseals.append(_timed_us(lambda: [lower.read(16384) for _ in range(-(-len(data) // 16384))], 1))
    return statistics.median(seals), statistics.median(unseals)


# ---------------------------------------------------------------------------------------------------- the fit


def simulate(sample: Sample, costs: Costs) -> TimedCluster:
    """Return a cluster in which the launches of a sample have just happened, as they do in `measure`."""
    cluster = TimedCluster(sample.nodes, sample.fanout, one_machine(os.cpu_count() or 1, costs), costs)
    for _ in range(2):
        cluster.launch(ranks_a_node=sample.ranks_a_node, environment_bytes=sample.environment_bytes, bare=True)
    return cluster


def _groups(sample: Sample) -> list[list[int]]:
    """Return the nodes that do the same: the relays, and the leaves."""
    relays = sorted({parent_of(node, sample.fanout) for node in range(sample.nodes)} - {-1})
    leaves = [node for node in range(sample.nodes) if node not in set(relays)]
    return [[relay] for relay in relays] + ([leaves] if leaves else [])


def _mean(rows: list[list[float]]) -> list[float]:
    return [statistics.mean(column) for column in zip(*rows, strict=True)]


def fit(samples: list[Sample], costs: Costs) -> Costs:
    """Return the coefficients that explain the CPU times best, with the numbers of messages that the model counts."""
    for _ in range(2):
        rows: dict[str, list[list[float]]] = {"head": [], "agent": [], "init": []}
        spent: dict[str, list[float]] = {"head": [], "agent": [], "init": []}
        for sample in samples:
            cluster = simulate(sample, costs)
            rows["head"].append(cluster.head.usage.row())
            spent["head"].append(sample.head_s * 1e6)
            for group in _groups(sample):
                daemons: list[tuple[str, list[TimedUsage], list[float]]] = [
                    ("agent", [cluster.nodes[node].usage for node in group], sample.agents_s),
                    ("init", [cluster.nodes[node].init.usage for node in group], sample.inits_s),
                ]
                for kind, usages, seconds in daemons:
                    rows[kind].append(_mean([usage.row() for usage in usages]))
                    spent[kind].append(statistics.median([seconds[node] for node in group]) * 1e6)
        fitted = {kind: DaemonCosts(*least_squares(rows[kind], spent[kind])) for kind in rows}
        costs = replace(costs, head=fitted["head"], agent=fitted["agent"], init=fitted["init"])
    return costs


# ---------------------------------------------------------------------------------------------------- the whole


def _measure_all(rounds: int, repetitions: int) -> tuple[list[Sample], Costs]:
    samples: list[Sample] = []
    taken_us, sent_us = chunk_us_per_kib()
    before_s = bpsh_before_s()
    process_us = process_s() * 1e6
    costs = replace(
        MEASURED, process_us=process_us, chunk_in_us=taken_us, chunk_out_us=sent_us, client_before_us=before_s * 1e6
    )
    for nodes, fanout in dict.fromkeys((*FIT, *CHECK)):
        _say(f"{nodes} nodes, fan-out {fanout}")
        with FannedCluster(nodes, fanout) as cluster:
            sample = measure(cluster, rounds, repetitions if nodes <= 256 else max(2, repetitions // 4))
            if (nodes, fanout) in CHECK:
                walls(sample, cluster, 21 if nodes <= 256 else 11, process_us / 1e6)
            samples.append(sample)
            if (nodes, fanout) == (64, 32):
                # The quickest of many: this is about what has to follow each other, not about who else wants the cores.
                one_s = min(library_launches_s(cluster, 30))
                command_s = min(cluster.timed("bpsh", "n0", "/bin/true") for _ in range(30))
                whole_s = bpsh_cpu_s(cluster)
                costs = replace(
                    costs,
                    client_after_us=max(0.0, whole_s - before_s) * 1e6,
                    client_end_us=min(max(0.0, command_s - before_s - one_s), max(0.0, whole_s - before_s)) * 1e6,
                )
            if fanout == 32 and nodes <= 64:
                samples.append(measure(cluster, rounds, repetitions, ranks_a_node=FAT_RANKS))
                samples.append(measure(cluster, rounds, repetitions, fat=FAT_BYTES))
    return samples, costs


def _check(samples: list[Sample], costs: Costs) -> list[dict[str, Any]]:
    """Predict the launches of the clusters that were measured, and compare."""
    rows = []
    for sample in samples:
        if sample.ranks_a_node > 1 or sample.environment_bytes:
            continue
        cluster = simulate(sample, costs)
        row: dict[str, Any] = {
            "nodes": sample.nodes,
            "fanout": sample.fanout,
            "fitted": (sample.nodes, sample.fanout) in FIT,
            "head_cpu_s": [sample.head_s, cluster.head.process.busy_ns / 1e9],
            "agent_cpu_s": [
                statistics.mean(sample.agents_s),
                statistics.mean(node.process.busy_ns for node in cluster.nodes) / 1e9,
            ],
            "init_cpu_s": [
                statistics.mean(sample.inits_s),
                statistics.mean(node.init.process.busy_ns for node in cluster.nodes) / 1e9,
            ],
        }
        if sample.wall_s:
            fresh = TimedCluster(sample.nodes, sample.fanout, one_machine(os.cpu_count() or 1, costs), costs)
            fresh.launch()
            fresh.settle()
            row["wall_s"] = [quiet_wall_s(sample), fresh.launch().wall_s]
            row["raw_wall_s"] = statistics.median(sample.wall_s)
            row["others_s"] = statistics.median(sample.others_s)
        rows.append(row)
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| nodes / fan-out | in the fit | measured | real | model | error |", "| --- | --- | --- | ---: | ---: | ---: |"
    ]  # fmt: skip
    names = {
        "wall_s": "wall time",
        "head_cpu_s": "head's CPU",
        "agent_cpu_s": "an agent's",
        "init_cpu_s": "a bpinit's",
    }
    for row in rows:
        for key, name in names.items():
            if key in row:
                real, model = row[key]
                lines.append(
                    f"| {row['nodes']:,} / {row['fanout']} | {'yes' if row['fitted'] else 'no'} | {name} "
                    f"| {real * 1e3:.3g} ms | {model * 1e3:.3g} ms | {(model / real - 1) * 100:+.0f} % |"
                )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, fit, compare, and write the table; return the status to exit with."""
    parser = argparse.ArgumentParser(prog="python -m bench.costs", description="Measure what launches cost.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=12, help="launches in a round (default: %(default)s)")
    options = parser.parse_args(arguments)
    # A terminated measurement must take its cluster down as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        samples, costs = _measure_all(options.rounds, options.repetitions)
    except KeyboardInterrupt:
        _say("interrupted; the cluster is down again")
        return 130
    except (BenchError, OSError, subprocess.SubprocessError) as error:
        _say(str(error))
        return 2
    fitted = [sample for sample in samples if (sample.nodes, sample.fanout) in FIT]
    costs = fit(fitted, costs)
    rows = _check(samples, costs)
    OUT.parent.mkdir(parents=True, exist_ok=True)
    raw = [vars(sample) for sample in samples]
    value = {"machine": machine.describe(), "costs": as_json(costs), "check": rows, "samples": raw}
    OUT.write_text(json.dumps(value, indent=1) + "\n")
    print(_table(rows))
    print(costs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
