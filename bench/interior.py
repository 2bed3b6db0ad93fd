"""Interior nodes that die in the middle of a launch or of a broadcast: ``python -m bench.interior``.

The cluster is real. Every rank writes its number into one file, where starts are counted, writes it to its output, and
ends with a status of its own. At a random moment of the launch an interior node of one level of the tree is killed
with -9: its *agent*, which is restarted; its *bpinit*, which the agent has time to tell of; or the whole *node*, both
at once, of which nobody tells. The rank of a dead node is lost by design unless it was over; every other rank must have
started once, and its output and its status must be right. Each launch that is disturbed stands next to one that is not,
and the tree is whole again before each.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.cluster import BenchError, Cluster
from bench.limited import make_program
from bench.results import Series
from heorot.core.tree.nodeset import HEAD
from heorot.core.tree.shape import ancestors_of, parent_of

OUT = Path(__file__).resolve().parent / "out"
HANGING_S = 90.0
WHOLE_AGAIN_S = 120.0
PAUSE_S = 0.2
SETTLE_S = 0.4
"""250 ms after a launch its nodes are told to forget the job."""
WARM_UPS = 3
KINDS = {"agent": ["agent"], "bpinit": ["init"], "node": ["init", "agent"]}
"""What is killed, and the daemons that are."""
CACHE_MIB = 48
"""Of each node: two programs of a broadcast at most, as there are many nodes on one disk."""
FAULTS = ("lost", "doubled", "wrong", "strays", "hanging")
"""What must never be, as counted in each launch."""
SHELL = Path("/bin/sh")
SCRIPT = 'echo $BPROC_RANK >>"$0"; echo $BPROC_RANK; exit ${BPROC_RANK#??????}'


@dataclass
class Victim:
    """Who is killed, how, and when."""

    node: int
    level: int
    pids: list[int]
    dies: bool
    """Its bpinit is killed, and with it the rank there."""
    at_s: float
    killed: bool = False

    def kill(self) -> None:
        """Kill it, once."""
        if not self.killed:
            self.killed = True
            for pid in self.pids:
                os.kill(pid, signal.SIGKILL)


@dataclass
class Outcome:
    """What one launch took, and everything that was not right with it."""

    wall_s: float = 0.0
    """Of the whole command."""
    living_s: float = 0.0
    """Until the output of every rank was there, except that of the node that was killed."""
    below_s: float = 0.0
    """The same of the ranks below it alone."""
    own_s: float = 0.0
    """The same of its own rank, 0 if that was lost."""
    own_lost: int = 0
    """Ranks of the node that was killed whose status says so."""
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    strays: int = 0
    hanging: int = 0
    findings: list[str] = field(default_factory=list)
    victim: Victim | None = None

    def text(self, victim: Victim, plain_s: float) -> str:
        """One line for whoever watches."""
        times = {"undisturbed": plain_s, "others": self.living_s, "below it": self.below_s, "own": self.own_s}
        shown = ", ".join(f"{name} {time_s:.2f} s" for name, time_s in (times | {"whole": self.wall_s}).items())
        return f"n{victim.node} (level {victim.level}) killed after {victim.at_s:.2f} s: {shown}"

    @property
    def faults(self) -> int:
        """How much was not as it must be."""
        return sum(getattr(self, name) for name in FAULTS)


class Interior:
    """Launches on all nodes of a cluster, disturbed and not."""

    def __init__(self, cluster: Cluster, fanout: int, program_bytes: int, seed: int) -> None:
        self.cluster = cluster
        self.fanout = fanout
        self._program_bytes = program_bytes
        self._seed = seed
        self.random = random.Random(seed)
        self._launches = 0
        self.place = cluster.parent / "ranks"
        self.place.mkdir(mode=0o777)

    # ------------------------------------------------------------------ one launch

    def launch(self, victim: Victim | None = None) -> Outcome:
        """Launch on all nodes, kill the victim meanwhile, and compare everything."""
        self._launches += 1
        log = self.place / f"{self._launches}"
        log.touch()
        program = SHELL
        options = ["-a", "-p"]
        if self._program_bytes:
            program = self.place / f"program{self._launches}"
            make_program(program, self._program_bytes, self._seed * 100_000 + self._launches, does=SHELL)
            options += ["--image", "send"]
        outcome = Outcome(victim=victim)
        lines, status = self._run(outcome, [*options, str(program), "-c", SCRIPT, str(log)], victim)
        if not outcome.hanging:
            self._compare(outcome, lines, status, log)
        self._look_for_strays(outcome, str(log))
        if self._program_bytes:
            program.unlink()
        log.unlink()
        return outcome

    def _run(self, outcome: Outcome, arguments: list[str], victim: Victim | None) -> tuple[list[bytes], int]:
        """Run bpsh and kill the victim when its time has come; return the lines and the exit status."""
        null = os.open(os.devnull, os.O_RDWR)
        source, target = os.pipe()
        lines: list[bytes] = []
        arrived_s: dict[bytes, float] = {}
        rest = b""
        try:
            start_s = time.perf_counter()
            pid = self.cluster.start("bpsh", *arguments, stdin=null, stdout=target)
            os.close(target)
            due_s = start_s + victim.at_s if victim else start_s + HANGING_S
            while True:
                now_s = time.perf_counter()
                if victim is not None and now_s >= due_s:
                    victim.kill()
                    due_s = start_s + HANGING_S
                if now_s >= start_s + HANGING_S and not outcome.hanging:
                    outcome.hanging = 1
                    outcome.findings.append(f"bpsh hangs; {len(arrived_s)} ranks were heard of")
                    os.kill(pid, signal.SIGKILL)
                if not select.select([source], [], [], max(0.0, due_s - now_s))[0]:
                    continue
                block = os.read(source, 1 << 20)
                if not block:
                    break
                *whole, rest = (rest + block).split(b"\n")
                lines += whole
                arrived_s.update(dict.fromkeys(whole, time.perf_counter() - start_s))
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            outcome.wall_s = time.perf_counter() - start_s
            if victim is not None:
                victim.kill()
        finally:
            os.close(source)
            os.close(null)
        own = _line(victim.node) if victim else b""
        outcome.own_s = arrived_s.pop(own, 0.0)
        outcome.living_s = max(arrived_s.values(), default=0.0)
        if victim:
            below = [
                _line(node) for node in range(self.cluster.nodes) if victim.node in ancestors_of(node, self.fanout)
            ]
            outcome.below_s = max((arrived_s[line] for line in below if line in arrived_s), default=0.0)
        return lines + ([rest] if rest else []), status

    def _compare(self, outcome: Outcome, lines: list[bytes], status: int, log: Path) -> None:
        nodes = self.cluster.nodes
        job = json.loads(self.cluster.run("bpjob", "list", "--json"))[-1]["job"]
        statuses = json.loads(self.cluster.run("bpjob", "show", job, "--json"))["statuses"]
        started = Counter(int(line) for line in log.read_text().splitlines())
        shown = Counter(lines)
        victim = outcome.victim.node if outcome.victim and outcome.victim.dies else None
        worst = 0
        for rank in range(nodes):
            line = _line(rank)
            its = statuses.get(str(rank), {})
            times, told = started.pop(rank, 0), shown.pop(line, 0)
            worst = max(worst, its.get("code", 255))
            if rank == victim and "lost" in its:
                outcome.own_lost += 1
            elif times == 0 or told == 0 or "lost" in its:
                outcome.lost += 1
                outcome.findings.append(f"job {job}: rank {rank} started {times} times, told {told}: {its}")
            elif its != {"code": rank % 10}:
                outcome.wrong += 1
                outcome.findings.append(f"job {job}: rank {rank} ended with {its}")
            if times > 1 or told > 1:
                outcome.doubled += 1
                outcome.findings.append(f"job {job}: rank {rank} started {times} times, told {told} times")
        rest = [*started.items(), *shown.items()]
        if rest or status != worst:
            outcome.wrong += 1
            outcome.findings.append(f"job {job} ended with {status}, not {worst}; left: {rest[:5]}")

    def _look_for_strays(self, outcome: Outcome, marker: str) -> None:
        """Nothing may be left, neither in the table nor on the host."""
        end_s = time.monotonic() + 20
        while True:
            left: list[Any] = _processes(marker)
            try:
                left += json.loads(self.cluster.run("bpps", "--json"))
                left += [
                    job for job in json.loads(self.cluster.run("bpjob", "list", "--json")) if job["state"] != "done"
                ]
            except BenchError as error:
                # The agent that was killed is not back yet.
                left.append(str(error))
            if not left:
                return
            if time.monotonic() > end_s:
                outcome.strays += len(left)
                outcome.findings.append(f"left over: {json.dumps(left)[:500]}")
                return
            time.sleep(PAUSE_S)

    # ------------------------------------------------------------------ the tree

    def victim(self, kind: str, level: int, longest_s: float) -> Victim:
        """Choose a node of this level that has children, and a moment within `longest_s`."""
        rows = {row["id"]: row for row in self.cluster.status()["nodes"]}
        parents = {row["parent"] for row in rows.values()} - {HEAD}
        node = self.random.choice([node for node in sorted(parents) if _level(node, self.fanout) == level])
        row = rows[node]
        pids = [row[f"{daemon}_pid"] for daemon in KINDS[kind]]
        return Victim(node, level, pids, kind != "agent", self.random.uniform(0.0, longest_s))

    def levels(self) -> list[int]:
        """The levels of the tree that have nodes with children; 1 is that of the head's children."""
        parents = {parent_of(node, self.fanout) for node in range(self.cluster.nodes)} - {HEAD}
        return sorted({_level(node, self.fanout) for node in parents})

    def make_whole(self, victim: Victim | None = None) -> None:
        """Start a dead node again, and wait until every node is where it belongs."""
        if victim is not None and victim.dies:
            self._await(lambda row: row["id"] != victim.node or row["state"] == "down", f"n{victim.node} down")
            self.cluster.run("heorot", "node", "start", f"n{victim.node}")
        old = set(victim.pids) if victim else set()

        def in_place(row: dict[str, Any]) -> bool:
            is_old = row["agent_pid"] in old or row["init_pid"] in old
            return row["state"] == "up" and row["parent"] == parent_of(row["id"], self.fanout) and not is_old

        self._await(in_place, "the whole tree")
        time.sleep(SETTLE_S + self.cluster.nodes / 2000)

    def _await(self, wanted: Callable[[dict[str, Any]], bool], what: str) -> None:
        end_s = time.monotonic() + WHOLE_AGAIN_S
        while not all(map(wanted, self.cluster.status()["nodes"])):
            if time.monotonic() > end_s:
                missing = [row["name"] for row in self.cluster.status()["nodes"] if not wanted(row)]
                raise BenchError(f"waited {WHOLE_AGAIN_S:.0f} s in vain for {what}: {missing[:20]}")
            time.sleep(PAUSE_S)


def _level(node: int, fanout: int) -> int:
    return 1 + len(ancestors_of(node, fanout))


def _line(rank: int) -> bytes:
    """What bpsh -p shows of a rank: one on each node."""
    return b"%3d: %07d" % (rank, rank)


def _processes(marker: str) -> list[str]:
    """Return the command lines of this host's processes whose last argument is `marker`."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                if words[-2:] == [marker.encode(), b""]:
                    found.append(f"{name}: {words}")
    return found


# ---------------------------------------------------------------------------------------------------- report


@dataclass
class Row:
    """All launches with one kind of kill at one level."""

    kind: str
    level: int
    plain: list[Outcome] = field(default_factory=list)
    disturbed: list[Outcome] = field(default_factory=list)

    def text(self) -> str:
        """One line of a table, in Markdown."""
        plain = Series([outcome.wall_s for outcome in self.plain])
        others = Series([outcome.living_s for outcome in self.disturbed])
        whole = Series([outcome.wall_s for outcome in self.disturbed])
        cost = Series([value - plain.median for value in others.values])
        counts = [sum(getattr(outcome, name) for outcome in self.disturbed) for name in FAULTS]
        cells = [self.kind, str(self.level), str(len(whole.values)), _spread(plain), _spread(others), _spread(whole)]
        cells += [_spread(cost, "+.2f"), ", ".join(map(str, counts))]
        return "| " + " | ".join([*cells, str(sum(outcome.own_lost for outcome in self.disturbed))]) + " |"


def _spread(series: Series, form: str = ".2f") -> str:
    return ", ".join(f"{value:{form}}" for value in (series.median, series.quantile(0.9), max(series.values))) + " s"


HEADER = """\
| killed | level | kills | undisturbed | all other ranks | whole command | cost to the others | lost, ... | own lost |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"""
"""Each time is the median, the 90th percentile and the longest; ``lost, ...`` are the counts of `FAULTS`."""


def measure(interior: Interior, kinds: list[str], kills: int) -> list[Row]:
    """Kill `kills` times in each way at each level, in turns."""
    rows = [Row(kind, level) for kind in kinds for level in interior.levels()]
    interior.make_whole()
    for _ in range(WARM_UPS):
        _checked(interior.launch())
    all_plain: list[float] = []
    for number in range(kills):
        for row in rows:
            plain = _checked(interior.launch())
            row.plain.append(plain)
            all_plain.append(plain.wall_s)
            time.sleep(SETTLE_S)
            victim = interior.victim(row.kind, row.level, Series(all_plain).median)
            outcome = interior.launch(victim)
            row.disturbed.append(outcome)
            said = outcome.text(victim, plain.wall_s)
            print(
                f"{number + 1:3}: {row.kind} {said}", *outcome.findings[:10], sep="\n     ", file=sys.stderr, flush=True
            )
            interior.make_whole(victim)
    return rows


def _checked(outcome: Outcome) -> Outcome:
    if outcome.faults:
        raise BenchError(f"a launch that nobody disturbed went wrong: {outcome.findings[:5]}")
    return outcome


def main(arguments: list[str] | None = None) -> int:
    """Print a table; write JSON. The exit status is 1 if anything was lost, doubled, wrong or left over."""
    parser = argparse.ArgumentParser(prog="python -m bench.interior", description=__doc__)
    parser.add_argument("--nodes", type=int, default=64)
    parser.add_argument("--fanout", type=int, default=32)
    parser.add_argument("--kills", type=int, default=10, help="of each kind at each level (default: %(default)s)")
    parser.add_argument("--kinds", default=",".join(KINDS), help="what is killed (default: %(default)s)")
    parser.add_argument("--megabytes", type=float, default=0, help="send a program of this size that no node has")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    up = ["--fanout", str(options.fanout), "--image-cache", str(CACHE_MIB)]
    try:
        with Cluster(options.nodes, *up) as cluster:
            interior = Interior(cluster, options.fanout, int(options.megabytes * 1_000_000), options.seed)
            rows = measure(interior, options.kinds.split(","), options.kills)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    print(HEADER)
    for row in rows:
        print(row.text())
    OUT.mkdir(parents=True, exist_ok=True)
    name = f"interior-{options.nodes}-{options.fanout}{'-sent' if options.megabytes else ''}.json"
    (OUT / name).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 1 if any(outcome.faults for row in rows for outcome in row.disturbed) else 0


if __name__ == "__main__":
    sys.exit(main())
