"""bpjob: list, show, attach to, wait for and end jobs."""

from __future__ import annotations

import sys

from heorot.cli import bpkill, request, table
from heorot.cli.arguments import Command, Option, Parsed, UsageError, parse
from heorot.client.endpoint import cluster_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from heorot.core.client.end import Status

    Job = dict[str, Any]

STATES = ("launching", "running", "done")
_JSON = Option("--json", "print JSON instead of text")

COMMANDS = {
    "list": Command(
        "bpjob list",
        "[OPTION]...",
        "List the jobs that the cluster holds: those that run, and the last ones that are over.",
        [
            Option("-u --user", "only jobs of these users, by name or number", "USER[,USER]"),
            Option("-s --state", f"only jobs in these states: {', '.join(STATES)}", "STATE[,STATE]"),
            Option("-H --no-header", "no header line"),
            _JSON,
        ],
    ),
    "show": Command(
        "bpjob show",
        "JOB [--json]",
        "Show one job: what it runs, where, and what became of each rank.",
        [_JSON],
        completes="jobs",
    ),
    "attach": Command(
        "bpjob attach",
        "[OPTION]... JOB",
        "Take part in a job as the bpsh that started it would: its output, its signals, its exit status.",
        [
            Option("-f --from-start", "show the output again from the first byte that is still kept"),
            Option("-L --lines", "whole lines, never mixed"),
            Option("-p --prefix", "the number of the node before each line"),
            Option("--label", "the name of the node before each line"),
            Option("--watch", "only look on, beside whoever reads the job: from now on, until it is over"),
        ],
        "At a terminal, Ctrl-D leaves the job running; Ctrl-C, Ctrl-Z and Ctrl-\\ go to it, as with bpsh.\n"
        "If whatever reads the output closes it, the job runs on as well. What was not written is kept for the\n"
        "next attach. Standard input is not passed on.\n"
        "The job must be detached, or have lost its client. Exit status: as bpsh, also after Ctrl-D if all of the\n"
        "job was written; 0 if Ctrl-D left it; 141 if the output was closed.\n"
        "With --watch nothing that happens here reaches the job: Ctrl-C ends the look, and who is too slow is told\n"
        "how many bytes are missing.",
        completes="jobs",
    ),
    "wait": Command(
        "bpjob wait",
        "JOB...",
        "Wait until all ranks of the jobs are over.",
        [Option("-q --quiet", "do not say which ranks failed, were killed or lost")],
        "Exit status: the largest of the ranks', as bpsh: 128+N for a signal, 255 for a rank lost with its node;\n"
        "125 no cluster or refused; 2 usage.",
        completes="jobs",
    ),
    "kill": Command(
        "bpjob kill",
        "[-SIGNAL | -s SIGNAL] JOB[:RANKS]...",
        "Send a signal (TERM) to all ranks of jobs, or to some ranks of them (0,4-7).",
        [Option("-s --signal", "the signal, by name or number", "SIGNAL")],
        completes="jobs",
    ),
}

USAGE = """usage: bpjob list | show JOB | attach JOB | wait JOB... | kill [-SIGNAL] JOB...

Look at, join, await and end jobs. A job is what one bpsh started; its id is EPOCH.SEQUENCE, for example 1.42.

  list    list the jobs
  show    show one job with the status of each rank
  attach  take part in a job as the bpsh that started it would
  wait    wait until jobs are over
  kill    send a signal to all ranks of a job, or to some

'bpjob COMMAND --help' says more.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return request.run_command("bpjob", _body, arguments)


def _body(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        (sys.stdout if arguments else sys.stderr).write(USAGE)
        return 0 if arguments else 2
    name = arguments[0]
    if name in ("-v", "-V", "--version"):
        return request.show_help(COMMANDS["list"], parse(COMMANDS["list"], ["--version"]))
    actions: dict[str, Callable[[Parsed], int]] = {"list": _list, "show": _show, "attach": _attach, "wait": _wait}
    if name not in COMMANDS:
        raise UsageError(f"unknown command '{name}'")
    rest = arguments[1:]
    signal = ""
    if name == "kill":
        signal, rest = bpkill.split_signal(rest)
    parsed = parse(COMMANDS[name], rest)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMANDS[name], parsed)
    if name == "list" and parsed.operands:
        raise UsageError(f"'{parsed.operands[0]}': list takes no job; 'bpjob show JOB' shows one")
    if name != "list" and not parsed.operands:
        raise UsageError(f"{name} needs a job")
    if name in ("show", "attach") and len(parsed.operands) > 1:
        raise UsageError(f"{name} takes one job")
    for operand in parsed.operands:
        bpkill.require_job(operand.partition(":")[0] if name == "kill" else operand, operand)
    return _kill(parsed, signal) if name == "kill" else actions[name](parsed)


def _list(parsed: Parsed) -> int:
    states = {state for state in parsed.get("state").split(",") if state}
    for state in sorted(states.difference(STATES)):
        raise UsageError(f"'{state}' is not a state of a job; the states are {', '.join(STATES)}")
    jobs = request.Head(parsed.get("dir")).ask("jobs")
    users = request.chosen_users(parsed.get("user"), [job["user"] for job in jobs])
    jobs = [
        job
        for job in jobs
        if (not users or job["user"] in users or str(job["uid"]) in users) and (not states or job["state"] in states)
    ]
    if parsed.has("json"):
        import json

        sys.stdout.write(json.dumps([json_job(job) for job in jobs]) + "\n")
        return 0
    text = job_listing(jobs, table.terminal_size(1)[0])
    sys.stdout.write(text.partition("\n")[2] if parsed.has("no-header") else text)
    return 0


def job_listing(jobs: list[Job], columns: int) -> str:
    """Return the table of jobs."""
    import time

    now_s = time.time()
    header = [
        "JOB",
        "STATE",
        "USER",
        "RANKS",
        "RUNNING",
        "ENDED",
        "NEVER-RAN",
        "LOST",
        "ATTENDED",
        "START",
        "NODES",
        "COMMAND",
    ]
    rows = [
        (
            job["job"],
            job["state"],
            job["user"] or job["uid"],
            job["ranks"],
            job["running"],
            # Each rank in one column only.
            job["exited"] - job["failed"] - job["lost"],
            job["failed"],
            job["lost"],
            "yes" if job["attended"] else "no",
            table.clock_time(job["started_at_ms"], now_s),
            job["nodes"],
            table.command_of(job["argv"]),
        )
        for job in jobs
    ]
    return table.render(header, rows, right="RANKS RUNNING ENDED NEVER-RAN LOST", width=columns)


def json_job(job: Job) -> Job:
    """Return the job's stable JSON form, docs/commands.md: as the head says, its arguments as text."""
    result: Job = {}
    for key, value in job.items():
        result.update(request.json_arguments(value) if key == "argv" else {key: value})
    return result


def _show(parsed: Parsed) -> int:
    job = request.Head(parsed.get("dir")).ask("job", parsed.operands[0])
    if parsed.has("json"):
        import json

        sys.stdout.write(json.dumps(json_job(job)) + "\n")
    else:
        sys.stdout.write(description(job, table.terminal_size(1)[0]))
    return 0


def description(job: Job, columns: int) -> str:
    """Return everything about one job as text."""
    import time

    from heorot.client.endings import in_words

    started = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(job["started_at_ms"] / 1000))
    facts = [
        ("Job", job["job"]),
        ("State", f"{job['state']}{': ' + job['text'] if job.get('text') else ''}"),
        ("Command", table.command_of(job["argv"])),
        ("User", job["user"] or job["uid"]),
        ("Started", started),
        ("Ranks", f"{job['ranks']}: {counts(job)}"),
        ("Nodes", job["nodes"]),
        ("Attended", ("yes" if job["attended"] else "no") + (", detached" if job["detached"] else "")),
    ]
    if job.get("time_limit_ms"):
        facts.append(("Limit", f"{job['time_limit_ms'] / 1000:g} s from the start on each node"))
    text = "".join(f"{name + ':':<10}{table.printable(str(value))}\n" for name, value in facts)
    rows = []
    statuses = statuses_of(job)
    for rank, node in enumerate(job["rank_nodes"]):
        pid = job["pids"].get(str(rank), "-")
        used = job.get("used", {}).get(str(rank))
        cpu_time = table.processor_time(used["user_time_ms"] + used["system_time_ms"]) if used else "-"
        peak = table.memory(used["peak_memory_bytes"]) if used and used["peak_memory_bytes"] else "-"
        alive = "starting" if pid == "-" else _stands(job, rank)
        status = in_words(statuses[rank]) if rank in statuses else alive
        rows.append((rank, table.node_name(node), pid, cpu_time, peak, status))
    header = ("RANK", "NODE", "PID", "TIME", "PEAK", "STATUS")
    return text + "\n" + table.render(header, rows, right="RANK PID TIME PEAK", width=columns)


def _stands(job: Job, rank: int) -> str:
    signal = job.get("stopped", {}).get(str(rank))
    if signal is None:
        return "running"
    from heorot.linux.signal_names import signal_name

    return f"stopped by {signal_name(signal)}"


def statuses_of(job: Job) -> dict[int, Status]:
    """Return how the ranks ended that are over."""
    from heorot.core.client.end import Status

    return {int(rank): Status.of_json(status) for rank, status in job["statuses"].items()}


def counts(job: Job) -> str:
    """Return how many ranks are in which state, each counted once."""
    fates = dict.fromkeys(
        ("never ran", "exited with 0", "exited with another status than 0", "killed by a signal", "lost with a node"), 0
    )
    for status in statuses_of(job).values():
        if status.lost:
            fates["lost with a node"] += 1
        elif status.signal is not None:
            fates["killed by a signal"] += 1
        elif status.error is not None:
            fates["never ran"] += 1
        else:
            fates["exited with another status than 0" if status.code else "exited with 0"] += 1
    starting = job["ranks"] - job["running"] - len(job["statuses"])
    stopped = len(job.get("stopped", {}))
    alive = {"starting": starting, "running": job["running"] - stopped, "stopped": stopped}
    return ", ".join(f"{count} {state}" for state, count in {**alive, **fates}.items() if count)


def _wait(parsed: Parsed) -> int:
    head = request.Head(parsed.get("dir"), timeout_s=None, notice=lambda text: print(f"bpjob: {text}", file=sys.stderr))
    largest = 0
    for job in head.ask_all([("wait", operand) for operand in parsed.operands]):
        if not parsed.has("quiet"):
            sys.stderr.write("".join(f"bpjob: {line}\n" for line in troubles(job)))
        largest = max(largest, *(status.exit_status for status in statuses_of(job).values()), 0)
    return largest


def troubles(job: Job) -> list[str]:
    """Return a line for each way in which ranks ended, ranks with the same fate on one line.

    Not for those that exited with 0, nor if all exited with the same status.
    """
    from heorot.client.endings import in_words

    statuses = statuses_of(job)
    plain = {status.code for status in statuses.values() if status.code is not None and status.error is None}
    alike = len(plain) == 1 and all(status.code is not None and status.error is None for status in statuses.values())
    fates: dict[str, list[int]] = {}
    for rank, status in statuses.items():
        if status.code is None or status.error is not None or (status.code and not alike):
            fates.setdefault(in_words(status), []).append(rank)
    lines = [f"job {job['job']}: {job['text']}"] if job.get("text") else []
    for fate, ranks in fates.items():
        nodes = table.fold_nodes(job["rank_nodes"][rank] for rank in ranks)
        lines.append(
            f"job {job['job']}: {'rank' if len(ranks) == 1 else 'ranks'} {table.fold_numbers(ranks)} on {nodes}: {fate}"
        )
    return lines


def _kill(parsed: Parsed, signal: str) -> int:
    if signal and parsed.has("signal"):
        raise UsageError("the signal is given twice")
    number = bpkill.signal_number(signal or parsed.get("signal", "TERM"))
    requests = [bpkill.target_request(operand, number) for operand in parsed.operands]
    return bpkill.send_requests("bpjob", request.Head(parsed.get("dir")), parsed.operands, requests)


def _attach(parsed: Parsed) -> int:
    from heorot.cli.foreground.attach import attach

    styles = {"label": "label", "prefix": "number", "lines": "lines"}
    style = next((style for key, style in styles.items() if parsed.has(key)), "")
    directory = cluster_directory(parsed.get("dir"))
    if parsed.has("watch"):
        if parsed.has("from-start"):
            raise UsageError("--watch and --from-start exclude each other: what was written before was for the reader")
        from heorot.cli.foreground.onlook import look_on

        return look_on(directory, parsed.operands[0], style)
    return attach(directory, parsed.operands[0], parsed.has("from-start"), style)


if __name__ == "__main__":
    from heorot.start import run

    run("bpjob")
