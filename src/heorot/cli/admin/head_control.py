"""``heorot head start`` and ``heorot head stop``: heads of an embedded cluster."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from typing import Any

from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import Head, run_command, show_help
from heorot.cli.table import printable
from heorot.client.endpoint import cluster_directory
from heorot.config.layout import Layout
from heorot.core.errors import HeorotError
from heorot.embedded import control

START_TIMEOUT_S = 10.0
"""How long a head that was started may take until it leads or stands by."""
PROBLEM_S = 1.0
"""What is wrong for so long is not about to pass."""
LISTING_TIMEOUT_S = 2.0
"""How long the active head may take to list what was done; it has been done by then."""
POLL_S = 0.02
"""How long to wait before it is asked again."""

_OPTIONS = [Option("-d --dir", "the cluster's directory (default: HEOROT_DIR, or /run/heorot)", "DIR")]
START = Command(
    "heorot head start", "[OPTION]... [NAME]...", "Start heads that were stopped, or all that do not run.", _OPTIONS
)
STOP = Command(
    "heorot head stop",
    "[OPTION]... NAME...",
    "Stop heads. Without any, the nodes keep their processes and wait for one.",
    _OPTIONS,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the first argument is ``start`` or ``stop``."""
    words = sys.argv[1:] if arguments is None else arguments
    what = words[0] if words else ""
    return run_command(f"heorot head {what}", lambda rest: _body(what, rest), words[1:])


def _body(what: str, arguments: list[str]) -> int:
    command = START if what == "start" else STOP
    parsed = parse(command, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(command, parsed)
    names = list(parsed.operands)
    if not names and what == "stop":
        raise UsageError("which head? For example h0; heorot status names them")
    directory = cluster_directory(parsed.get("dir") or None)
    with control.connect_warden(Layout(directory)) as warden:
        failures: list[str] = []
        if not names:
            heads = control.ask(warden, "status")["heads"]
            names = [head["name"] for head in heads if not head["keeper_pid"]]
            if not names:
                # Which is not to say that they can lead.
                failures = _await_start(warden, [head["name"] for head in heads])
                if not failures:
                    sys.stderr.write(f"heorot head {what}: every head of {directory} runs already\n")
        if names:
            control.ask(warden, f"{what}-heads", heads=names)
            failures = _await_start(warden, names) if what == "start" else []
            if not failures and not _await_listing(directory, set(names), what == "start"):
                # One that was about to lead may have ended since.
                failures = _await_start(warden, names) if what == "start" else []
                if not failures:
                    text = f"the active head does not list that yet: see 'heorot status --dir {directory}' in a moment"
                    print(f"heorot head {what}: {text}", file=sys.stderr)
    for failure in failures:
        print(f"heorot head {what}: {printable(failure)}", file=sys.stderr)
    return 1 if failures else 0


def _await_start(warden: socket.socket, names: list[str]) -> list[str]:
    """Wait until each of these heads leads or stands by, or it is plain that it does not; return why not, one by one.

    They go on trying: what is said here may be mended without starting them again.
    """
    began_s = time.monotonic()
    since_s: dict[str, float] = {}
    failed: dict[str, str] = {}
    waiting = set(names)
    while waiting:
        known = {head["name"]: head for head in control.ask(warden, "status").get("heads", ())}
        now_s = time.monotonic()
        for name in sorted(waiting):
            head = known.get(name, {})
            problem = head.get("problem", "")
            if problem:
                if now_s - since_s.setdefault(name, now_s) >= PROBLEM_S:
                    failed[name] = f"{name} cannot lead: {problem}"
            else:
                since_s.pop(name, None)
                if head.get("role") == "active" or (head.get("keeper_pid") and _leads(known, head.get("leader", ""))):
                    waiting.discard(name)
                elif now_s - began_s >= START_TIMEOUT_S:
                    why = "it neither leads nor stands by"
                    failed[name] = f"{name}: after {START_TIMEOUT_S:g} s {why}, and does not say why; see its log"
        waiting -= failed.keys()
        if waiting:
            time.sleep(POLL_S)
    return [failed[name] for name in names if name in failed]


def _leads(known: dict[str, dict[str, Any]], leader: str) -> bool:
    """Say whether this head leads, if it is one of these: one that was only elected may find that it cannot."""
    return bool(leader) and known.get(leader, {"role": "active"}).get("role") == "active"


def _await_listing(directory: str, names: set[str], wanted: bool) -> bool:
    """Wait until the active head lists these heads, or none of them: whoever looks next shall see what was done.

    Return False if that takes too long. Where nobody listens, nobody lists a head that was stopped.
    """
    until_s = time.monotonic() + LISTING_TIMEOUT_S
    while (remaining_s := until_s - time.monotonic()) > 0:
        try:
            head = Head(directory, remaining_s, patient=False)
        except HeorotError:
            if not wanted:
                return True
        else:
            # One that is lost, or does not lead yet, says nothing of the next.
            with contextlib.closing(head), contextlib.suppress(HeorotError):
                listed = {other["name"] for other in head.ask("status")["heads"]}
                if names <= listed if wanted else not names & listed:
                    return True
        time.sleep(POLL_S)
    return False
