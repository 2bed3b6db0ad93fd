"""The CPUs of each rank on this node: as sched_setaffinity(2) wants them."""

from __future__ import annotations

import errno
import os

from heorot.bpinit.start_words import StartError
from heorot.core.wire.cpu_lists import CORE, CPU, cpu_lists

_TOPOLOGY = "/sys/devices/system/cpu"
WORD_BITS = 64


class CpuBinding:
    """To which CPUs the ranks of a job are bound here.

    Parameters
    ----------
    bind:
        As in `heorot.core.wire.launch.LaunchSpec`.
    ranks:
        How many ranks the job has on this node.
    topology:
        Where the kernel says which CPUs are of one core.

    Raises
    ------
    StartError
        If this node, or this daemon, does not have one of the CPUs.
    """

    def __init__(self, bind: str, ranks: int, topology: str = _TOPOLOGY) -> None:
        usable = sorted(os.sched_getaffinity(0))
        if bind == CPU:
            places, what = [[cpu] for cpu in usable], "CPU"
        elif bind == CORE:
            places, what = _cores(usable, topology), "core"
        else:
            places, what = cpu_lists(bind), "list of CPUs"
            lacking = sorted({cpu for place in places for cpu in place}.difference(usable))
            if lacking:
                raise StartError(errno.EINVAL, f"cannot bind to CPU {_folded(lacking)}: usable are {_folded(usable)}")
        words = max(map(max, places)) // WORD_BITS + 1
        self._masks = [[_word(place, index) for index in range(words)] for place in places]
        many = f"{len(places)} {what}s" if what != "list of CPUs" else f"{len(places)} lists of CPUs"
        self.note = ""
        """What the user should know; empty: nothing."""
        if ranks > len(places):
            self.note = f"{ranks} ranks of a node share {many if len(places) > 1 else f'one {what}'}"

    def mask_of(self, local_rank: int) -> list[int]:
        """Return the CPUs of a rank as the bits of 64-bit words: as many as each other rank has."""
        return self._masks[local_rank % len(self._masks)]


def _word(cpus: list[int], index: int) -> int:
    return sum(1 << cpu % WORD_BITS for cpu in cpus if cpu // WORD_BITS == index)


def _cores(usable: list[int], topology: str) -> list[list[int]]:
    """Return the usable CPUs, those of one core together, in the order of their first ones."""
    cores: dict[str, list[int]] = {}
    for cpu in usable:
        try:
            with open(f"{topology}/cpu{cpu}/topology/thread_siblings_list", encoding="ascii") as file:
                core = file.read().strip()
        except (OSError, ValueError):
            core = f"{cpu}"
        cores.setdefault(core, []).append(cpu)
    return list(cores.values())


def _folded(cpus: list[int]) -> str:
    ranges: list[list[int]] = []
    for cpu in cpus:
        if ranges and cpu == ranges[-1][1] + 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
