"""``heorot head start`` and ``heorot head stop``: heads of an embedded cluster."""

from __future__ import annotations

import sys

from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import run, show_help
from heorot.daemons import control
from heorot.daemons.layout import Layout
from heorot.endpoint import cluster_directory

_OPTIONS = [Option("-d --dir", "the cluster's directory (default: HEOROT_DIR, or /run/heorot)", "DIR")]
_FORM = "[OPTION]... NAME..."
START = Command("heorot head start", _FORM, "Start heads that were stopped.", _OPTIONS)
STOP = Command(
    "heorot head stop",
    _FORM,
    "Stop heads. Without any, the nodes keep their processes and wait for one.",
    _OPTIONS,
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the first argument is ``start`` or ``stop``."""
    words = sys.argv[1:] if arguments is None else arguments
    what = words[0] if words else ""
    return run(f"heorot head {what}", lambda rest: _body(what, rest), words[1:])


def _body(what: str, arguments: list[str]) -> int:
    command = START if what == "start" else STOP
    parsed = parse(command, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(command, parsed)
    if not parsed.operands:
        raise UsageError("which head? For example h0; heorot status names them")
    with control.connect(Layout(cluster_directory(parsed.get("dir") or None))) as warden:
        control.ask(warden, f"{what}-heads", heads=parsed.operands)
    return 0
