"""``heorot events``: what has happened to the cluster, a JSON object a line."""

from __future__ import annotations

import json
import sys
import time

from heorot.cli import request
from heorot.cli.admin.shared import duration_ms
from heorot.cli.arguments import Command, Option, UsageError, parse

COMMAND = Command(
    "heorot events",
    "[OPTION]...",
    "Print what has happened to the cluster, a JSON object a line, the oldest first: who leads, which nodes joined,\n"
    "are up, down or removed, and what was set by whom. The last 1,000 are kept, whatever becomes of heads.",
    [
        Option("-f --follow", "then go on with what happens, until Ctrl-C, also across the loss of a head"),
        Option("--since", "only what is not older than this, such as 15m or 2d", "DURATION"),
    ],
    "Exit status: 0; 125 no cluster; 2 usage.",
)
LOOK_S = 1.0
"""What happens in a second is told together by the head, too."""


def main(arguments: list[str]) -> int:
    """Run the command."""
    return request.run_command("heorot events", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return request.show_help(COMMAND, parsed)
    if parsed.operands:
        raise UsageError(f"unexpected operand {parsed.operands[0]!r}")
    since_ms = int(time.time() * 1000) - duration_ms(parsed.get("since")) if parsed.has("since") else 0
    follow = parsed.has("follow")
    head = request.Head(
        parsed.get("dir"), None if follow else request.ANSWER_TIMEOUT_S, notice=_say if follow else None
    )
    after = [0, 0]
    while True:
        for event in head.ask("events", after):
            after = [event["epoch"], event["sequence"]]
            if event["at_ms"] >= since_ms:
                print(json.dumps(event))
        sys.stdout.flush()
        if not follow:
            return 0
        time.sleep(LOOK_S)


def _say(text: str) -> None:
    print(f"heorot events: {text}", file=sys.stderr)
