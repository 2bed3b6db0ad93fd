"""What this machine must have for a cluster of a given size."""

from __future__ import annotations

import os

from heorot.linux import cgroups

NODE_MEMORY_BYTES = 10 * 1024 * 1024
FIXED_MEMORY_BYTES = 128 * 1024 * 1024
SPARE_PROCESSES = 256
DESCRIPTORS = 1024
RLIM_INFINITY = (1 << 64) - 1


def problems(nodes: int, heads: int) -> list[str]:
    """Return why a cluster of so many nodes cannot run here; empty if nothing speaks against it."""
    found = []
    needed = nodes * NODE_MEMORY_BYTES + FIXED_MEMORY_BYTES
    available = memory_available_bytes()
    granted = cgroups.memory_room_bytes()
    if min(available, granted) < needed:
        text = f"{nodes} nodes need about {needed >> 20} MiB of memory and "
        found.append(
            text + f"{available >> 20} MiB are available: use fewer nodes"
            if available <= granted
            else text + f"this control group may have {granted >> 20} MiB more: raise its limit, or use fewer nodes"
        )
    processes = 2 * nodes + heads + 1
    free, granted = processes_allowed(), cgroups.process_room()
    if granted < processes + SPARE_PROCESSES:
        found.append(
            f"{nodes} nodes need {processes} processes and this control group may have {granted} more: "
            "raise its pids.max, or use fewer nodes"
        )
    elif free < processes + SPARE_PROCESSES:
        found.append(
            f"{nodes} nodes need {processes} processes and {free} more are allowed here: "
            "raise kernel.pid_max or 'ulimit -u', or use fewer nodes"
        )
    descriptors = descriptor_limit()
    if descriptors < DESCRIPTORS:
        found.append(f"only {descriptors} open files are allowed: raise 'ulimit -Hn' to {DESCRIPTORS} or more")
    return found


def memory_available_bytes() -> int:
    """Return how much memory programs can still get."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return 1 << 62


def processes_allowed() -> int:
    """Return how many more processes may be started."""
    try:
        with open("/proc/sys/kernel/pid_max", encoding="ascii") as file:
            room = int(file.read())
        with open("/proc/loadavg", encoding="ascii") as file:
            room -= int(file.read().split()[3].split("/")[1])
    except (OSError, ValueError, IndexError):
        room = 1 << 22
    if os.geteuid():
        room = min(room, _limit("Max processes"))
    return room


def descriptor_limit() -> int:
    """Return how many files a process may have open at most."""
    return _limit("Max open files")


def _limit(name: str) -> int:
    # The hard limit; /proc spares the import of resource.
    with open("/proc/self/limits", encoding="ascii") as file:
        for line in file:
            if line.startswith(name):
                hard = line[len(name) :].split()[1]
                return RLIM_INFINITY if hard == "unlimited" else int(hard)
    return RLIM_INFINITY
