"""A cluster of real daemons to measure, and what the kernel says about them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

UP_DEADLINE_S = 300


class BenchError(Exception):
    """The benchmark cannot go on; the text says why."""


def command(name: str) -> str:
    """Return the path of one of Heorot's commands: beside this Python, as installed.

    Raises
    ------
    BenchError
        If it is not there.
    """
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise BenchError(f"there is no {name} beside {sys.executable}: run 'make bench', which installs it first")
    return str(path)


def run(environment: dict[str, str], name: str, *arguments: str, timeout_s: float) -> bytes:
    """Run one of Heorot's commands and return what it printed.

    Raises
    ------
    BenchError
        If it fails.
    """
    result = subprocess.run(
        [command(name), *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip()
        raise BenchError(f"{name} {' '.join(arguments)} ended with {result.returncode}: {said}")
    return result.stdout


class Cluster:
    """``heorot up`` and ``heorot down`` around a block; the directory is a new one in /tmp and is removed.

    `options` are more ones of ``heorot up``.
    """

    def __init__(self, nodes: int, *options: str) -> None:
        self.nodes = nodes
        self._options = options
        self.parent = Path(tempfile.mkdtemp(prefix="heorot-bench-"))
        self.directory = self.parent / "cluster"
        self.environment = os.environ | {"HEOROT_DIR": str(self.directory)}
        self.up_s = 0.0
        self.down_s = 0.0

    def __enter__(self) -> Cluster:
        start = time.perf_counter()
        try:
            arguments = ("--dir", str(self.directory), "--nodes", str(self.nodes), *self._options)
            self.run("heorot", "up", *arguments, timeout_s=UP_DEADLINE_S)
        except BaseException:
            self._end()
            raise
        self.up_s = time.perf_counter() - start
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        start = time.perf_counter()
        self._end()
        self.down_s = time.perf_counter() - start

    def _end(self) -> None:
        try:
            if self.directory.exists():
                self.run("heorot", "down", "--dir", str(self.directory), timeout_s=UP_DEADLINE_S)
        finally:
            shutil.rmtree(self.parent, ignore_errors=True)

    def run(self, name: str, *arguments: str, timeout_s: float = 120) -> bytes:
        """Run one of Heorot's commands on this cluster and return what it printed.

        Raises
        ------
        BenchError
            If it fails.
        """
        return run(self.environment, name, *arguments, timeout_s=timeout_s)

    def start(self, name: str, *arguments: str, stdin: int, stdout: int) -> int:
        """Start one of Heorot's commands without anything between it and us, and return its PID."""
        return os.posix_spawn(
            command(name),
            [name, *arguments],
            self.environment,
            file_actions=[(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, stdout, 1)],
            setsigdef=[13],
        )

    def timed(self, name: str, *arguments: str) -> float:
        """Return the wall time of a whole command in seconds, from before it is started until it is reaped."""
        null = os.open(os.devnull, os.O_RDWR)
        try:
            start = time.perf_counter()
            pid = self.start(name, *arguments, stdin=null, stdout=null)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            elapsed = time.perf_counter() - start
        finally:
            os.close(null)
        if status != 0:
            raise BenchError(f"{name} {' '.join(arguments)} ended with {status}")
        return elapsed

    def status(self) -> dict[str, Any]:
        """Return what ``heorot status`` says."""
        status: dict[str, Any] = json.loads(self.run("heorot", "status", "--json"))
        return status

    def daemon_pids(self) -> dict[str, list[int]]:
        """Return the PIDs of the running daemons: ``head``, ``agents`` and ``inits``."""
        status = self.status()
        active = [head["pid"] for head in status["heads"] if head["role"] == "active"]
        nodes = status["nodes"]
        return {
            "head": active,
            "agents": [node["agent_pid"] for node in nodes],
            "inits": [node["init_pid"] for node in nodes],
        }


def cpu_s(pids: Iterable[int]) -> float:
    """Return the CPU time that these processes have used so far, in seconds.

    From ``schedstat``, which counts nanoseconds; ``stat`` counts ticks of 10 ms, longer than what is measured here.
    """
    total = 0
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat", "rb") as file:
                total += int(file.read().split()[0])
    return total / 1e9


def private_bytes(pid: int) -> int:
    """Return the memory that belongs to this process alone."""
    total = 0
    with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith((b"Private_Clean:", b"Private_Dirty:", b"Private_Hugetlb:")):
                total += int(line.split()[1]) * 1024
    return total


_TCP_ESTABLISHED_BIT = 1 << 1
_INET_DIAG_INFO = 2
_BYTES_SENT_OFFSET = 200
"""Of ``tcpi_bytes_sent`` in ``struct tcp_info`` (linux/tcp.h, since Linux 4.19)."""


def tcp_bytes_sent(pid: int) -> int:
    """Return how many bytes this process's open TCP connections have carried out, TLS included.

    Asked of the kernel through the sock_diag netlink socket, as ``ss --info`` does: what was really sent, whoever
    counted. ``/proc/PID/io`` would not do: it leaves sockets out.
    """
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(int(target[8:-1]))
    return sum(
        sent for family in (socket.AF_INET, socket.AF_INET6) for inode, sent in _connections(family) if inode in inodes
    )


def _connections(family: int) -> Iterable[tuple[int, int]]:
    """Yield inode and bytes sent of every established TCP connection (linux/inet_diag.h)."""
    netlink_sock_diag, by_family, dump_request = 4, 20, 0x301
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink_sock_diag) as connection:
        body = struct.pack(
            "=BBBBI48s", family, socket.IPPROTO_TCP, 1 << (_INET_DIAG_INFO - 1), 0, _TCP_ESTABLISHED_BIT, b""
        )
        connection.send(struct.pack("=IHHII", 16 + len(body), by_family, dump_request, 1, 0) + body)
        while True:
            data = connection.recv(1 << 18)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                message, data = data[16:length], data[(length + 3) & ~3 :]
                if kind == 3:  # NLMSG_DONE
                    return
                if kind == 2:  # NLMSG_ERROR
                    raise BenchError(f"the kernel refused to list TCP connections: error {message[:4].hex()}")
                yield _inode_and_bytes_sent(message)


def _inode_and_bytes_sent(message: bytes) -> tuple[int, int]:
    # struct inet_diag_msg has 72 bytes and ends with the inode; attributes follow.
    inode = struct.unpack_from("=I", message, 68)[0]
    attributes = message[72:]
    while len(attributes) >= 4:
        length, kind = struct.unpack_from("=HH", attributes)
        if kind == _INET_DIAG_INFO and length >= 4 + _BYTES_SENT_OFFSET + 8:
            return inode, struct.unpack_from("=Q", attributes, 4 + _BYTES_SENT_OFFSET)[0]
        attributes = attributes[(length + 3) & ~3 :]
    return inode, 0
