"""Talks to the warden of an embedded cluster, and finds what a cluster has left behind when there is no warden any
more.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

from heorot.client.endpoint import check_server, no_head
from heorot.config.host_role import units
from heorot.config.layout import LOCK, Layout
from heorot.config.mark import WARDEN_NAME, daemon_mark
from heorot.core.errors import HeorotError, RequestError

ANSWER_TIMEOUT_S = 60.0
KEEPER_TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
LOOK_S = 1.0
"""How often to look whether the daemon that we wait for is stopped; it is if two looks after each other say so."""
SWEEPS = 50
SWEEP_PAUSE_S = 0.1


class NoWarden(HeorotError):
    """No warden answers in this directory."""


class NoKeeper(HeorotError):
    """No keeper answers in this directory."""


class Ended(HeorotError):
    """The daemon was there, and has closed the connection without an answer."""


def connect_warden(layout: Layout) -> socket.socket:
    """Return a connection to the warden. Raises NoWarden, and RequestError if another user serves its socket."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.settimeout(ANSWER_TIMEOUT_S)
    try:
        _connect(sock, layout.root, "warden.sock")
    except RequestError:
        sock.close()
        raise
    except OSError as error:
        sock.close()
        if isinstance(error, ConnectionRefusedError):
            raise NoWarden(no_head(layout.root).message) from error
        why = error.strerror or str(error)
        raise NoWarden(f"no cluster of 'heorot up' runs in {layout.root} ({why}){_of_services()}") from error
    return sock


def _of_services() -> str:
    """Return how the daemons of this host are started if no warden does it; empty if there are none."""
    found = units()
    return f"; {found}" if found else ""


def connect_node_space(directory: str) -> socket.socket:
    """Return a connection to the bpinit of the node with this directory.

    Raises
    ------
    OSError
        If it does not run, or may not be asked.
    RequestError
        If another user serves its socket.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        _connect(sock, directory, "init.sock")
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(sock: socket.socket, directory: str, name: str) -> None:
    """Connect to a daemon of root or ourselves. Raises OSError, RequestError."""
    # The directory's descriptor makes a path of any length short enough.
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{fd}/{name}")
    finally:
        os.close(fd)
    check_server(sock, os.path.join(directory, name))


def ask(
    sock: socket.socket, what: str, nodes: list[int] | None = None, heads: list[str] | None = None
) -> dict[str, Any]:
    """Give the warden a command and return its answer. Raises HeorotError, of kind Ended if it has gone meanwhile."""
    return _ask(sock, "the warden", {"do": what, "nodes": nodes or [], "heads": heads or []})


def ask_keeper(directory: str, command: dict[str, str]) -> dict[str, Any]:
    """Give the keeper of the head with this directory a command and return its answer.

    Raises
    ------
    NoKeeper
        If there is none.
    HeorotError
        If it refuses, or does not answer.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(KEEPER_TIMEOUT_S)
        try:
            _connect(sock, directory, "keeper.sock")
        except PermissionError as error:
            raise HeorotError("only root and the cluster's owner may do that") from error
        except OSError as error:
            raise NoKeeper(f"no head runs in {directory} ({error.strerror or error})") from error
        return _ask(sock, "the head's keeper", command)


def _ask(sock: socket.socket, who: str, command: dict[str, Any]) -> dict[str, Any]:
    request = json.dumps(command).encode()
    try:
        # It may have closed the connection already, and have said why.
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(len(request).to_bytes(4, "big") + request)
        _await_answer(sock, who)
        length = int.from_bytes(_receive(sock, 4), "big")
        if length > MAX_ANSWER_BYTES:
            raise HeorotError(f"{who} announced an answer of {length} bytes")
        answer = json.loads(_receive(sock, length))
    except (OSError, ValueError) as error:
        kind = HeorotError if isinstance(error, TimeoutError) else Ended
        raise kind(f"{who} does not answer: {error}") from error
    if "error" in answer:
        raise HeorotError(str(answer["error"]))
    return dict(answer)


def _await_answer(sock: socket.socket, who: str) -> None:
    """Wait for an answer as long as the socket's own limit says. Raises HeorotError if its daemon is stopped."""
    pid = int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder)
    until_s = time.monotonic() + (sock.gettimeout() or ANSWER_TIMEOUT_S)
    stopped = False
    while not select.select([sock], [], [], max(0.0, min(LOOK_S, until_s - time.monotonic())))[0]:
        before, stopped = stopped, _is_stopped(pid)
        if before and stopped:
            raise HeorotError(f"{who} is stopped: 'kill -CONT {pid}' lets it go on")
        if time.monotonic() >= until_s:
            raise TimeoutError("timed out")


def _is_stopped(pid: int) -> bool:
    """Say whether a process is stopped by a signal or a debugger."""
    return _read(str(pid), "stat").rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])


def _receive(sock: socket.socket, count: int) -> bytes:
    parts = bytearray()
    while len(parts) < count:
        part = sock.recv(count - len(parts))
        if not part:
            raise OSError("it has closed the connection")
        parts += part
    return bytes(parts)


def lock(layout: Layout) -> int | None:
    """Take the directory's lock, which a running warden holds; return its descriptor, or None if it is held."""
    while True:
        fd = os.open(layout.path(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return None
        if is_there(layout, fd):
            return fd
        os.close(fd)  # somebody has removed the file meanwhile: it locks nothing


def is_there(layout: Layout, fd: int) -> bool:
    """Say whether this open file is the directory's lock still."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(layout.path(LOCK), follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return False


def read_record(layout: Layout) -> dict[str, Any]:
    """Return what ``heorot up`` wrote down about the cluster, empty if that is lost."""
    try:
        with open(layout.path("warden.json"), encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def find_processes(layout: Layout, cluster: str) -> list[int]:
    """Return the daemons of this directory and the processes of the cluster's jobs that can be seen from here."""
    # `heorot.linux.system.set_title` leaves this part of their command line as it was.
    daemon = daemon_mark(layout.root)
    marker = b"HEOROT_SPACE=" + cluster.encode() + b"-n"
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        if daemon in _read(name, "cmdline") or (cluster and marker in _read(name, "environ")):
            found.append(int(name))
    return found


def end_warden(layout: Layout, timeout_s: float) -> bool:
    """Let a warden that cannot be reached, its directory being gone, bring its cluster down; return whether there was
    any process of the cluster. What does not end in time is left to `sweep_cluster`.
    """
    left = find_processes(layout, "")
    for pid in left:
        if _read(str(pid), "comm").rstrip() == WARDEN_NAME.encode():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + timeout_s
    found = bool(left)
    while left and time.monotonic() < deadline_s:
        time.sleep(SWEEP_PAUSE_S)
        left = find_processes(layout, "")
    return found


def _read(pid: str, name: str) -> bytes:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:
        return b""


def sweep_cluster(layout: Layout, cluster: str) -> None:
    """Kill everything that is left of a cluster without a warden. Raises HeorotError if something survives."""
    left: list[int] = []
    for _ in range(SWEEPS):
        left = find_processes(layout, cluster)
        if not left:
            return
        # Stopped first: what is stopped forks no more while we kill its siblings.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, number)
        time.sleep(SWEEP_PAUSE_S)
    pids = ", ".join(str(pid) for pid in left[:10])
    raise HeorotError(f"{len(left)} processes of the cluster in {layout.root} cannot be ended: {pids}")
