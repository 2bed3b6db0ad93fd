"""``heorot node ps``: ask the nodes of this host themselves what they hold, without any head or agent."""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from heorot.cli import request, table
from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.bpps import command_line, json_row
from heorot.client.endpoint import cluster_directory
from heorot.config.layout import Layout
from heorot.core.errors import HeorotError, NodeListError, RequestError
from heorot.core.wire import tree as m
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.embedded import control

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMAND = Command(
    "heorot node ps",
    "[OPTION]... [NODE]...",
    "List what nodes of this host hold, as they say themselves: also without any head or agent.",
    [
        Option("-d --dir", "the cluster's directory (default: HEOROT_DIR, else the one in node.toml)", "DIR"),
        Option("--json", "print an object for each node: node, epoch, headless_ms, jobs, processes, ..."),
    ],
    "Without NODE: all nodes of this host. Only root and the user whose nodes they are may ask.\n"
    "Exit status: 0 complete; 1 some node did not answer; 125 there is none, or refused; 2 usage.",
    completes="nodes",
)
ANSWER_TIMEOUT_S = 10.0
MAX_VIEWS = 1000
_RECEIVE_BYTES = 256 * 1024


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the first argument is ``ps``."""
    words = sys.argv[1:] if arguments is None else arguments
    return request.run_command("heorot node ps", _body, words[1:])


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMAND, parsed)
    layout = Layout(_directory(parsed.get("dir")))
    numbers = _chosen(layout, parsed.operands)
    seen: list[dict[str, Any]] = []
    for number in numbers:
        try:
            seen.append(_as_values(look(layout.node(number))))
        except HeorotError as error:
            print(f"heorot node ps: n{number}: {error}", file=sys.stderr)
    sys.stdout.write(json.dumps([_json_node(node) for node in seen]) + "\n" if parsed.has("json") else _text(seen))
    return 0 if len(seen) == len(numbers) else 1


def _directory(given: str) -> str:
    if given or os.environ.get("HEOROT_DIR"):
        return cluster_directory(given or None)
    from heorot.config.files import DEFAULT_NODE_PATH, load_node

    return load_node(DEFAULT_NODE_PATH).cluster.directory if DEFAULT_NODE_PATH.exists() else cluster_directory()


def _chosen(layout: Layout, operands: Sequence[str]) -> list[int]:
    """Return the nodes that are asked. Raises RequestError, UsageError."""
    here = _nodes_here(layout)
    if not operands:
        return here
    from heorot.core.tree.nodelist import NodeView
    from heorot.core.tree.nodelist import parse as parse_nodes
    from heorot.core.tree.nodeset import HEAD, NodeSet

    try:
        named = parse_nodes(",".join(operands), NodeView(NodeSet.of(here), dict.fromkeys(here, "up")))
    except NodeListError as error:
        raise UsageError(f"{error}; on this host there is {table.fold_nodes(here)}") from error
    return sorted(set(named) - {HEAD})


def _nodes_here(layout: Layout) -> list[int]:
    """Return the nodes that have a directory on this host."""
    try:
        names = os.listdir(layout.path("nodes"))
    except PermissionError as error:
        raise RequestError("permission", f"only root and the owner of {layout.root} may ask its nodes") from error
    except (FileNotFoundError, NotADirectoryError):
        names = []
    numbers = sorted(int(name[1:]) for name in names if name[:1] == "n" and name[1:].isdecimal())
    if not numbers:
        raise RequestError("no-cluster", f"no node of the cluster at {layout.root} is on this host")
    return numbers


def look(directory: str) -> list[m.SpaceView]:
    """Ask the bpinit of the node with this directory what it holds.

    Raises
    ------
    HeorotError
        If it does not run, does not answer within `ANSWER_TIMEOUT_S`, or this user may not ask.
    """
    path = os.path.join(directory, "init.sock")
    try:
        connection = control.connect_node_space(directory)
    except PermissionError as error:
        raise RequestError("permission", f"only root and the owner of {path} may ask") from error
    except OSError as error:
        raise HeorotError(f"bpinit does not run: {path}: {error.strerror or error}") from error
    views: list[m.SpaceView] = []
    decoder = FrameDecoder()
    with connection:
        connection.settimeout(ANSWER_TIMEOUT_S)
        try:
            connection.sendall(encode_frame(m.encode(m.Look())))
            while not views or views[-1].more:
                data = connection.recv(_RECEIVE_BYTES)
                if not data or len(views) > MAX_VIEWS:
                    raise HeorotError(
                        f"bpinit closed the connection to {path} without a whole answer; its log says why"
                    )
                views += [m.decode_view(frame) for frame in decoder.feed(data)]
        except TimeoutError as error:
            raise HeorotError(f"bpinit at {path} does not answer within {ANSWER_TIMEOUT_S:.0f} s") from error
        except OSError as error:
            raise HeorotError(f"bpinit at {path} is gone: {error.strerror or error}") from error
    return views


def _as_values(views: Sequence[m.SpaceView]) -> dict[str, Any]:
    """Return one node's answer as plain values, users by name."""
    first = views[0]
    names: dict[int, str] = {}

    def name(uid: int) -> str:
        if uid not in names:
            names[uid] = request.user_name(uid)
        return names[uid]

    jobs = [
        {
            "job": job.job,
            "uid": job.uid,
            "user": name(job.uid),
            "running": job.running,
            "exited": job.exited,
            "failed": job.failed,
            "kept_bytes": job.kept_bytes,
            "headless_limit_ms": job.headless_ms or None,
        }
        for view in views
        for job in view.jobs
    ]
    processes = [
        {
            "pid": process.pid,
            "node": first.node,
            "job": process.job or None,
            "rank": None if process.rank < 0 else process.rank,
            "uid": process.uid,
            "user": name(process.uid),
            "state": process.state,
            "started_at_ms": process.started_at_ms,
            "argv": process.argv,
            "leader": process.leader,
            "parent_pid": process.parent_pid,
            "user_time_ms": process.user_time_ms,
            "memory_bytes": process.memory_bytes,
            "kept_bytes": process.kept_bytes,
        }
        for view in views
        for process in view.processes
    ]
    return {
        "node": first.node,
        "incarnation": first.incarnation,
        "epoch": first.epoch,
        "agent": first.agent,
        "headless_ms": first.headless_ms,
        "jobs": jobs,
        "processes": processes,
    }


def _json_node(node: dict[str, Any]) -> dict[str, Any]:
    rows = [{**json_row(process), "kept_bytes": process["kept_bytes"]} for process in node["processes"]]
    return {**node, "processes": rows}


def _text(nodes: Sequence[dict[str, Any]]) -> str:
    """Return the nodes, their jobs and their processes as tables."""
    if not nodes:
        return ""
    now_s = time.time()
    overview = [
        (
            table.node_name(node["node"]),
            "there is one" if node["headless_ms"] is None else f"none for {node['headless_ms'] / 1000:.0f} s",
            "connected" if node["agent"] else "none",
            node["epoch"],
            len(node["jobs"]),
            len(node["processes"]),
            table.memory(sum(job["kept_bytes"] for job in node["jobs"])),
        )
        for node in nodes
    ]
    parts = [
        table.render(("NODE", "HEAD", "AGENT", "EPOCH", "JOBS", "PROCESSES", "KEPT"), overview, _RIGHT),
    ]
    jobs = [
        (
            job["job"],
            table.node_name(node["node"]),
            job["user"],
            job["running"],
            job["exited"],
            job["failed"],
            table.memory(job["kept_bytes"]),
        )
        for node in nodes
        for job in node["jobs"]
    ]
    if jobs:
        parts.append(table.render(("JOB", "NODE", "USER", "RUNNING", "ENDED", "NEVER-RAN", "KEPT"), jobs, _RIGHT))
    processes = [
        (
            process["pid"],
            table.node_name(node["node"]),
            process["job"] or "-",
            "-" if process["rank"] is None else process["rank"],
            process["user"],
            process["state"],
            table.clock_time(process["started_at_ms"], now_s),
            table.memory(process["kept_bytes"]) if process["leader"] else "-",
            command_line(process["argv"]),
        )
        for node in nodes
        for process in node["processes"]
    ]
    if processes:
        header = ("PID", "NODE", "JOB", "RANK", "USER", "STATE", "START", "KEPT", "COMMAND")
        parts.append(table.render(header, processes, _RIGHT, table.terminal_size(1)[0]))
    return "\n".join(parts)


_RIGHT = "PID RANK EPOCH JOBS PROCESSES RUNNING ENDED NEVER-RAN KEPT"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
