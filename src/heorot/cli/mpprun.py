"""`mpprun`: run an MPI program, so many ranks on the nodes that there are. Called ``mpirun``, it is the same."""

from __future__ import annotations

import os

from heorot.cli import request
from heorot.cli.arguments import Command, Option, Parsed, UsageError
from heorot.cli.foreground.options import SECTIONS
from heorot.cli.options import OptionTable

COMMAND = Command(
    "mpprun",
    "[OPTION]... PROGRAM [ARG]...",
    "Run a program of MPI (MPICH) on nodes, its ranks in blocks: the first ones on the first node.",
    [
        Option("-n --np", "how many ranks (NP, or one for each node); also -np N", "N"),
        Option("--nodes", "on these nodes (all that are up)", "NODES"),
        Option("--cyclic", "one rank on each node in turn, in place of blocks"),
    ],
    "Other options are those of bpsh, such as -p, -s, --json, --with: see 'bpsh --help'.\n"
    "The exit status is that of 'bpsh --mpi'.",
    completes="nodes",
)
MAX_RANKS = 131_072
_NOT_FROM_BPSH = (
    "up", "not_down", "no_stdin", "mpi", "dir", "help", "version",
    "ranks", "ranks_per_node", "rolling", "stop_on_failure",
)  # fmt: skip
_OF_BPSH = [option for _, options in SECTIONS for option in options if option.key not in _NOT_FROM_BPSH]
_TABLE = OptionTable([*COMMAND.options, *_OF_BPSH])


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return request.run_command("mpprun", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = Parsed()
    # As a word of its own, which would otherwise be -n with the value p. Behind the program words stay what they are.
    index = _TABLE.take(["--np" if word == "-np" else word for word in arguments], 0, parsed)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMAND, parsed)
    if index >= len(arguments):
        raise UsageError("no program given")
    count = parsed.integer("np", 0, 1, MAX_RANKS) or count_of(os.environ.get("NP", ""))
    nodes = parsed.get("nodes")
    numbers: list[int] = request.Head(parsed.get("dir") or None).ask("resolve", nodes, "list" if nodes else "up")
    places = list_of(spread(numbers, count or len(numbers), parsed.has("cyclic")))
    # Only now: a command that is used wrongly loads nothing of a job in the foreground.
    from heorot.cli.bpsh import run_bpsh

    return run_bpsh(["--mpi", *for_bpsh(parsed), places, "--", *arguments[index:]])


def count_of(text: str) -> int:
    """Return the number of ranks that the environment asks for; 0: it does not. Raises UsageError."""
    if text and not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_RANKS):
        raise UsageError(f"NP in the environment is no number of ranks: {text!r}")
    return int(text or 0)


def spread(nodes: list[int], ranks: int, cyclic: bool = False) -> list[int]:
    """Return the node of each rank; nodes that are named first have one rank more if it does not come out even."""
    if cyclic or ranks <= len(nodes):
        return [nodes[rank % len(nodes)] for rank in range(ranks)]
    each, more = divmod(ranks, len(nodes))
    return [node for place, node in enumerate(nodes) for _ in range(each + (place < more))]


def list_of(nodes: list[int]) -> str:
    """Return a node list that names these nodes in this order, as often as they stand here: ``n[0-3],n7,n7``."""
    runs: list[list[int]] = []
    for node in nodes:
        if runs and node == runs[-1][1] + 1:
            runs[-1][1] = node
        else:
            runs.append([node, node])
    return ",".join(f"n{first}" if first == last else f"n[{first}-{last}]" for first, last in runs)


def for_bpsh(parsed: Parsed) -> list[str]:
    """Return the options that are bpsh's, as it takes them."""
    names = {option.key: option for option in _OF_BPSH}
    words: list[str] = []
    for key, value in parsed.given:
        option = names.get(key)
        if option is not None:
            words += [option.names[-1], value] if option.value else [option.names[-1]]
    return [*words, "--dir", parsed.get("dir")] if parsed.has("dir") else words
