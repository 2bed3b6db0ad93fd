"""Real etcd for tests: members as processes on loopback, with their data in a directory of the test's."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.waiting import DEADLINE_S

ELECTION_MS = 500
"""Short, so that leases of a second are granted: etcd's least lease is one and a half elections."""


def free_ports(count: int) -> list[int]:
    """Return ports that nobody uses at this moment."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]
    finally:
        for sock in sockets:
            sock.close()


class Etcd:
    """A cluster of members; `options` are for all of them, `scheme` is of the clients' URLs.

    `hosts` are where the members are, if not here: the address of each, and the words in front of a command that make
    it run there. Such a member cannot be asked from here.
    """

    def __init__(
        self,
        directory: Path,
        members: int = 3,
        options: Sequence[str] = (),
        scheme: str = "http",
        hosts: Sequence[tuple[str, Sequence[str]]] = (),
    ) -> None:
        program = shutil.which("etcd")
        if program is None:
            pytest.fail("etcd is missing, which tests need; as root: apt-get install etcd-server", pytrace=False)
        self._program = program
        self._directory = directory
        self._options = list(options)
        if hosts:
            self._inside = [list(words) for _, words in hosts]
            self.urls = [f"{scheme}://{address}:2379" for address, _ in hosts]
            self._peers = [f"http://{address}:2380" for address, _ in hosts]
        else:
            ports = free_ports(2 * members)
            self._inside = [[] for _ in range(members)]
            self.urls = [f"{scheme}://127.0.0.1:{port}" for port in ports[:members]]
            self._peers = [f"http://127.0.0.1:{port}" for port in ports[members:]]
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * len(self.urls)

    def start(self, *numbers: int) -> None:
        """Start these members (none: all)."""
        for number in numbers or range(len(self.urls)):
            everybody = ",".join(f"m{index}={url}" for index, url in enumerate(self._peers))
            log = open(self._directory / f"m{number}.log", "ab")  # noqa: SIM115  (it is the process's)
            self._processes[number] = subprocess.Popen(
                [
                    *self._inside[number],
                    self._program,
                    *("--name", f"m{number}"),
                    *("--data-dir", str(self._directory / f"m{number}")),
                    *("--listen-client-urls", self.urls[number]),
                    *("--advertise-client-urls", self.urls[number]),
                    *("--listen-peer-urls", self._peers[number]),
                    *("--initial-advertise-peer-urls", self._peers[number]),
                    *("--initial-cluster", everybody),
                    *("--heartbeat-interval", str(ELECTION_MS // 10)),
                    *("--election-timeout", str(ELECTION_MS)),
                    *("--logger", "zap"),
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={key: value for key, value in os.environ.items() if not key.startswith("ETCD_")},
            )
            log.close()

    def kill(self, *numbers: int) -> None:
        """End these members (none: all) as a crash would."""
        for number in numbers or range(len(self.urls)):
            process, self._processes[number] = self._processes[number], None
            if process is not None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    def ask(self, path: str, body: dict[str, object], member: int = 0) -> dict[str, object]:
        """Ask a member directly."""
        request = urllib.request.Request(self.urls[member] + path, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            value: dict[str, object] = json.load(answer)
            return value

    def await_majority(self, member: int = 0) -> None:
        """Wait until this member takes writes."""
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            with suppress(OSError):
                self.ask("/v3/kv/put", {"key": "cmVhZHk=", "value": ""}, member)
                return
            if time.monotonic() > deadline_s:
                pytest.fail(f"etcd is not ready: {(self._directory / f'm{member}.log').read_text()[-2000:]}")
            time.sleep(0.05)


@contextmanager
def etcd(directory: Path, members: int = 3) -> Iterator[Etcd]:
    """Run members, without TLS and authentication."""
    made = Etcd(directory, members)
    try:
        made.start()
        made.await_majority()
        yield made
    finally:
        made.kill()
