"""A chaos run on a cluster of many hosts: users at work, and rounds of faults, each followed by a check of everything.

In each round one fault strikes, or two. If the active head is lost, commands that are started from then on, on the
other heads' hosts, say how long it takes until the first of them has run on a node and is over. Then all is healed,
and the cluster must become whole again.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from random import Random

from tests.chaos.faults import LOSSES, OTHERS, Fault, HeadAdded, HeadRemoved, NodesPaused
from tests.chaos.network import HeadHost, HostsCluster
from tests.chaos.work import Tally, Worker
from tests.cluster.harness import Running, await_that, host_pids

PROBE_EVERY_S = 0.25
MAX_PROBES = 12
FEWEST_HEADS, MOST_HEADS = 3, 5
"""In rounds that add and remove them."""
PROBE_DEADLINE_S = 30.0
SECONDS = 10_000_000 + os.getpid()
"""The argument of the sleeping processes of the sentinel, by which they are found in /proc: nobody else's there."""


@dataclass
class Seen:
    """What a run has shown."""

    tally: Tally = field(default_factory=Tally)
    faults: Counter[str] = field(default_factory=Counter)
    times_s: dict[str, list[float]] = field(default_factory=lambda: {"process": [], "host": [], "planned": []})
    """By how the head was lost: until the first new command had run."""
    epochs: tuple[int, int] = (0, 0)
    elapsed_s: float = 0.0


class HostsChaos:
    """Lets faults strike `cluster` while `workers` users run jobs on its nodes, started on all of its heads' hosts,
    or on those of `homes`.
    """

    def __init__(
        self, cluster: HostsCluster, directory: Path, seed: int, workers: int, homes: Sequence[HeadHost] = ()
    ) -> None:
        self.cluster = cluster
        self.random = Random(seed)
        self.seen = Seen()
        heads = itertools.cycle(homes or cluster.heads)
        self._workers = [
            Worker(
                home.clients,
                len(cluster.nodes),
                number,
                seed,
                directory,
                self.seen.tally,
                is_down=lambda home=home: not home.keeper_pid,  # type: ignore[misc]
            )
            for number, home in zip(range(workers), heads, strict=False)
        ]
        self.sentinel = ""
        """A job that sleeps on all nodes, which nobody may touch."""
        self.sentinel_pids: list[int] = []
        """Its processes' PIDs in the cluster."""
        self._sentinels: list[int] = []
        """And on this machine."""

    def __enter__(self) -> HostsChaos:
        self._began_s = time.monotonic()
        active = self.cluster.await_calm()
        self.seen.epochs = active.epoch(), 0
        self.sentinel = active.clients.detach("-a", "/bin/sleep", str(SECONDS))
        self._sentinels = await_that(self._find_sentinels, "all sentinels")
        self.sentinel_pids = [row["pid"] for row in active.clients.processes("--job", self.sentinel)]
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self._workers:
            worker.stopping.set()
        for worker in self._workers:
            worker.join()
        if error[0] is None:
            self._finish()
        self.seen.elapsed_s = time.monotonic() - self._began_s

    def found(self, text: str) -> None:
        """Note that something is wrong."""
        self.seen.tally.found(text)

    # ------------------------------------------------------------------ rounds

    def round(self) -> None:
        """Let one fault strike, or two."""
        kinds = [self.random.choice([*LOSSES, *OTHERS])]
        if self.random.random() < 0.3:
            kinds.append(self.random.choice(OTHERS))
        self.strike(kinds)

    def doze(self) -> None:
        """Pause the daemons of some nodes, most often while another fault strikes: no node may be given up for it."""
        self.strike([NodesPaused, *([self.random.choice([*LOSSES, *OTHERS])] if self.random.random() < 0.7 else [])])

    def grow(self) -> None:
        """Add a head, or remove one; and let a fault strike just then, most often one that loses the active head."""
        many = len(self.cluster.heads) > FEWEST_HEADS and self.random.random() < 0.7
        change = HeadRemoved if many or len(self.cluster.heads) >= MOST_HEADS else HeadAdded
        self.strike([change, self.random.choice(LOSSES if self.random.random() < 0.7 else OTHERS)])

    def strike(self, kinds: Sequence[type[Fault]]) -> None:
        """Let these faults strike together, and heal them."""
        active = self.cluster.await_calm()
        faults = [kind(self.cluster, active, self.random) for kind in dict.fromkeys(kinds)]
        name = " and ".join(type(fault).__name__ for fault in faults)
        epoch = active.epoch()
        struck_s = time.monotonic()
        print(f"{datetime.now():%H:%M:%S.%f} {name}: {', '.join(map(str, faults))}", file=sys.stderr, flush=True)
        loss = ""
        try:
            over_s = 0.0
            for fault in faults:
                fault.strike()
                # Each lasts from when it has struck: what another one did before may have taken longer than all of it.
                over_s = max(over_s, time.monotonic() + fault.for_s)
                loss = loss or fault.loss
            # Only one fault says how long it takes: another one beside it may well delay the next head.
            if loss and len(faults) == 1:
                self.seen.times_s[loss].append(self.probe(active if loss == "host" else None, struck_s, name))
            time.sleep(max(0.0, over_s - time.monotonic()))
        finally:
            for fault in faults:
                fault.heal()
        self.seen.faults.update([name])
        try:
            after = self.cluster.await_calm()
        except AssertionError as error:
            raise AssertionError(f"after {name}: {error}") from None
        if (loss or after is not active) and after.epoch() <= epoch:
            self.found(f"after {name}: epoch {after.epoch()} follows {epoch}")

    def probe(self, lost: HeadHost | None, struck_s: float, name: str) -> float:
        """Start commands on the hosts of the other heads until one is over; return when, counted from `struck_s`."""
        heads = itertools.cycle([head for head in self.cluster.heads if head is not lost])
        running: list[Running] = []
        next_s = time.monotonic()
        try:
            while True:
                now_s = time.monotonic()
                for probe in [probe for probe in running if probe.poll() is not None]:
                    running.remove(probe)
                    _, said = probe.communicate()
                    if probe.returncode == 0:
                        return now_s - struck_s
                    if b"no head is running" not in said:
                        self.found(f"a command after {name} ended with {probe.returncode}: {said!r}")
                assert now_s < struck_s + PROBE_DEADLINE_S, f"no command ran {PROBE_DEADLINE_S:.0f} s after {name}"
                if now_s >= next_s and len(running) < MAX_PROBES:
                    next_s = now_s + PROBE_EVERY_S
                    node = self.random.randrange(len(self.cluster.nodes))
                    running.append(next(heads).clients.start("bpsh", "-n", str(node), "/bin/true"))
                time.sleep(0.002)
        finally:
            for probe in running:
                probe.kill()
            for probe in running:
                probe.communicate()

    # ------------------------------------------------------------------ the end

    def _find_sentinels(self) -> list[int]:
        found = sorted(host_pids(str(SECONDS)))
        return found if len(found) == len(self.cluster.nodes) else []

    def check_sentinels(self) -> None:
        """The processes that nobody may have touched are still there."""
        if missing := set(self._sentinels) - set(host_pids(str(SECONDS))):
            self.found(f"sentinels are gone: {missing}")
            self._sentinels = [pid for pid in self._sentinels if pid not in missing]

    def _finish(self) -> None:
        """Nothing runs any more that nobody wanted, and the head knows that."""
        active = self.cluster.await_calm()
        self.seen.epochs = self.seen.epochs[0], active.epoch()
        self.check_sentinels()
        shown = active.clients.processes("--job", self.sentinel)
        if len(shown) != len(self.cluster.nodes):
            self.found(f"the head shows {len(shown)} of {len(self.cluster.nodes)} sentinels")
        active.clients.check("bpjob", "kill", self.sentinel)

        left: list[object] = []

        def is_empty() -> bool:
            clients = active.clients
            jobs = [job for job in clients.jobs() if job["state"] != "done"]
            left[:] = [*clients.processes(), *jobs, *self.cluster.strays()]
            return not left

        with suppress(AssertionError):
            await_that(is_empty, "nothing left")
        if left:
            self.found(f"left over: {json.dumps(left)[:2000]}")
