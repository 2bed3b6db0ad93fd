"""Other programs that run a command many times, if they are installed here. Nothing is installed for them."""

from __future__ import annotations

import shutil
import subprocess
import time

from bench.results import Report

# Each runs the command itself on this machine instead of through ssh, so that only its own cost is seen.
PEERS = {
    "pdsh": ["pdsh", "-R", "exec", "-f", "64", "-w", "n[0-63]", "/bin/true"],
    "clush": ["clush", "-R", "exec", "-f", "64", "-w", "n[0-63]", "/bin/true"],
}


def compare(report: Report, repetitions: int) -> None:
    """Run each installed peer for 64 "nodes", all of them this machine."""
    for name, arguments in PEERS.items():
        if shutil.which(name) is None:
            continue
        times = []
        for _ in range(repetitions):
            start = time.perf_counter()
            subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True, timeout=60)
            times.append(time.perf_counter() - start)
        report.add(f"peer-{name}", f"{' '.join(arguments[:3])}, 64 x /bin/true, no ssh", times, "s")
