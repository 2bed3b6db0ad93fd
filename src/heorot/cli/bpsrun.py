"""`bpsrun`: what MPICH's mpiexec expects of srun, so that it starts its proxies on all nodes by one launch."""

from __future__ import annotations

from heorot.cli import request
from heorot.cli.arguments import Command, Option, Parsed, UsageError
from heorot.cli.mpprun import MAX_RANKS, list_of, spread
from heorot.cli.options import OptionTable

COMMAND = Command(
    "bpsrun",
    "--nodelist NODES [OPTION]... COMMAND [ARG]...",
    "Run a command on nodes, called as Slurm's srun is: mpiexec -launcher slurm -launcher-exec bpsrun ...",
    [
        Option("-w --nodelist", "on these nodes", "NODES"),
        Option("-N", "how many nodes these are", "N", key="count"),
        Option("-n --ntasks", "how many processes (one for each node)", "N"),
        Option("--input", "none: stdin from /dev/null", "none|all"),
        Option("--with", "send this file or directory, too; may be repeated", "PATH"),
    ],
    "Each process has SLURM_NODEID, SLURM_PROCID, SLURM_NTASKS and SLURM_NNODES.\nThe exit status is that of bpsh.",
    completes="nodes",
)
_TABLE = OptionTable(COMMAND.options)
PREFIX = (
    "SLURM_NODEID=$HEOROT_RANK SLURM_PROCID=$HEOROT_RANK SLURM_NTASKS=$HEOROT_SIZE SLURM_NNODES={nodes};"
    ' export SLURM_NODEID SLURM_PROCID SLURM_NTASKS SLURM_NNODES; exec "$@"'
)
"""What gives a process its numbers, which are not the same for all."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return request.run_command("bpsrun", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = Parsed()
    index = _TABLE.take(arguments, 0, parsed)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMAND, parsed)
    if not parsed.has("nodelist"):
        raise UsageError("no nodes given; --nodelist says which")
    if index >= len(arguments):
        raise UsageError("no command given")
    nodes: list[int] = request.Head(parsed.get("dir") or None).ask("resolve", parsed.get("nodelist"), "list")
    count = parsed.integer("count", len(nodes), 1, MAX_RANKS)
    if count != len(nodes):
        raise UsageError(f"-N says {count} nodes, and --nodelist names {len(nodes)}")
    ranks = parsed.integer("ntasks", len(nodes), 1, MAX_RANKS)
    words = ["-n"] if parsed.get("input") == "none" else []
    for path in parsed.all("with"):
        words += ["--with", path]
    if parsed.has("dir"):
        words += ["--dir", parsed.get("dir")]
    from heorot.cli.bpsh import run_bpsh

    places = list_of(spread(nodes, ranks))
    return run_bpsh([*words, places, "--", "sh", "-c", PREFIX.format(nodes=len(nodes)), "sh", *arguments[index:]])
