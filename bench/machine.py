"""What the figures were taken on. No host names, no paths: the file may be published."""

from __future__ import annotations

import os
import platform
from typing import Any

from heorot import __version__


def describe() -> dict[str, Any]:
    """Return cores, memory, kernel, Python and release."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cores": len(os.sched_getaffinity(0)),
        "architecture": platform.machine(),
        "virtual": _is_virtual(),
        "memory_gb": round(memory / 1e9),
        "kernel": ".".join(platform.release().split("-")[0].split(".")[:2]),
        "python": platform.python_version(),
        "heorot": __version__,
        "as_root": os.geteuid() == 0,
    }


def _is_virtual() -> bool:
    try:
        with open("/proc/cpuinfo") as file:
            return any(line.startswith("flags") and "hypervisor" in line.split() for line in file)
    except OSError:
        return False


def sentence(machine: dict[str, Any]) -> str:
    """Return the description in words."""
    kind = "virtual machine" if machine["virtual"] else "machine"
    return (
        f"a {machine['cores']}-core {machine['architecture']} {kind} with {machine['memory_gb']} GB, Linux "
        f"{machine['kernel']}, CPython {machine['python']}, as {'root' if machine['as_root'] else 'an ordinary user'}"
    )
