"""bpkill: send a signal to processes, process groups, jobs or ranks of the cluster."""

from __future__ import annotations

import os
import sys

from heorot.cli import request, table
from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.client.here import with_here
from heorot.core.client.messages import is_job
from heorot.core.errors import RequestError

COMMAND = Command(
    "bpkill",
    "[-SIGNAL | -s SIGNAL] TARGET...\n-l [SIGNAL | STATUS]...",
    "Send a signal (TERM) to processes anywhere in the cluster.",
    [
        Option(
            "-s --signal", "the signal: a name with or without SIG, or a number; 0 only asks whether it could", "SIGNAL"
        ),
        Option("-l --list", "list the signals, or translate names and numbers"),
    ],
    "TARGET is a cluster PID; -PGID, a process group (after a signal or --); NODE:PID, a PID on that node;\n"
    "JOB, for example 1.42, all of its ranks; or JOB:RANKS, for example 1.42:0,4-7.\n"
    "Exit status: 0 every target was signalled; 1 some target failed; 125 no cluster or refused; 2 usage.",
    completes="targets",
)

MAX_SIGNAL = 64
MAX_RANK = 1 << 20


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return request.run_command("bpkill", _body, arguments)


def _body(arguments: list[str]) -> int:
    name, arguments = split_signal(arguments)
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMAND, parsed)
    if parsed.has("list"):
        return _list_signals(parsed.operands)
    if name and parsed.has("signal"):
        raise UsageError("the signal is given twice")
    number = signal_number(name or parsed.get("signal", "TERM"))
    if not parsed.operands:
        raise UsageError("no target: name a cluster PID or a job")
    targets = [target_request(target, number) for target in parsed.operands]
    return send_requests("bpkill", request.Head(parsed.get("dir")), parsed.operands, targets)


def send_requests(command: str, head: request.Head, names: list[str], requests: list[tuple[object, ...]]) -> int:
    """Send `Signal` requests, say of each that failed why, and return the exit status."""
    status = 0
    # The nodes do not tell others what exists.
    nothing = "no such process" if os.geteuid() == 0 else "no such process, or it is not yours"
    for name, answer in zip(names, head.ask_all(requests, refusals=True), strict=True):
        trouble = ""
        if isinstance(answer, RequestError):
            trouble = str(answer)
        else:
            matched, missing = answer
            if missing:
                trouble = f"{table.fold_nodes(missing)} did not answer"
                trouble = f"{trouble} ({matched} signalled elsewhere)" if matched else f"{nothing}; {trouble}"
            elif not matched:
                trouble = "no process left" if "." in name else nothing
        if trouble:
            print(f"{command}: ({name}): {trouble}", file=sys.stderr)
            status = 1
    return status


def split_signal(arguments: list[str]) -> tuple[str, list[str]]:
    """Return the signal of a first argument like ``-9`` or ``-KILL`` (or ""), and the arguments for the parser.

    Once a signal was named, a negative number is a process group, as with kill(1); ``--`` says so, too.
    """
    name = ""
    rest = list(arguments)
    if rest and len(rest[0]) > 1 and rest[0][0] == "-" and rest[0][1:].upper() not in ("L", "S"):
        word = rest[0][1:]
        # No option is spelled in several capitals: this was meant as a signal, which will be said.
        if word.isdecimal() or find_signal(word) is not None or (len(word) > 1 and word.isalpha() and word.isupper()):
            name = rest.pop(0)[1:]
    for index, argument in enumerate(rest):
        if argument == "--":
            break
        if (
            argument[:1] == "-"
            and argument[1:].isdecimal()
            and (name or "-s" in rest[:index] or _signal_seen(rest[:index]))
        ):
            rest.insert(index, "--")
            break
    return name, rest


def _signal_seen(arguments: list[str]) -> bool:
    return any(argument.startswith(("-s", "--s")) for argument in arguments)


def target_request(target: str, signal_number: int) -> tuple[object, ...]:
    """Return the `Signal` request for one target.

    Raises
    ------
    UsageError
        If the target cannot be read.
    """
    node, colon, pid = target.partition(":")
    if colon and node[:1].isalpha():
        return ("signal", None, None, [_pid(pid, target)], signal_number, with_here(node))
    job, colon, ranks = target.partition(":")
    if is_job(job):
        return ("signal", job, parse_ranks(ranks, target) if colon else None, None, signal_number, "")
    return ("signal", None, None, [_pid(target, target)], signal_number, "")


def _pid(text: str, target: str) -> int:
    if text.removeprefix("-").isdecimal() and text.isascii() and 0 < int(text.removeprefix("-")) < 1 << 31:
        return int(text)
    raise UsageError(
        f"'{target}' is not a target: give a cluster PID, -PGID, NODE:PID, a job (1.42) or ranks of it (1.42:0-3)"
    )


def require_job(text: str, operand: str) -> None:
    """Raise UsageError if this part of an operand is not a job's id."""
    if not is_job(text):
        raise UsageError(f"'{operand}' is not a job: an id is EPOCH.SEQUENCE, for example 1.42")


def parse_ranks(text: str, target: str) -> list[int]:
    """Return the ranks of ``0,4-7``.

    Raises
    ------
    UsageError
        If the list cannot be read.
    """
    ranks: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and part.isascii() and int(first) <= int(last) < MAX_RANK):
            raise UsageError(f"'{target}': '{text}' is not a list of ranks such as 0,4-7")
        ranks += range(int(first), int(last) + 1)
    return sorted(set(ranks))


def find_signal(name: str) -> int | None:
    """Return the number of a signal's name, with or without SIG, in any case; None if there is none."""
    import signal

    upper = name.upper().removeprefix("SIG")
    if upper.startswith(("RTMIN", "RTMAX")):
        base = signal.SIGRTMIN if upper.startswith("RTMIN") else signal.SIGRTMAX
        offset = upper[5:] or "+0"
        if offset[0] not in "+-" or not offset[1:].isdecimal():
            return None
        number = base + int(offset)
        return number if signal.SIGRTMIN <= number <= signal.SIGRTMAX else None
    for known in signal.Signals:
        if known.name == "SIG" + upper:
            return int(known)
    return {"IOT": 6, "POLL": 29, "CLD": 17}.get(upper)


def signal_number(text: str) -> int:
    """Return the number of a signal given by name or number.

    Raises
    ------
    UsageError
        If there is no such signal.
    """
    number = int(text) if text.isdecimal() and text.isascii() else find_signal(text)
    if number is None or number > MAX_SIGNAL:
        raise UsageError(f"unknown signal '{text}'; 'bpkill -l' lists them")
    return number


def short_signal_name(number: int) -> str:
    """Return a signal's name without SIG, or its number."""
    from heorot.linux.signal_names import signal_name

    name = signal_name(number)
    return name.removeprefix("SIG") if name.startswith("SIG") else str(number)


def _list_signals(operands: list[str]) -> int:
    if not operands:
        lines = []
        numbers = [number for number in range(1, MAX_SIGNAL + 1) if short_signal_name(number) != str(number)]
        for start in range(0, len(numbers), 5):
            lines.append(
                "".join(f"{number:2} {short_signal_name(number):<12}" for number in numbers[start : start + 5]).rstrip()
            )
        sys.stdout.write("\n".join(lines) + "\n")
        return 0
    for operand in operands:
        if operand.isdecimal() and operand.isascii():
            # As kill(1): an exit status above 128 means the signal that it stands for.
            number = int(operand) - 128 if int(operand) > 128 else int(operand)
            if not 0 < number <= MAX_SIGNAL:
                raise UsageError(f"unknown signal '{operand}'")
            sys.stdout.write(f"{short_signal_name(number)}\n")
        else:
            sys.stdout.write(f"{signal_number(operand)}\n")
    return 0


if __name__ == "__main__":
    from heorot.start import run

    run("bpkill")
