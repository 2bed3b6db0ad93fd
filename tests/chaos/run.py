"""One chaos run: users at work, and somebody who kills their head again and again."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.chaos.work import Tally, Worker
from tests.cluster.harness import Cluster, await_that

CALM_S = 60.0
"""How long the last jobs may take after the last kill before that is called hanging."""


@dataclass
class Result:
    """What a run has shown."""

    tally: Tally = field(default_factory=Tally)
    takeovers_s: list[float] = field(default_factory=list)
    """From each kill or switch until a command that was started right after it had run on a node and was over."""
    epochs: tuple[int, int] = (0, 0)
    """The first and the last."""
    elapsed_s: float = 0.0

    def quantile_s(self, share: float) -> float:
        """Return the takeover time that this share of all kills does not exceed."""
        ordered = sorted(self.takeovers_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Chaos:
    """Kills the active head of `cluster` (`nodes` nodes, two heads or more) while `workers` users run jobs."""

    def __init__(self, cluster: Cluster, nodes: int, directory: Path, seed: int, workers: int) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._random = Random(seed)
        self.result = Result()
        self._workers = [
            Worker(cluster, nodes, number, seed, directory, self.result.tally) for number in range(workers)
        ]

    def run(self, kills: int, longest_pause_s: float = 1.0, planned: bool = False) -> Result:
        """Kill so many heads, or have them hand over; return what was seen once everything is quiet again."""
        began_s = time.monotonic()
        first = self._cluster.status()["epoch"]
        for worker in self._workers:
            worker.start()
        try:
            for _ in range(kills):
                time.sleep(self._random.uniform(0.1, longest_pause_s))
                self._change_heads(planned)
        finally:
            for worker in self._workers:
                worker.stopping.set()
            for worker in self._workers:
                worker.join()
        self.result.epochs = first, self._cluster.status()["epoch"]
        self._check_rest()
        self.result.elapsed_s = time.monotonic() - began_s
        return self.result

    def _heads(self) -> dict[str, list[int]]:
        heads = self._cluster.known().get("heads", ())
        return {
            role: [head["pid"] for head in heads if head["role"] == role and head["pid"]]
            for role in ("active", "standby")
        }

    def _ready(self) -> int:
        """Return the PID of the active head if another one stands by."""
        heads = self._heads()
        return heads["active"][0] if heads.get("active") and heads.get("standby") else 0

    def _change_heads(self, planned: bool) -> None:
        pid = await_that(self._ready, "an active head and a standby")
        node = self._random.randrange(self._nodes)
        killed_s = time.monotonic()
        if planned:
            self._cluster.check("heorot", "head", "switch")
        else:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                return
        finished = self._cluster.run("bpsh", "-n", str(node), "/bin/true")
        self.result.takeovers_s.append(time.monotonic() - killed_s)
        if finished.returncode != 0:
            self.result.tally.found(f"the first command after a change of heads: {finished}")

    def _check_rest(self) -> None:
        """Nothing runs any more, and the head knows that."""

        def left() -> list[object]:
            processes = json.loads(self._cluster.check("bpps", "--json"))
            jobs = json.loads(self._cluster.check("bpjob", "list", "--json"))
            return [*processes, *(job for job in jobs if job["state"] != "done")]

        end_s = time.monotonic() + CALM_S
        while rest := left():
            if time.monotonic() > end_s:
                self.result.tally.found(f"left over: {rest}")
                return
            time.sleep(0.1)
