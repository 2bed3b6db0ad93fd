"""bpstat: the nodes and their states."""

from __future__ import annotations

import sys

from heorot.cli import request, table
from heorot.cli.arguments import Command, Option, Parsed, UsageError, parse
from heorot.client.here import with_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Node = dict[str, Any]

COMMAND = Command(
    "bpstat",
    "[OPTION]... [NODES]...\n-A HOST\n-p [NODES]...\nps ... | bpstat -P",
    "Show the nodes and their states; NODES is a node list such as n[0-63], up or all!down.",
    [
        Option("-c --compact", "a line for each state, mode and owner, with its nodes folded (default)"),
        Option("-l --long", "a line for each node"),
        Option("-a --address", "only the addresses"),
        Option("-s --status", "only the states"),
        Option("-n --number", "only the numbers"),
        Option("-t --total", "only how many there are"),
        Option("-S --sort-status", "sort by state, then number (default of -c)"),
        Option("-N --sort-number", "sort by number (default of all other forms)"),
        Option("-O --keep-order", "do not sort: the order of NODES, repeats included"),
        Option("-R --sort-reverse", "reverse the order"),
        Option("-U --update", "show it again whenever it changes, until q or Ctrl-C"),
        Option("-A --host", "print the numbers of the nodes at this host name or address", "HOST"),
        Option("-p --processes", "list processes with their nodes"),
        Option("-P --ps", "read the output of ps on standard input, print it with a column NODE in front"),
        Option("--json", "print a JSON array instead of a table"),
    ],
    "Of several forms the last one given holds.\n"
    "Exit status: 0; 1 no node at HOST, or not every node answered -p; 125 no cluster or refused; 2 usage.",
    completes="nodes",
)

UPDATE_INTERVAL_S = 1.0
FORMS = ("compact", "long", "address", "status", "number", "total", "json")
OCCASIONAL = (("Master", "head"), ("Reason", "wanted"))
"""Columns of tables that are shown where a node has something there, and what it has."""
ORDERS = ("sort-status", "sort-number", "keep-order")


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return request.run_command("bpstat", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMAND, parsed)
    for key in ("host", "ps"):
        if parsed.has(key) and parsed.has("json"):
            raise UsageError(f"--{key} and --json exclude each other")
        if parsed.has(key) and parsed.operands:
            raise UsageError(f"'{parsed.operands[0]}': --{key} takes no node list")
    if parsed.has("update"):
        return _update(parsed)
    head = request.Head(parsed.get("dir"))
    if parsed.has("host"):
        return _numbers_at(head, parsed.get("host"))
    if parsed.has("ps"):
        return _augment_ps(head)
    if parsed.has("processes"):
        return _processes(head, with_here(",".join(parsed.operands)), in_json=parsed.has("json"))
    sys.stdout.write(picture(fetch_nodes(head, parsed), parsed, table.terminal_size(1)[0]))
    return 0


def fetch_nodes(head: request.Head, parsed: Parsed) -> list[Node]:
    """Return the selected nodes in the order wanted."""
    return chosen_nodes(head.ask("nodes", with_here(",".join(parsed.operands))), parsed)


def chosen_nodes(nodes: list[Node], parsed: Parsed) -> list[Node]:
    """Return the nodes in the order wanted, with users and groups by name."""
    for node in nodes:
        node["user"], node["group"] = request.user_name(node["uid"], "#"), request.group_name(node["gid"], "#")
    wanted = _last_of(ORDERS, parsed) or ("sort-status" if form_of(parsed) == "compact" else "sort-number")
    if wanted != "keep-order":
        nodes.sort(key=lambda node: node["id"])
    if wanted == "sort-status":
        nodes.sort(key=lambda node: str(node["state"]))
    if parsed.has("sort-reverse"):
        nodes.reverse()
    return nodes


def form_of(parsed: Parsed) -> str:
    """Return which of `FORMS` is wanted."""
    return _last_of(FORMS, parsed) or "compact"


def _last_of(keys: tuple[str, ...], parsed: Parsed) -> str:
    given = [key for key, _value in parsed.given if key in keys]
    return given[-1] if given else ""


def picture(nodes: list[Node], parsed: Parsed, columns: int) -> str:
    """Return what is to be printed."""
    form = form_of(parsed)
    if form == "json":
        import json

        return json.dumps(nodes) + "\n"
    if form == "total":
        return f"{len(nodes)}\n"
    if form == "long":
        return long(nodes)
    if form == "compact":
        return compact(nodes, columns)
    if form == "address":
        return "".join(f"{address_of(node)}\n" for node in nodes)
    field = {"status": "state", "number": "id"}[form]
    return "".join(f"{table.printable(str(node[field]))}\n" for node in nodes)


def long(nodes: list[Node]) -> str:
    """Return a line for each node; with the reasons of their states, if somebody has set any."""
    import time

    now_s = time.time()
    rows = [
        (
            node["id"], address_of(node), node["state"], mode_text(node["mode"]), node["user"], node["group"],
            node.get("host_name") or "-",
        )
        for node in nodes
    ]  # fmt: skip
    header = ("Node", "Address", "Status", "Mode", "User", "Group", "Host")
    more = [name for name, key in OCCASIONAL if any(node.get(key) for node in nodes)]
    whole = [(*row, *_occasional(node, more, now_s)) for row, node in zip(rows, nodes, strict=True)]
    return table.render((*header, *more), whole, right="Node")


def _occasional(node: Node, columns: list[str], now_s: float = 0) -> tuple[str, ...]:
    """Return what a node has in these columns."""
    values = {"Master": node.get("head") or "-", "Reason": why_set(node, now_s)}
    return tuple(values[name] for name in columns)


def why_set(node: Node, now_s: float = 0) -> str:
    """Return why a node is set to what it is, by whom, and since when if it is said what time it is; else nothing."""
    if not node.get("wanted"):
        return ""
    since = f" {table.clock_time(node['set_at_ms'], now_s)}" if now_s and node["set_at_ms"] else ""
    return f"{node['reason']} ({node['set_by']}{since})".lstrip()


def compact(nodes: list[Node], columns: int) -> str:
    """Return a line for each run of nodes that are alike, their numbers folded, in the order given.

    Numbers that do not fit the terminal go on in a further line of the same kind.
    """
    groups: list[tuple[tuple[str, ...], list[int]]] = []
    more = [name for name, key in OCCASIONAL if any(node.get(key) for node in nodes)]
    header = ("Status", "Mode", "User", "Group", *more)
    for node in nodes:
        alike = (str(node["state"]), mode_text(node["mode"]), node["user"], node["group"], *_occasional(node, more))
        if not groups or groups[-1][0] != alike:
            groups.append((alike, []))
        groups[-1][1].append(node["id"])
    title = "Node(s)"
    rows = [(table.fold_numbers(numbers), alike) for alike, numbers in groups]
    # The node list, the one column without a limit, stands first as in BProc: the others are laid out alone.
    lines = table.render(header, [alike for _, alike in rows]).splitlines()
    width = max([len(title), *(len(numbers) for numbers, _ in rows)])
    if columns:
        width = min(width, max(columns - max(map(len, lines)) - 2, len(title)))
    result = [f"{title:<{width}}  {lines[0]}"]
    for (numbers, _), line in zip(rows, lines[1:], strict=True):
        result += [f"{part:<{width}}  {line}" for part in wrapped(numbers, width)]
    return "\n".join(result) + "\n"


def wrapped(numbers: str, width: int) -> list[str]:
    """Return the list cut after commas into lines of at most `width` characters (a single range may be longer)."""
    lines = [""]
    for part in numbers.split(","):
        if lines[-1] and len(lines[-1]) + len(part) + 1 > width:
            lines.append("")
        lines[-1] += ("," if lines[-1] else "") + part
    return lines


def mode_text(mode: int) -> str:
    """Return ``---x--x--x`` for 0111: as in BProc, only execute permission means something on a node."""
    return "---" + "--".join("x" if mode & bit else "-" for bit in (0o100, 0o010, 0o001))


def _update(parsed: Parsed) -> int:
    from heorot.cli.live import Live
    from heorot.cli.watch import watch

    live = Live(parsed.get("dir"), "nodes", with_here(",".join(parsed.operands)), None, UPDATE_INTERVAL_S)

    def draw(columns: int, rows: int) -> str:
        if live.problem:
            return f"bpstat: {live.problem}\n"
        text = picture(chosen_nodes(live.rows, parsed), parsed, columns)
        return text + "".join(f"bpstat: {notice}\n" for notice in live.notices) if rows else text

    return watch(live, draw, UPDATE_INTERVAL_S)


def _numbers_at(head: request.Head, host: str) -> int:
    import _socket

    from heorot.core.errors import HeorotError

    nodes = head.ask("nodes", "")
    numbers = [node["id"] for node in nodes if host and host.lower() in names_of_node(node)]
    if numbers:
        sys.stdout.write("".join(f"{number}\n" for number in numbers))
        return 0
    try:
        found = {str(entry[4][0]) for entry in _socket.getaddrinfo(host, None)}
    except OSError as error:
        raise HeorotError(f"unknown host '{host}': {error.strerror or error}") from error
    numbers = [node["id"] for node in nodes if address_of(node) in {*found, host}]
    if not numbers:
        print(f"bpstat: no node has the address {host}", file=sys.stderr)
        return 1
    sys.stdout.write("".join(f"{number}\n" for number in sorted(numbers)))
    return 0


def names_of_node(node: Node) -> tuple[str, ...]:
    """Return the names by which a node is called, in lower case."""
    name = str(node.get("host_name", ""))
    return node["name"], name, name.partition(".")[0]


def address_of(node: Node) -> str:
    """Return the node's address without the port of its agent; ``-`` if this head has not seen it."""
    return str(node["address"]).rpartition(":")[0].strip("[]") or "-"


def _ask_processes(head: request.Head, nodes: str) -> tuple[list[tuple[int, int]], int]:
    answer = head.ask("processes", nodes, None)
    missing = sorted(answer["missing"])
    if missing:
        print(f"bpstat: {table.fold_nodes(missing)} did not answer", file=sys.stderr)
    return sorted((process["pid"], process["node"]) for process in answer["processes"]), 1 if missing else 0


def _processes(head: request.Head, nodes: str, *, in_json: bool) -> int:
    pairs, status = _ask_processes(head, nodes)
    if in_json:
        import json

        sys.stdout.write(json.dumps([{"pid": pid, "node": node} for pid, node in pairs]) + "\n")
        return status
    sys.stdout.write("PID\tNode\n" + "".join(f"{pid}\t{node}\n" for pid, node in pairs))
    return status


def _augment_ps(head: request.Head) -> int:
    pairs, status = _ask_processes(head, "")
    nodes = dict(pairs)
    header = sys.stdin.readline().rstrip("\n")
    if "PID" not in header.split():
        print("bpstat: the first line on standard input has no column PID: is it the output of ps?", file=sys.stderr)
        return 1
    column = header.split().index("PID")
    sys.stdout.write(f"NODE\t{header}\n")
    for line in sys.stdin:
        fields = line.split(None, column + 1)
        pid = fields[column] if len(fields) > column else ""
        node = nodes.get(int(pid)) if pid.isdecimal() else None
        sys.stdout.write(f"{'' if node is None else node}\t{line}")
    return status


if __name__ == "__main__":
    from heorot.start import run

    run("bpstat")
