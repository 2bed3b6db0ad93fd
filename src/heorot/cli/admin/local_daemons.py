"""What the daemons of this host say of themselves, whether or not a head answers."""

from __future__ import annotations

import contextlib
import os
from typing import Any

from heorot.cli.table import fold_nodes, printable, render
from heorot.config.host_role import state_directory
from heorot.config.layout import Layout
from heorot.core.errors import HeorotError
from heorot.embedded import control
from heorot.linux.trusted_path import check_directory


def ask_daemons(directory: str) -> dict[str, Any]:
    """Return ``heads`` and ``nodes`` of this host as the warden, or else the keepers that answer us, know them: those
    whose daemons run or should run. Both are empty if nobody answers.
    """
    try:
        with control.connect_warden(Layout(directory)) as warden:
            known = control.ask(warden, "status")
    except HeorotError:
        return {"heads": _ask_keepers(directory), "nodes": []}
    heads = [
        {
            "name": head["name"],
            "role": head["role"] if head["keeper_pid"] else "down" if head["wanted"] else "stopped",
            "pid": head["pid"],
            "keeper_pid": head["keeper_pid"],
            "problem": head["problem"],
        }
        for head in known["heads"]
    ]
    return {"heads": heads, "nodes": known["nodes"]}


def _ask_keepers(directory: str) -> list[dict[str, Any]]:
    layout = Layout(directory)
    with contextlib.suppress(HeorotError, OSError):
        if not os.path.isdir(layout.path("heads")):
            # The directory of users' commands is not that of keys and state.
            state = state_directory(directory)
            if not state:
                return []
            check_directory(state)
            layout = Layout(state)
    try:
        names = sorted(os.listdir(layout.path("heads")))
    except OSError:
        return []
    heads = []
    for name in names:
        with contextlib.suppress(HeorotError):
            said = control.ask_keeper(layout.head(name), {"do": "status"})
            heads.append(
                {
                    "name": said["name"],
                    "role": said["role"],
                    "pid": said["head_pid"] or said["pid"],
                    "keeper_pid": said["pid"],
                    "problem": said.get("problem", ""),
                }
            )
    return heads


def problems_of(known: dict[str, Any]) -> list[str]:
    """Return a line for each head that says what is wrong with it, and one for all nodes that say the same."""
    lines = [f"{head['name']}: {printable(head['problem'])}\n" for head in known["heads"] if head.get("problem")]
    nodes: dict[str, list[int]] = {}
    for node in known["nodes"]:
        if node.get("problem"):
            nodes.setdefault(node["problem"].replace(f"/n{node['id']}/", "/n*/"), []).append(node["id"])
    lines += [f"{fold_nodes(numbers)}: {printable(problem)}\n" for problem, numbers in nodes.items()]
    return lines


def summary_of(known: dict[str, Any]) -> str:
    """Return what there is to show where no head answers; empty if there is nothing."""
    if not known["heads"]:
        return ""
    rows = [(head["name"], head["role"], head["pid"] or "") for head in known["heads"]]
    problems = problems_of(known)
    return "".join([render(("HEAD", "ROLE", "PID"), rows, "PID"), *(["\n", *problems] if problems else [])])
