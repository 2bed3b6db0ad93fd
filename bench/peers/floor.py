"""The least that this machine needs for the same works, without any cluster."""

from __future__ import annotations

import os
import select
import subprocess
import time
from pathlib import Path

from bench.floor import launch_floor_s
from bench.peers.peer import CALL_LIMIT_S, Peer
from bench.peers.results import KINDS, Attempt, judged

READ_BYTES = 1 << 18


class Floor(Peer):
    """Not a peer: one process that starts the commands itself."""

    key, name = "floor", "floor"
    how = "`posix_spawn` on all cores; output into one pipe; a `cp` for each node, one for each core at a time"
    kinds = KINDS

    def run(self, argv: list[str], expected_bytes: int) -> Attempt:
        """Start and reap them, and count what comes out of the one pipe they write into."""
        if not expected_bytes:
            return Attempt(launch_floor_s(self.nodes))
        start = time.perf_counter()
        source, target = os.pipe()
        try:
            actions = [(os.POSIX_SPAWN_DUP2, target, 1)]
            pids = [os.posix_spawn(argv[0], argv, {}, file_actions=actions) for _ in range(self.nodes)]
            os.close(target)
            received, in_time = 0, True
            while in_time := bool(select.select([source], [], [], CALL_LIMIT_S)[0]):
                data = os.read(source, READ_BYTES)
                if not data:
                    break
                received += len(data)
            statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] if in_time else []
            return judged(time.perf_counter() - start, max(map(abs, statuses), default=None), received, expected_bytes)
        finally:
            os.close(source)

    def copy(self, source: Path, target: Path) -> Attempt:
        """Copy to as many files, as many at a time as there are cores."""
        start = time.perf_counter()
        running: list[subprocess.Popen[bytes]] = []
        bad = 0
        for place in self.targets(target):
            if len(running) == len(os.sched_getaffinity(0)):
                bad += running.pop(0).wait() != 0
            running.append(subprocess.Popen(["/bin/cp", "--reflink=never", str(source), str(place)]))
        bad += sum(process.wait() != 0 for process in running)
        return judged(time.perf_counter() - start, bad, 0, 0)

    def targets(self, target: Path) -> list[Path]:
        """Return a file for each node."""
        return [Path(f"{target}.n{number}") for number in range(self.nodes)]
