"""``heorot status``: heads, epoch, nodes, tree and the daemons' PIDs."""

from __future__ import annotations

import contextlib
import sys
from time import monotonic, sleep
from typing import Any

from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import Head, run_command, show_help
from heorot.cli.table import fold_nodes, render
from heorot.client.endpoint import cluster_directory, connect_head
from heorot.config.layout import Layout
from heorot.core.errors import HeorotError, RequestError

HOPELESS_S = 2.0
"""For how long no head of this host may be able to lead before none is waited for."""
LOOK_S = 0.1
MAX_NAMES = 8
"""So many nodes with wrong names are shown."""
COMMAND = Command(
    "heorot status",
    "[OPTION]...",
    "Show heads, epoch, nodes, tree and daemons of a cluster.",
    [
        Option("-d --dir", "the cluster's directory (default: HEOROT_DIR, or /run/heorot)", "DIR"),
        Option("--tree", "show who is below whom"),
        Option("--json", "print an object: epoch, heads, nodes, ..."),
    ],
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return run_command("heorot status", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(COMMAND, parsed)
    if parsed.operands:
        raise UsageError(f"unexpected operand {parsed.operands[0]!r}")
    directory = cluster_directory(parsed.get("dir") or None)
    try:
        status = status_of(directory)
    except HeorotError as error:
        if _show_without_head(directory, str(error), in_json=parsed.has("json")):
            raise HeorotError(f"no head leads at {directory}, for the reasons that are shown") from error
        raise
    if parsed.has("json"):
        import json

        sys.stdout.write(json.dumps(status) + "\n")
    else:
        sys.stdout.write(_summary(status))
        if parsed.has("tree"):
            sys.stdout.write("\n" + _tree(status))
    return 0


def status_of(directory: str) -> dict[str, Any]:
    """Return what ``--json`` prints. Raises HeorotError if no head leads."""
    from heorot.cli.admin.down import with_processes

    return with_processes(Layout(directory), _ask(directory))


def _ask(directory: str) -> dict[str, Any]:
    """Return what the head says. One that is not there is waited for, unless the others of this host say why it will
    not come. Raises HeorotError.
    """
    hopeless_at = monotonic() + HOPELESS_S
    while True:
        try:
            connect_head(directory).close()
            break
        except RequestError as error:
            from heorot.cli.admin.local_daemons import ask_daemons

            if error.code != "no-head":
                raise
            known = ask_daemons(directory)["heads"]
            heads = [head for head in known if head["role"] != "stopped"]
            if known and not heads:
                names = ", ".join(head["name"] for head in known)
                raise RequestError(
                    "no-head",
                    f"no head leads at {directory}: {names} {'is' if len(known) == 1 else 'are'} stopped,"
                    f" and 'heorot head start --dir {directory}' starts {'it' if len(known) == 1 else 'them'}",
                ) from error
            if not heads or not all(head["problem"] for head in heads):
                break
            # One that was killed a moment ago has a reason not to lead, too, and leads again in the next.
            if monotonic() >= hopeless_at:
                raise
            sleep(LOOK_S)
    with contextlib.closing(Head(directory)) as head:
        status: dict[str, Any] = head.ask("status")
    return status


def _show_without_head(directory: str, error: str, *, in_json: bool) -> bool:
    """Show what the daemons of this host say, if there are any; return whether that has said why no head leads."""
    from heorot.cli.admin.local_daemons import ask_daemons, summary_of

    known = ask_daemons(directory)
    if not in_json:
        sys.stdout.write(summary_of(known))
    elif known["heads"]:
        import json

        sys.stdout.write(json.dumps({"error": error, **known}) + "\n")
    return any(head["problem"] for head in known["heads"])


def _summary(status: dict[str, Any]) -> str:
    """Return the heads, and the nodes folded by state."""
    nodes, heads, store = status["nodes"], status["heads"], status.get("store", {})
    lines = [f"cluster {status.get('cluster', '')}: epoch {status['epoch']}, {len(nodes)} nodes\n\n"]
    if status.get("head_list", {}).get("heads"):
        table = [(head["name"], head["role"], head.get("pid", ""), head.get("address", "")) for head in heads]
        lines.append(render(("HEAD", "ROLE", "PID", "ADDRESS"), table, "PID"))
    else:
        lines.append(render(("HEAD", "ROLE", "PID"), [(h["name"], h["role"], h.get("pid", "")) for h in heads], "PID"))
    if store.get("kind") and not store["reachable"]:
        lines.append(
            f"\nThe {store['kind']} store does not answer as it should since {store['since_s']:.0f} s: "
            "this head goes on; if other hosts reach the store, another head may lead already.\n"
        )
        if store.get("problem"):
            lines.append(f"{store['problem']}\n")
    if status.get("contact", {}).get("text"):
        text = status["contact"]["text"]
        lines.append(f"\n{text[0].upper()}{text[1:]}.\n")
    lines += _head_list(status.get("head_list", {}))
    from heorot.cli.admin.local_daemons import problems_of

    problems = problems_of(status)
    if problems:
        lines += ["\n", *problems]
    by_state: dict[str, list[int]] = {}
    for node in nodes:
        by_state.setdefault(node["state"], []).append(node["id"])
    rows = [(state, len(numbers), fold_nodes(numbers)) for state, numbers in sorted(by_state.items(), reverse=True)]
    lines.append("\n" + render(("STATE", "COUNT", "NODES"), rows, "COUNT"))
    lines += [*_masters(nodes), *_names(nodes)]
    unseen = [node["id"] for node in nodes if node["state"] == "down" and not node.get("seen") and not node["silent"]]
    if unseen:
        have = "has" if len(unseen) == 1 else "have"
        lines.append(f"\n{fold_nodes(unseen)} {have} not been seen since this head leads (epoch {status['epoch']}).\n")
    return "".join(lines) + _caches(status.get("caches", {}))


def _masters(nodes: list[dict[str, Any]]) -> list[str]:
    """Return a line for each node on the host of a head."""
    there = [(node["name"], node["head"]) for node in nodes if node.get("head")]
    lines = [
        f"{name} is on the host of the head {head}: master while that leads, and not among all nodes.\n"
        for name, head in there
    ]
    return ["\n", *lines] if lines else []


def _names(nodes: list[dict[str, Any]]) -> list[str]:
    """Return a line for each node whose host has a name by which it is not known, up to so many."""
    wrong = [str(node["name_problem"]) for node in nodes if node.get("name_problem")]
    more = [f"There are {len(wrong) - MAX_NAMES} more of these: bpstat --json.\n"] if len(wrong) > MAX_NAMES else []
    return ["\n", *(f"{text}.\n" for text in wrong[:MAX_NAMES]), *more] if wrong else []


def _caches(known: dict[str, int]) -> str:
    """Return a line for what sent programs and copies take, if anything."""
    if not known.get("used_bytes") and not known.get("copies"):
        return ""
    copies = f", copies under way: {known['copies']}" if known["copies"] else ""
    used, bound = (f"{known[name] / 1e6:.1f} MB" for name in ("used_bytes", "bound_bytes"))
    return f"\nImages in the caches of heads and nodes take {used} of {bound}{copies}.\n"


def _head_list(known: dict[str, Any]) -> list[str]:
    """Return a line for all nodes that keep the same list of heads, and not the present one."""
    wanted = {head["address"]: head["name"] or head["address"] for head in known.get("heads", ())}
    lines: list[str] = []
    for group in known.get("others", ()):
        if group["heads"] is None:
            text = "of a release that cannot be told which heads there are: see heads in node.toml there"
        else:
            kept = {head["address"]: head["name"] or head["address"] for head in group["heads"]}
            lacking = [name for address, name in wanted.items() if address not in kept]
            surplus = [name for address, name in kept.items() if address not in wanted]
            words = [f"not yet told of {', '.join(lacking)}"] if lacking else []
            words += [f"not yet told that {', '.join(surplus)} was removed"] if surplus else []
            text = ", and ".join(words) or "about to be told the names of the heads"
        lines.append(f"\nHeads: {fold_nodes(group['nodes'])} {'is' if len(group['nodes']) == 1 else 'are'} {text}.\n")
    return lines


def _tree(status: dict[str, Any]) -> str:
    """Return the tree, a line for each group of siblings that have nobody below them."""
    children: dict[int, list[int]] = {}
    for node in status["nodes"]:
        if node["parent"] is not None and node["state"] != "down":
            children.setdefault(node["parent"], []).append(node["id"])
    lines = ["master"]
    # Depth first without recursion: a damaged tree may be deep.
    waiting = [(child, 1) for child in _groups(children, -1)]
    seen: set[int] = set()
    while waiting:
        group, depth = waiting.pop(0)
        lines.append("  " * depth + fold_nodes(group))
        if len(group) == 1 and group[0] not in seen:
            seen.add(group[0])
            waiting[:0] = [(below, depth + 1) for below in _groups(children, group[0])]
    return "\n".join(lines) + "\n"


def _groups(children: dict[int, list[int]], parent: int) -> list[list[int]]:
    """Return the children of a parent: each that has children of its own alone, the others together."""
    below = sorted(children.get(parent, []))
    leaves = [node for node in below if node not in children]
    groups = [[node] for node in below if node in children]
    return groups + ([leaves] if leaves else [])
