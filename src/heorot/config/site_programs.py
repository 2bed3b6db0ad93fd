"""What of the site's own the active head runs: sections of ``head.toml`` (`heorot.config.files`)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any


def ranged(default: int, lowest: int, highest: int) -> Any:
    """Return a field of a section: a number, and between which it may be."""
    return field(default=default, metadata={"range": (lowest, highest)})


@dataclass(frozen=True, slots=True)
class PowerSection:
    """``[power]``: what ends a node; run there as root, word by word, without a shell."""

    reboot: str = "systemctl reboot"
    halt: str = "systemctl halt"
    pwroff: str = "systemctl poweroff"

    def commands(self) -> dict[str, tuple[str, ...]]:
        """Return the words of each, by the state that goes with it. Raises ValueError."""
        return {name: tuple(shlex.split(getattr(self, name))) for name in ("reboot", "halt", "pwroff")}


@dataclass(frozen=True, slots=True)
class NodeUpSection:
    """``[node_up]``: the site's script for nodes that come."""

    command: str = ""
    """A program of the head's host; empty: none, and a node is up as soon as it has come."""
    at_once: int = ranged(8, 1, 256)
    """It runs for so many nodes at a time, at most."""
    limit_ms: int = ranged(300_000, 1_000, 86_400_000)
    """It is killed after so long, and the node is set to ``error``."""


@dataclass(frozen=True, slots=True)
class HealthSection:
    """``[health]``: the site's check of nodes."""

    command: str = ""
    """Runs on nodes as root, word by word, without a shell; empty: there is none."""
    every_ms: int = ranged(300_000, 1_000, 86_400_000)
    limit_ms: int = ranged(60_000, 1_000, 3_600_000)


@dataclass(frozen=True, slots=True)
class HookSection:
    """``[hook]``: a program that is told what nodes are shown as."""

    command: str = ""
    limit_ms: int = ranged(60_000, 1_000, 3_600_000)
