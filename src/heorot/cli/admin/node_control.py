"""``heorot node start`` and ``heorot node stop``: nodes of an embedded cluster."""

from __future__ import annotations

import sys

from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import run_command, show_help
from heorot.client.endpoint import cluster_directory
from heorot.config.layout import Layout
from heorot.embedded import control

_OPTIONS = [Option("-d --dir", "the cluster's directory (default: HEOROT_DIR, or /run/heorot)", "DIR")]
_FORM = "[OPTION]... NODE..."
START = Command("heorot node start", _FORM, "Start nodes that were stopped or have died.", _OPTIONS, completes="nodes")
STOP = Command("heorot node stop", _FORM, "Stop nodes: their processes end.", _OPTIONS, completes="nodes")


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the first argument is ``start`` or ``stop``."""
    words = sys.argv[1:] if arguments is None else arguments
    what = words[0] if words else ""
    return run_command(f"heorot node {what}", lambda rest: _body(what, rest), words[1:])


def _body(what: str, arguments: list[str]) -> int:
    command = START if what == "start" else STOP
    parsed = parse(command, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(command, parsed)
    if not parsed.operands:
        raise UsageError("which node? For example n3, or n[0-3]")
    from heorot.core.tree.node_view import NodeView
    from heorot.core.tree.nodelist import parse as parse_nodes
    from heorot.core.tree.nodeset import HEAD, NodeSet

    layout = Layout(cluster_directory(parsed.get("dir") or None))
    with control.connect_warden(layout) as warden:
        processes = control.ask(warden, "status")["nodes"]
        states = {node["id"]: "up" if node["init_pid"] else "down" for node in processes}
        master = next((node["id"] for node in processes if node.get("master")), HEAD)
        masters = NodeSet.of([master] if master != HEAD else [])
        view = NodeView(NodeSet.of(states), states, masters=masters, master=master)
        chosen = parse_nodes(",".join(parsed.operands), view)
        control.ask(warden, what, sorted({node for node in chosen if node != HEAD}))
    return 0
