"""Many short launches while the active head is killed again and again: each launch has all its ranks, each runs once.

What running jobs go through is `tests.chaos.run`; here heads die with launches half passed on.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import heorot
from tests.chaos.network import YOUNG_S
from tests.cluster.harness import DEADLINE_S, Cluster, await_that, kill_hard

STATUS = 3
"""With which each rank ends."""


@dataclass
class Outcome:
    """What came of a run."""

    launches: int = 0
    kills: int = 0
    findings: list[str] = field(default_factory=list)

    def found(self, text: str) -> None:
        """Note that something is wrong, and say so at once."""
        self.findings.append(text)
        print(f"{datetime.now():%H:%M:%S.%f} found: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Way:
    """How the users launch."""

    select: str = "up"
    """A node list that means all nodes of the cluster."""
    detached: bool = False
    by_command: bool = False
    """With `bpsh` in place of the library."""


class ShortLaunches:
    """Users who launch on all nodes of a cluster, one short launch after the other, until told to stop.

    Each rank appends a line to a file of its own, so that one that ran twice, or beside its job, is seen.
    """

    def __init__(self, cluster: Cluster, nodes: int, directory: Path, way: Way, users: int) -> None:
        self._cluster = cluster
        self._nodes = nodes
        self._directory = directory
        self._way = way
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._users = [threading.Thread(target=self._launch_on, args=(user,)) for user in range(users)]
        self.outcome = Outcome()

    def run(self, kills: int, pause_s: float, minutes: float = 0.0) -> Outcome:
        """Kill the active head so often, or for so many minutes, with a pause for launches after each change."""
        for user in self._users:
            user.start()
        # Not a wait for anything: what was asked of a node that is so young is refused when the head is lost.
        time.sleep(YOUNG_S)
        try:
            end_s = time.monotonic() + 60 * minutes
            while self.outcome.kills < kills if not minutes else time.monotonic() < end_s:
                # Not a wait for anything: heads shall die in the middle of launches, not at the start of their terms.
                time.sleep(pause_s)
                epoch = self._cluster.status()["epoch"]
                kill_hard(self._cluster.head_pid())
                self.outcome.kills += 1
                await_that(partial(self._is_after, epoch), "the next head")
        finally:
            self._over.set()
            for number, user in enumerate(self._users):
                user.join(DEADLINE_S * 2)
                if user.is_alive():
                    self.outcome.found(f"user {number} has not come to an end")
        return self.outcome

    def _is_after(self, epoch: int) -> bool:
        return bool(self._cluster.status()["epoch"] > epoch)

    def _launch_on(self, user: int) -> None:
        number = 0
        while not self._over.is_set():
            mark = self._directory / f"{user}.{number}"
            number += 1
            try:
                wrong = self._launch(mark)
            except Exception as error:  # whatever it is, it is a finding, and not the silent end of this user
                wrong = f"{type(error).__name__}: {error}"
            with self._lock:
                self.outcome.launches += 1
            if wrong:
                self.outcome.found(f"{mark.name}: {wrong}")

    def _launch(self, mark: Path) -> str:
        """Launch once; return what is wrong with what came of it."""
        argv = ["/bin/sh", "-c", f"echo x; echo y >>{mark}.$BPROC_RANK; exit {STATUS}"]
        if self._way.by_command:
            statuses, output = self._by_command(argv)
        else:
            with heorot.connect(self._cluster.directory) as cluster:
                if self._way.detached:
                    job = cluster.attach(cluster.spawn(argv, self._way.select, detached=True).id)
                    done = job.communicate()
                else:
                    done = cluster.run(argv, self._way.select)
                statuses = [status.code if status.code is not None else -1 for status in done.statuses]
                output = list(done.stdout)
        ran = Counter(
            int(path.suffix[1:]) for path in self._directory.glob(f"{mark.name}.*") for _ in path.read_text().split()
        )
        for path in self._directory.glob(f"{mark.name}.*"):
            path.unlink()
        if statuses != [STATUS] * self._nodes or ran != Counter(range(self._nodes)):
            return f"statuses {statuses}, ran {dict(ran)}"
        return "" if output == [b"x\n"] * self._nodes else f"output {output}"

    def _by_command(self, argv: list[str]) -> tuple[list[int], list[bytes]]:
        options = ["--detach"] if self._way.detached else []
        done = self._cluster.run("bpsh", *options, self._way.select, *argv)
        if self._way.detached:
            done = self._cluster.run("bpjob", "attach", done.stdout.decode().strip())
        lines = done.stdout.splitlines(keepends=True)
        # One status stands for all: the files say how many ranks there were.
        return ([STATUS] * self._nodes if done.returncode == STATUS else [done.returncode]), lines
