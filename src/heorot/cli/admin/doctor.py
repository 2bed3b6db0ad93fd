"""``heorot doctor``: what this machine offers, what it lacks, and what follows from that."""

from __future__ import annotations

import os
import sys

from heorot.cli.admin import cluster_limits
from heorot.cli.admin.check import Check
from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import run_command, show_help
from heorot.client.endpoint import cluster_directory

COMMAND = Command(
    "heorot doctor",
    "[OPTION]...",
    "Say what this machine lacks for Heorot, and what does not work without it; or what is wrong with a cluster.",
    [
        Option("-d --dir", "for a cluster in this directory (default: HEOROT_DIR, or /run/heorot)", "DIR"),
        Option("-n --nodes", "for a cluster of so many nodes on this machine (default: 64)", "N"),
        Option("--cluster", "look at the cluster there, which runs, and not at this machine"),
        Option("--json", "print a list of objects: check, ok, required, text"),
    ],
)
TRIALS_TIMEOUT_S = 120.0
WITHOUT = {
    "pid ranges": "PIDs may not tell nodes apart",
    "mounts": "programs cannot be sent to nodes",
    "terminals": "a job cannot have one",
}
"""What is not required, and what does not work without it."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command: status 1 if something required is missing."""
    return run_command("heorot doctor", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(COMMAND, parsed)
    text = parsed.get("nodes", "64")
    if parsed.operands or not text.isdecimal() or not 1 <= int(text) <= 4096:
        raise UsageError("--nodes needs a number from 1 to 4096, and there are no operands")
    if parsed.has("cluster"):
        checks = _of_cluster(parsed.get("dir"))
    else:
        checks = examine(int(text), _place(parsed.get("dir")))
    if parsed.has("json"):
        import json

        rows = [{"check": c.name, "ok": c.ok, "required": c.required, "text": c.text} for c in checks]
        sys.stdout.write(json.dumps(rows) + "\n")
    else:
        for check in checks:
            mark = "ok     " if check.ok else "MISSING" if check.required else "limited"
            sys.stdout.write(f"{mark}  {check.name:<16}  {check.text}\n")
    return 0 if all(check.ok or not check.required for check in checks) else 1


def _of_cluster(directory: str) -> list[Check]:
    import pwd

    from heorot.cli.admin.cluster_checks import examine_cluster
    from heorot.client.blocking import connect

    with connect(directory or None) as cluster:
        return examine_cluster(cluster, {user.pw_name: user.pw_uid for user in pwd.getpwall()})


def examine(nodes: int, directory: str) -> list[Check]:
    """Return all findings for a cluster of so many nodes in this directory. What can be tried is tried."""
    root = os.geteuid() == 0
    missing = ", ".join(_missing_modules())
    checks = [
        Check("python", sys.version_info >= (3, 11), f"{sys.version.split()[0]} (3.11 or newer is needed)"),
        Check("libraries", not missing, f"not installed: {missing}" if missing else "all there"),
        Check(
            "root",
            root,
            "process spaces are PID namespaces, and users are kept apart"
            if root
            else "not root: one user, no PID namespaces, no cluster-wide PIDs, no host names of nodes; all else works",
            required=False,
        ),
        *([] if missing else _tried(nodes, directory)),
        *_installation(root),
    ]
    problems = cluster_limits.problems(nodes, 1)
    text = "; ".join(problems) or "memory, processes and open files suffice, also for the control group"
    checks.append(Check(f"{nodes} nodes", not problems, text))
    return checks


def _tried(nodes: int, directory: str) -> list[Check]:
    """Return what came of the trials. A command does not contain what daemons do: another program does the trials."""
    import json
    import subprocess

    try:
        done = subprocess.run(
            [sys.executable, "-m", "heorot.daemons.trial", str(nodes), directory],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            timeout=TRIALS_TIMEOUT_S,
            check=True,
        )
        found = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [Check("trials", False, f"cannot be made: {error}")]
    checks = []
    for name, good, text in found:
        without = WITHOUT.get(name)
        checks.append(Check(name, good, text if good or not without else f"{text}: {without}", required=not without))
    return checks


def _place(named: str) -> str:
    """Return the cluster's directory, or the nearest above it that there is: there it would be made."""
    path = os.path.abspath(cluster_directory(named or None))
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    if not named and "HEOROT_DIR" not in os.environ and not os.access(path, os.W_OK):
        # The default is root's. Another user names a directory of his own, and nothing is known of that yet.
        return os.environ.get("TMPDIR") or "/tmp"
    return path


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


def _missing_modules() -> list[str]:
    from importlib.util import find_spec

    return [name for name in ("msgspec", "msgpack", "cryptography") if find_spec(name) is None]
