"""``heorot node drain`` and ``resume``: take nodes out of use for a while, and give them back."""

from __future__ import annotations

import json
import sys
from typing import Any

from heorot.cli import request, table
from heorot.cli.admin.shared import Subcommand, plural, run_group
from heorot.cli.arguments import Command, Option, Parsed


def main(argv: list[str]) -> int:
    """Run ``heorot node ARGUMENTS`` (it begins with ``drain`` or ``resume``), return its exit status."""
    return run_group("node", SUBCOMMANDS, argv)


def _drain(parsed: Parsed) -> int:
    return _set(parsed, "drain")


def _resume(parsed: Parsed) -> int:
    return _set(parsed, "up")


def _set(parsed: Parsed, state: str) -> int:
    head = request.Head(parsed.get("dir"))
    answer = head.ask("set-nodes", parsed.operands[0], state, parsed.get("reason"), -1, -1, -1)
    answer.pop("command", None)
    if parsed.has("json"):
        print(json.dumps(answer))
    else:
        print(_told(head, answer, state))
    return tell_late("heorot", answer)


def _told(head: request.Head, answer: dict[str, Any], state: str) -> str:
    nodes = table.fold_nodes(answer["nodes"])
    are = "is" if len(set(answer["nodes"])) == 1 else "are"
    if state == "up":
        return f"{nodes} {are} set to nothing any more: processes may be started there"
    rows = head.ask("nodes", nodes)
    ranks = sum(row["ranks"] for row in rows)
    goes_on = f"{plural(ranks, 'rank')} {'goes' if ranks == 1 else 'go'} on there" if ranks else "nothing runs there"
    return f"{nodes} {are} drained: nothing is started there any more; {goes_on}"


def tell_late(command: str, answer: dict[str, Any]) -> int:
    """Say on which nodes something may be started yet; return the exit status."""
    if not answer["late"]:
        return 0
    nodes = table.fold_nodes(answer["late"])
    print(
        f"{command}: on {nodes} something may be started yet that was launched before; say it again to be sure",
        file=sys.stderr,
    )
    return 1


JSON = Option("--json", "print a JSON object")
SUBCOMMANDS = {
    "drain": Subcommand(
        Command(
            "heorot node drain",
            "[OPTION]... NODES",
            "Let nothing be started on nodes any more, by nobody: what runs there goes on. It is so under every head\n"
            "from then on, also after a restart of all of them. Only root and the cluster's owner may do it.",
            [Option("--reason", "why, for people, at most 255 characters", "TEXT"), JSON],
            "Exit status: 0; 1 refused, or something may be started there yet; 2 usage.",
            completes="nodes",
        ),
        _drain,
        ("NODES",),
    ),
    "resume": Subcommand(
        Command(
            "heorot node resume",
            "[OPTION]... NODES",
            "Take back what nodes are set to, drained or in any other state: they are up when they are up.",
            [JSON],
            "Exit status: 0; 1 refused; 2 usage.",
            completes="nodes",
        ),
        _resume,
        ("NODES",),
    ),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
