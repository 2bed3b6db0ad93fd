"""``heorot up``: start an embedded cluster on this machine and return once all of its nodes are up."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from typing import Any

from heorot.cli.admin import cluster_limits, down
from heorot.cli.arguments import Command, Option, UsageError, parse
from heorot.cli.request import Head, run_command, show_help
from heorot.client.endpoint import cluster_directory
from heorot.config.files import StoreSection, TimersSection, check_store
from heorot.config.host_role import require_no_other
from heorot.config.layout import LOCK, Layout
from heorot.config.mark import WARDEN_MODULE
from heorot.core.errors import HeorotError, ProtocolError, RequestError
from heorot.embedded import control
from heorot.linux.trusted_path import make_directory

MAX_NODES = 4096
MAX_HEADS = 8
MAX_FANOUT = 1024
MAX_CACHE_MIB = 1 << 30
FIXED_TIMEOUT_S = 30.0
"""For how long nothing at all may come up; whatever does begins it anew."""
TIMEOUT_PER_NODE_S = 0.15
OTHERS_TIMEOUT_S = 60.0
"""How long a cluster that comes up or ends in the same directory is waited for."""
POLL_S = 0.1
ETCD_TIMEOUT_S = 3.0
"""For etcd's answer. Where nobody listens, the answer is there at once; a member that is busy gets some time."""
MAX_QUICK_ENDS = 5
"""Give up when the head has ended so many times in a row just after its start."""

COMMAND = Command(
    "heorot up",
    "[OPTION]...",
    "Start a cluster of real daemons on this machine.",
    [
        Option("-d --dir", "the cluster's directory (default: HEOROT_DIR, or /run/heorot)", "DIR"),
        Option("-n --nodes", "how many nodes (default: 4)", "N"),
        Option("--heads", "how many heads: one active, the others on standby (default: 1)", "H"),
        Option("--etcd", "let the heads agree through etcd (default: a file lock)", "URL[,URL]..."),
        Option("--fanout", "how many children each hop of the tree has (default: 32)", "K"),
        Option("--master", "make one node more, the last one: it is what node lists call master"),
        Option("--bare", "let the nodes see an empty file system: whatever runs there is sent to them (root only)"),
        Option("--image-cache", "what each node's cache of sent files may take (default: 1024)", "MIB"),
        Option("--json", "print the cluster's status as JSON once it is up"),
        Option("-q --quiet", "show no progress"),
        Option("--debug", "write debug lines to the logs"),
    ],
    notes="Afterwards: export HEOROT_DIR=DIR; bpsh -a hostname; heorot status; heorot down --dir DIR",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    return run_command("heorot up", _body, arguments)


def _body(arguments: list[str]) -> int:
    parsed = parse(COMMAND, arguments)
    if parsed.has("help") or parsed.has("version"):
        return show_help(COMMAND, parsed)
    if parsed.operands:
        raise UsageError(f"unexpected operand {parsed.operands[0]!r}")
    nodes = _number(parsed.get("nodes", "4"), "--nodes", MAX_NODES)
    heads = _number(parsed.get("heads", "1"), "--heads", MAX_HEADS)
    fanout = _number(parsed.get("fanout", "32"), "--fanout", MAX_FANOUT)
    cache_mib = _number(parsed.get("image-cache", "1024"), "--image-cache", MAX_CACHE_MIB)
    if parsed.has("bare") and os.geteuid() != 0:
        raise UsageError("--bare needs root")
    etcd = [url for url in parsed.get("etcd", "").split(",") if url]
    check_store("--etcd:", StoreSection(kind="etcd" if parsed.has("etcd") else "local", endpoints=tuple(etcd)))
    times = _overrides(os.environ.get("HEOROT_TIMES", ""))
    layout = Layout(cluster_directory(parsed.get("dir") or None))
    nodes += parsed.has("master")
    if problems := cluster_limits.problems(nodes, heads):
        raise HeorotError("; ".join(problems))
    if etcd:
        _check_etcd(tuple(etcd))
    show = Progress(nodes, quiet=parsed.has("quiet") or parsed.has("json"))
    plan = {
        "root": layout.root,
        "nodes": nodes,
        "heads": heads,
        "fanout": fanout,
        "log_level": "debug" if parsed.has("debug") else "info",
        "etcd": etcd,
        "lease_ms": times.pop("lease_ms", StoreSection().lease_ms),
        "hang_ms": times.pop("hang_ms", TimersSection().hang_ms),
        "machine": times,
        "bare": parsed.has("bare"),
        "master": parsed.has("master"),
        "image_cache_bytes": cache_mib << 20,
    }
    status = bring_up(layout, plan, show)
    if parsed.has("json"):
        sys.stdout.write(json.dumps(status) + "\n")
    return 0


def _number(text: str, name: str, limit: int) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= limit:
        raise UsageError(f"{name} needs a number from 1 to {limit}, not {text!r}")
    return int(text)


def _check_etcd(urls: tuple[str, ...]) -> None:
    """Ask etcd something: without it no head can be elected, and the nodes would wait for one in vain."""
    from heorot.coord.etcd_client import EtcdClient, EtcdSettings, encode64

    client = EtcdClient(EtcdSettings(urls))
    try:
        client.call("/v3/kv/range", {"key": encode64(b"/heorot/")}, ETCD_TIMEOUT_S)
    except HeorotError as error:
        raise HeorotError(
            f"{error}; 'heorot up' starts no etcd: start one first (Debian: apt-get install etcd-server), "
            "see that --etcd names its client URLs, or leave --etcd out: the heads then agree through a file lock"
        ) from error
    finally:
        client.close()


def _overrides(text: str) -> dict[str, int]:
    """Return the machines' times that the environment overrides: ``heartbeat_ms=500,link_timeout_ms=1500``."""
    try:
        return {key: int(value) for key, value in (part.split("=") for part in text.split(",") if part)}
    except ValueError:
        raise UsageError(f"HEOROT_TIMES is not NAME=MILLISECONDS,...: {text!r}") from None


class Progress:
    """A line on the terminal that counts."""

    def __init__(self, nodes: int, quiet: bool) -> None:
        self.nodes = nodes
        self.on = not quiet and sys.stderr.isatty()
        self.quiet = quiet
        self.began_s = time.monotonic()

    def __call__(self, what: str, count: int) -> None:
        """Show how far it is."""
        if self.on:
            width = 24
            full = width * count // self.nodes
            line = f"\r{what:<9} [{'#' * full}{'.' * (width - full)}] {count}/{self.nodes} "
            print(line, end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Take the line away."""
        if self.on:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    def done(self, text: str) -> None:
        """Replace the line by a last word."""
        self.clear()
        if not self.quiet:
            print(f"{text} in {time.monotonic() - self.began_s:.1f} s")

    def note(self, text: str) -> None:
        """Add a line below the last word."""
        if not self.quiet:
            print(text)


def bring_up(layout: Layout, plan: dict[str, Any], show: Progress) -> dict[str, Any]:
    """Start the cluster and wait until all nodes are up; return its status.

    Raises
    ------
    HeorotError
        If it cannot be started; nothing is left of it then but its logs, whose place is named.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        # As with Ctrl-C: half a cluster is no use to anybody.
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    lock, created = _claim(layout)
    record = control.read_record(Layout(layout.failed_start())) if layout.failed_start() else {}
    deadline_s = time.monotonic() + FIXED_TIMEOUT_S + TIMEOUT_PER_NODE_S * plan["nodes"]
    try:
        try:
            layout.forget_failed_start()
            os.mkdir(layout.path("log"), 0o755)
            with open(layout.path("warden.json"), "w", encoding="utf-8") as file:
                json.dump({"created": created or bool(record.get("created"))}, file)
            warden = _start_warden(layout, plan, lock)
        except OSError as error:
            raise HeorotError(f"cannot write below {layout.root}: {error.strerror or error}") from error
        finally:
            os.close(lock)
        assert warden.stdout is not None
        with warden.stdout:
            _follow(warden, show, deadline_s)
            status = _await_nodes(layout, warden, plan["nodes"], show, deadline_s)
    except BaseException as failure:
        show.clear()
        try:
            kept = down.bring_down(layout, keep_logs=isinstance(failure, Exception))
        except HeorotError as left:
            if isinstance(failure, HeorotError):
                raise HeorotError(f"{failure}; and it cannot be undone: {left}") from failure
            raise
        if kept and isinstance(failure, HeorotError):
            raise HeorotError(f"{failure}; the logs are kept in {kept}") from failure
        raise
    show.done(f"{plan['nodes']} nodes are up in {layout.root}{', the last as master' if plan['master'] else ''}")
    if plan["bare"]:
        show.note("their file system is empty: programs are sent to them, and run in / if your directory is not there")
        show.note("with their libraries, and nothing else that they read: name that with bpsh --with PATH")
    return status


def _claim(layout: Layout) -> tuple[int, bool]:
    """Create the directory if need be and take its lock. Returns the lock and whether the directory is new.

    A cluster that is about to end there, or to come up, is waited for: it is gone then, or can be used.
    """
    require_no_other(layout.root)
    until_s = time.monotonic() + OTHERS_TIMEOUT_S
    created = False
    try:
        while True:
            created = make_directory(layout.root, 0o755) or created
            remains = layout.remains()
            if remains and LOCK not in remains:
                raise HeorotError(
                    f"{layout.root} is in use by something else: it holds {', '.join(remains[:4])}, and no cluster of"
                    " 'heorot up'; name a directory of its own with --dir or HEOROT_DIR"
                )
            lock = control.lock(layout)
            if lock is not None or time.monotonic() >= until_s or _is_ready(layout):
                break
            time.sleep(POLL_S)
    except OSError as error:
        hint = "; name one of your own with --dir or HEOROT_DIR" if isinstance(error, PermissionError) else ""
        raise HeorotError(f"cannot use the directory {layout.root}: {error.strerror or error}{hint}") from error
    if lock is None:
        raise HeorotError(
            f"a cluster runs in {layout.root} already: see 'heorot status', "
            f"or end it with 'heorot down --dir {layout.root}'"
        )
    if remains:
        os.close(lock)
        if remains == [LOCK]:
            return _claim_again(layout)
        raise HeorotError(
            f"{layout.root} holds what is left of a cluster that does not run any more "
            f"({', '.join(remains[:4])}, ...): remove it with 'heorot down --dir {layout.root}'"
        )
    return lock, created


def _is_ready(layout: Layout) -> bool:
    """Say whether all daemons of the cluster that runs there were started, and it is not ending."""
    try:
        with control.connect_warden(layout) as warden:
            return bool(control.ask(warden, "status").get("ready", True))
    except (control.NoWarden, control.Ended):
        return False


def _claim_again(layout: Layout) -> tuple[int, bool]:
    # Nothing but a lock that nobody holds: what an interrupted start left.
    lock = control.lock(layout)
    if lock is None:
        raise HeorotError(f"another 'heorot up' is at work in {layout.root}")
    return lock, False


def _start_warden(layout: Layout, plan: dict[str, Any], lock: int) -> subprocess.Popen[bytes]:
    os.set_inheritable(lock, True)
    with open(layout.log("warden-stderr"), "ab", opener=lambda path, flags: os.open(path, flags, 0o640)) as errors:
        warden = subprocess.Popen(
            [sys.executable, "-m", WARDEN_MODULE, layout.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
            pass_fds=(lock,),
            cwd="/",
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
    assert warden.stdin is not None
    warden.stdin.write(json.dumps(plan).encode() + b"\n")
    warden.stdin.close()
    return warden


def _follow(warden: subprocess.Popen[bytes], show: Progress, deadline_s: float) -> None:
    """Read the warden's progress until it has started everything."""
    buffer = b""
    ready = False
    while not ready:
        data = _read_warden(warden, deadline_s - time.monotonic())
        if data is None:
            raise HeorotError("the daemons did not start in time: too many nodes for this machine, or it is busy")
        buffer += data
        *lines, buffer = buffer.split(b"\n")
        for message in map(json.loads, lines):
            _raise_failure(message)
            deadline_s = max(deadline_s, time.monotonic() + FIXED_TIMEOUT_S)
            if "started" in message:
                show("starting", message["started"])
            ready = ready or "ready" in message


def _read_warden(warden: subprocess.Popen[bytes], timeout_s: float) -> bytes | None:
    """Return what the warden says, or None if it says nothing in time. Raises HeorotError if it has ended."""
    assert warden.stdout is not None
    fd = warden.stdout.fileno()
    if not select.select([fd], [], [], max(0.0, timeout_s))[0]:
        return None
    data = os.read(fd, 65536)
    if not data:
        raise HeorotError("the warden has ended; its log may say why")
    return data


def _raise_failure(message: dict[str, Any]) -> None:
    failure = message.get("error") or message.get("failed")
    if failure:
        raise HeorotError(str(failure))


def _await_nodes(
    layout: Layout, warden: subprocess.Popen[bytes], nodes: int, show: Progress, deadline_s: float
) -> dict[str, Any]:
    """Ask the head until all nodes are up; return the status."""
    head: Head | None = None
    up = most = 0
    deadline_s = max(deadline_s, time.monotonic() + FIXED_TIMEOUT_S)
    pause_s = max(POLL_S / 5, POLL_S * nodes / 256)
    while True:
        try:
            if head is None:
                head = Head(layout.root, patient=False)
            status: dict[str, Any] = head.ask("status")
            states = [node["state"] for node in status["nodes"]]
            up = states.count("up")
            if up == nodes:
                head.close()
                return down.with_processes(layout, status)
        except (RequestError, ProtocolError):
            if head is not None:
                head.close()
                head = None
            _check_heads(layout)
        show("up", up)
        if up > most:
            # A node that goes down and comes up again is no progress.
            most, deadline_s = up, max(deadline_s, time.monotonic() + FIXED_TIMEOUT_S)
        if time.monotonic() > deadline_s:
            if head is not None:
                raise HeorotError(f"only {up} of {nodes} nodes came up in time{_log_hint(layout)}")
            raise HeorotError(f"no head began to lead in time{_log_hint(layout, 'error', 'warning')}")
        # After "ready" it speaks once more at most: when something cannot be started.
        said = _read_warden(warden, pause_s)
        if said:
            _raise_failure(json.loads(said))


def _check_heads(layout: Layout) -> None:
    """Raise HeorotError if no head can be kept alive."""
    with control.connect_warden(layout) as warden:
        heads = control.ask(warden, "status")["heads"]
    if (
        all(head["pid"] == head["keeper_pid"] for head in heads)
        and max(head["quick_ends"] for head in heads) >= MAX_QUICK_ENDS
    ):
        problems = [head["problem"] for head in heads if head["problem"]]
        raise HeorotError("; ".join(problems[:1]) or f"the head ends as soon as it is started{_log_hint(layout)}")


def _log_hint(layout: Layout, *levels: str) -> str:
    """Return the last line of these levels (``error`` unless given) in the first log, by name, that has any, as the end
    of a message.
    """
    levels = levels or ("error",)
    try:
        names = sorted(os.listdir(layout.path("log")))
    except OSError:
        return ""
    for name in names:
        try:
            with open(layout.path(f"log/{name}"), "rb") as file:
                text = file.read().decode("utf-8", "replace")
        except OSError:
            continue
        # Time, level, daemon, and what it has to say.
        lines = [line for line in text.split("\n") if line.partition(" ")[2].partition(" ")[0] in levels]
        if lines:
            return f"; {name}: {lines[-1][:300]}"
    return ""
