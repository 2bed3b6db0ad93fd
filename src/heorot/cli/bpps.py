"""bpps: one table of all processes of all nodes."""

from __future__ import annotations

import sys

from heorot.cli import request, table
from heorot.cli.arguments import Command, Option, Parsed, UsageError, parse
from heorot.client.here import with_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from heorot.cli.live import Live

COMMAND = Command(
    "bpps",
    "[OPTION]...",
    "List the processes of all nodes that are up, as one table.",
    [
        Option("-n --nodes", "only processes on these nodes", "LIST"),
        Option("-j --job", "only processes of this job", "JOB"),
        Option("-u --user", "only processes of these users, by name or number", "USER[,USER]"),
        Option("-s --state", "only processes in these states: letters of ps(1), for example R or DT", "STATES"),
        Option("-r --ranks-only", "only ranks, not what they have started"),
        Option("-k --sort", "keys: node, pid, job, rank, user, state, start, time, memory; - reverses", "KEY[,KEY]"),
        Option("-l --long", "also parent, processor time and memory"),
        Option("-w --watch", "show it again every so many seconds (2) until q or Ctrl-C", "SECONDS", optional=True),
        Option("-H --no-header", "no header line"),
        Option("--json", "print a JSON array instead of a table"),
    ],
    "Exit status: 0 complete; 1 some node did not answer, which is said on standard error;\n"
    "125 no cluster or refused; 2 usage.",
)

SORT_KEYS = {
    "node": "node",
    "pid": "pid",
    "job": "job",
    "rank": "rank",
    "user": "user",
    "state": "state",
    "start": "started_at_ms",
    "time": "user_time_ms",
    "memory": "memory_bytes",
}
STATES = {"R": "running", "S": "sleeping", "D": "waiting for a disk", "T": "stopped", "Z": "zombie"}
WATCH_INTERVAL_S = 2.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return request.run_command("bpps", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMAND, parsed)
    if parsed.operands:
        raise UsageError(
            f"'{parsed.operands[0]}' is not an option; nodes are selected with -n, users with -u, jobs with -j"
        )
    if job := parsed.get("job"):
        from heorot.cli.bpkill import require_job

        require_job(job, job)
    sort_keys(parsed.get("sort"))
    chosen_states(parsed.get("state"))
    request.chosen_users(parsed.get("user"))
    if not parsed.has("watch"):
        head = request.Head(parsed.get("dir"))
        processes, missing = fetch_processes(head, parsed)
        sys.stdout.write(
            processes_json(processes) + "\n" if parsed.has("json") else process_listing(processes, parsed, *_size())
        )
        sys.stdout.flush()
        if missing:
            print(f"bpps: {missing_text(missing)}", file=sys.stderr)
        return 1 if missing else 0

    from heorot.cli.live import Live
    from heorot.cli.watch import interval, watch

    seconds = interval(parsed.get("watch"), WATCH_INTERVAL_S)
    live = Live(parsed.get("dir"), "processes", with_here(parsed.get("nodes")), parsed.get("job") or None, seconds)
    return watch(live, lambda columns, rows: _picture(live, parsed, columns, rows), seconds)


def fetch_processes(head: request.Head, parsed: Parsed) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the selected processes in the order wanted, with users by name, and the nodes that did not answer."""
    answer = head.ask("processes", with_here(parsed.get("nodes")), parsed.get("job") or None)
    return chosen_processes(answer["processes"], parsed), sorted(answer["missing"])


def chosen_processes(processes: list[dict[str, Any]], parsed: Parsed) -> list[dict[str, Any]]:
    """Return those of the processes that are selected, in the order wanted, with users by name."""
    names: dict[int, str] = {}
    wanted_users = request.chosen_users(parsed.get("user"))
    states = chosen_states(parsed.get("state"))
    chosen = []
    for process in processes:
        uid = process["uid"]
        if uid not in names:
            names[uid] = process.get("user") or request.user_name(uid)
        process["user"] = names[uid]
        if wanted_users and process["user"] not in wanted_users and str(uid) not in wanted_users:
            continue
        if states and process["state"][:1].upper() not in states:
            continue
        if parsed.has("ranks-only") and not process["leader"]:
            continue
        chosen.append(process)
    for key, reverse in reversed(sort_keys(parsed.get("sort"))):
        chosen.sort(key=lambda process: sortable(process[key]), reverse=reverse)
    return chosen


def chosen_states(text: str) -> str:
    """Return the letters of ``--state``, of which there may be none."""
    states = text.upper().replace(",", "")
    for state in states:
        if state not in STATES:
            known = ", ".join(f"{letter} {meaning}" for letter, meaning in STATES.items())
            raise UsageError(f"'{state}' is not a state; the states are {known}")
    return states


def sort_keys(text: str) -> list[tuple[str, bool]]:
    """Return fields and whether to reverse, for the value of ``--sort``; by node and PID if it is empty."""
    keys = []
    for word in (text or "node,pid").split(","):
        name = word.lstrip("+-")
        if name not in SORT_KEYS:
            raise UsageError(f"'{name}' is not a sort key; the keys are {', '.join(SORT_KEYS)}")
        keys.append((SORT_KEYS[name], word.startswith("-")))
    return keys


def sortable(value: Any) -> tuple[int, Any]:
    """Return a key under which missing values come last and job ids sort by number."""
    if value is None:
        return (1, 0)
    if isinstance(value, str) and "." in value and value.replace(".", "", 1).isdecimal():
        return (0, tuple(map(int, value.split("."))))
    return (0, value)


def process_listing(processes: list[dict[str, Any]], parsed: Parsed, columns: int = 0) -> str:
    """Return the table."""
    import time

    now_s = time.time()
    header = ["PID", "NODE", "JOB", "RANK", "USER", "STATE", "START", "COMMAND"]
    if parsed.has("long"):
        header[7:7] = ["PPID", "TIME", "MEMORY"]
    rows = []
    for process in processes:
        row = [
            process["pid"],
            table.node_name(process["node"]),
            process["job"] or "-",
            "-" if process["rank"] is None else process["rank"],
            process["user"],
            process["state"],
            table.clock_time(process["started_at_ms"], now_s),
        ]
        if parsed.has("long"):
            row += [process["parent_pid"], table.processor_time(process["user_time_ms"])]
            row += [table.memory(process["memory_bytes"])]
        rows.append([*row, command_line(process["argv"])])
    text = table.render(header, rows, right="PID RANK PPID TIME MEMORY", width=columns)
    return text.partition("\n")[2] if parsed.has("no-header") else text


def command_line(argv: list[bytes]) -> str:
    """Return the arguments as one line; a process without any (a kernel thread, a zombie) is ``[]``."""
    return table.command_of(argv) or "[]"


def processes_json(processes: list[dict[str, Any]]) -> str:
    """Return the stable form of docs/commands.md."""
    import json

    return json.dumps([json_row(process) for process in processes])


def json_row(process: dict[str, Any]) -> dict[str, Any]:
    """Return one process with its arguments as text."""
    row = {key: process[key] for key in ("pid", "node", "job", "rank", "uid", "user", "state", "started_at_ms")}
    row.update(request.json_arguments(process["argv"]))
    row.update({key: process[key] for key in ("leader", "parent_pid", "user_time_ms", "memory_bytes")})
    return row


def missing_text(missing: list[int]) -> str:
    """Return the warning about nodes that did not answer."""
    return f"{table.fold_nodes(missing)} did not answer: the processes there are not shown"


def _picture(live: Live, parsed: Parsed, columns: int, rows: int) -> str:
    import time

    if live.problem:
        return f"bpps: {live.problem}\n"
    processes, missing = chosen_processes(live.rows, parsed), sorted(live.missing)
    if parsed.has("json"):
        return processes_json(processes) + "\n"
    text = process_listing(processes, parsed, columns)
    if not rows:
        return text + "\n"
    lines = text.splitlines()
    room = rows - 4
    if len(lines) > room:
        lines[room:] = [f"... and {len(lines) - room} more"]
    title = f"{len(processes)} processes{' '.rjust(4)}{time.strftime('%H:%M:%S')}"
    if missing:
        title += f"    {missing_text(missing)}"
    return "\n".join([table.cut(title, columns), "", *lines])


def _size() -> tuple[int]:
    return (table.terminal_size(1)[0],)


if __name__ == "__main__":
    from heorot.start import run

    run("bpps")
