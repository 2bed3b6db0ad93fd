"""``heorot doctor``: what this machine offers, what it lacks, and what follows from that."""

from __future__ import annotations

import os
import sys

from heorot.cli import cluster_limits
from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import run, show_help

COMMAND = Command(
    "heorot doctor",
    "[OPTION]...",
    "Say what this machine lacks for Heorot, and what does not work without it.",
    [
        Option("-n --nodes", "for a cluster of so many nodes on this machine (default: 64)", "N"),
        Option("--json", "print a list of objects: check, ok, required, text"),
    ],
)
PER_NAMESPACE_PID_MAX = (6, 14)


class Check:
    """One finding."""

    def __init__(self, name: str, ok: bool, text: str, required: bool = True) -> None:
        self.name = name
        self.ok = ok
        self.text = text
        self.required = required


def main(arguments: list[str] | None = None) -> int:
    """Run the command: status 1 if something required is missing."""
    return run("heorot doctor", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(COMMAND, parsed)
    text = parsed.get("nodes", "64")
    if parsed.operands or not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise UsageError("--nodes needs a number from 1 to 4096, and there are no operands")
    checks = examine(int(text))
    if parsed.has("json"):
        import json

        rows = [{"check": c.name, "ok": c.ok, "required": c.required, "text": c.text} for c in checks]
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        for check in checks:
            mark = "ok     " if check.ok else "MISSING" if check.required else "limited"
            sys.stdout.write(f"{mark}  {check.name:<16}  {check.text}\n")
    return 0 if all(check.ok or not check.required for check in checks) else 1


def examine(nodes: int) -> list[Check]:
    """Return all findings for a cluster of so many nodes."""
    root = os.geteuid() == 0
    version = _kernel_version()
    missing = ", ".join(_missing_modules())
    checks = [
        Check("python", sys.version_info >= (3, 11), f"{sys.version.split()[0]} (3.11 or newer is needed)"),
        Check("libraries", not missing, f"not installed: {missing}" if missing else "all there"),
        Check(
            "root",
            root,
            "process spaces are PID namespaces, and users are kept apart"
            if root
            else "not root: one user, no PID namespaces, no cluster-wide PID ranges; all else works",
            required=False,
        ),
        Check(
            "pid namespaces",
            os.path.exists("/proc/self/ns/pid"),
            "the kernel has them" if os.path.exists("/proc/self/ns/pid") else "the kernel was built without them",
            required=root,
        ),
        Check(
            "pid ranges",
            version >= PER_NAMESPACE_PID_MAX,
            f"Linux {version[0]}.{version[1]}: "
            + (
                "every namespace has its own pid_max"
                if version >= PER_NAMESPACE_PID_MAX
                else "no pid_max for each namespace (that came with 6.14): a node's PIDs may leave its range"
            ),
            required=False,
        ),
        Check("pidfds", hasattr(os, "pidfd_open"), "os.pidfd_open", required=True),
        *_installation(root),
    ]
    problems = cluster_limits.problems(nodes, 1)
    text = "; ".join(problems) or "memory, processes and open files suffice"
    checks.append(Check(f"{nodes} nodes", not problems, text))
    return checks


def _installation(root: bool) -> list[Check]:
    """Return findings about the commands and the Python that runs them."""
    from heorot import first_lines

    directory, name = os.path.split(sys.executable)
    scripts = list(first_lines.scripts(directory))
    checks = []
    if scripts and first_lines.is_virtual(directory):
        slow = [script for script in scripts if not first_lines.is_complete(script)]
        text = f"pip has dropped Python's options: run '{directory}/{name} -m heorot.first_lines'"
        checks.append(Check("commands", not slow, text if slow else "start without a shell", required=False))
    if root:
        text = first_lines.unreachable(sys.executable)
        checks.append(Check("other users", not text, text or "can run this Python", required=False))
    return checks


def _kernel_version() -> tuple[int, int]:
    major, minor, *_ = os.uname().release.split(".") + ["0", "0"]
    digits = "".join(c for c in minor if c.isdigit())
    return int(major), int(digits or 0)


def _missing_modules() -> list[str]:
    from importlib.util import find_spec

    return [name for name in ("msgspec", "msgpack", "cryptography") if find_spec(name) is None]
