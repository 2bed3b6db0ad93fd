"""``heorot down``: end an embedded cluster and remove everything that it has left."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import sys
import time
from typing import Any

from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import run_command, show_help
from heorot.client.endpoint import cluster_directory
from heorot.config.layout import LOCK, Layout
from heorot.core.errors import HeorotError
from heorot.embedded import control
from heorot.linux.trusted_path import check_directory

WARDEN_TIMEOUT_S = 60.0

COMMAND = Command(
    "heorot down",
    "[OPTION]...",
    "End the cluster of a directory: all jobs, all daemons, all files.",
    [
        Option("-d --dir", "the cluster's directory (default: HEOROT_DIR, or /run/heorot)", "DIR"),
        Option("-q --quiet", "say nothing"),
    ],
    notes="Works, too, after the cluster's daemons were killed. Files of others in DIR stay.",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return run_command("heorot down", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(COMMAND, parsed)
    if parsed.operands:
        raise UsageError(f"unexpected operand {parsed.operands[0]!r}")
    layout = Layout(cluster_directory(parsed.get("dir") or None))
    remains = layout.remains()
    if LOCK in remains:
        with contextlib.suppress(FileNotFoundError):  # another command has removed it just now
            check_directory(layout.root)
            bring_down(layout)
    elif layout.failed_start():
        check_directory(layout.root)
        _remove_failed_start(layout)
        if not parsed.has("quiet"):
            sys.stdout.write(f"no cluster runs in {layout.root}; the logs of its failed start are removed\n")
        return 0
    elif not _end_what_runs(layout):
        what = f" of 'heorot up', and holds {', '.join(remains[:4])} of something else: nothing was removed"
        raise HeorotError(
            f"there is no cluster in {layout.root}" if not remains else f"{layout.root} is no cluster{what}"
        )
    if not parsed.has("quiet"):
        sys.stdout.write(f"the cluster in {layout.root} is down\n")
    return 0


def bring_down(layout: Layout, *, keep_logs: bool = False) -> str:
    """End the cluster in a directory, whatever state it is in, and remove its files.

    What another command removes at the same time is as good as removed here.

    Return where the logs are that were to be kept; nothing if there are none.

    Raises
    ------
    HeorotError
        If a process or file cannot be removed, or belongs to somebody else.
    """
    try:
        # Open from here on: a lock that others put in its place is that of the next cluster, and not ours to take.
        lock = os.open(layout.path(LOCK), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _cannot_remove(layout, error) from error
    try:
        record = control.read_record(layout)
        _end(layout)
        try:
            if not _take(layout, lock):
                return ""
            kept = ""
            if keep_logs:
                kept = layout.keep_logs()
            else:
                layout.forget_failed_start()
            layout.remove()
            if record.get("created") and not kept:
                _remove_if_empty(layout.root)
        except OSError as error:
            raise _cannot_remove(layout, error) from error
    finally:
        os.close(lock)
    return kept


def _end(layout: Layout) -> None:
    """End the warden and all else of the cluster. Raises HeorotError."""
    cluster = _cluster_name(layout)
    try:
        warden = control.connect_warden(layout)
    except HeorotError:
        pass
    else:
        with warden:
            with contextlib.suppress(control.Ended):
                control.ask(warden, "down")
            # The end of the connection is the end of the warden.
            if not select.select([warden], [], [], WARDEN_TIMEOUT_S)[0]:
                sys.stderr.write("heorot down: the warden does not end in good order; killing everything\n")
    control.sweep_cluster(layout, cluster)


def _take(layout: Layout, lock: int) -> bool:
    """Take the lock that is open; return whether it is that of the directory still. Raises HeorotError."""
    deadline_s = time.monotonic() + WARDEN_TIMEOUT_S
    while control.is_there(layout, lock):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return control.is_there(layout, lock)
        except BlockingIOError:
            # The last moments of what was killed above, or another command that does the same.
            if time.monotonic() > deadline_s:
                raise HeorotError(
                    f"somebody holds the lock of {layout.root}: is another command at work there?"
                ) from None
            time.sleep(0.02)
    return False


def _remove_failed_start(layout: Layout) -> None:
    record = control.read_record(Layout(layout.failed_start()))
    try:
        layout.forget_failed_start()
        if record.get("created"):
            _remove_if_empty(layout.root)
    except OSError as error:
        raise _cannot_remove(layout, error) from error


def _cannot_remove(layout: Layout, error: OSError) -> HeorotError:
    where = error.filename if isinstance(error.filename, str) else layout.root
    return HeorotError(f"cannot remove {where}: {error.strerror or error}")


def _end_what_runs(layout: Layout) -> bool:
    """End the daemons of a cluster whose directory somebody has removed; return whether there were any."""
    if not control.end_warden(layout, WARDEN_TIMEOUT_S):
        return False
    control.sweep_cluster(layout, "")
    return True


def _remove_if_empty(directory: str) -> None:
    try:
        os.rmdir(directory)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        sys.stderr.write(f"heorot down: files of others stay in {directory}\n")


def _cluster_name(layout: Layout) -> str:
    """Return the cluster's id from its file, empty if that is lost."""
    try:
        with open(layout.path("cluster.toml"), encoding="utf-8") as file:
            for line in file:
                if line.startswith("cluster = "):
                    return line.split('"')[1]
    except (OSError, IndexError):
        pass
    return ""


def with_processes(layout: Layout, status: dict[str, Any]) -> dict[str, Any]:
    """Return the head's status with what only the warden knows, if there is one: which daemons run right now."""
    try:
        with control.connect_warden(layout) as warden:
            known = control.ask(warden, "status")
    except HeorotError:
        return status
    active = {head["name"] for head in status["heads"] if head["role"] == "active"}
    status["heads"] = [
        {
            "name": head["name"],
            "role": "active" if head["name"] in active else "standby" if head["keeper_pid"] else "down",
            "pid": head["pid"],
            "keeper_pid": head["keeper_pid"],
            "address": head["address"],
            "problem": head.get("problem", ""),
        }
        for head in known["heads"]
        if head["keeper_pid"] or head.get("problem")
    ]
    processes = {node["id"]: node for node in known["nodes"]}
    for node in status["nodes"]:
        process = processes.get(node["id"])
        if process is not None:
            node["agent_pid"] = process["agent_pid"] or None
            node["init_pid"] = process["init_pid"] or None
            node["problem"] = process.get("problem", "")
    status["warden_pid"] = known["pid"]
    status["caches"] = known.get("caches", {})
    return status
