"""Hosts made of network namespaces: each has an address of its own, and a bridge between them is the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support.commands import command as argv_of
from tests.support.etcd import Etcd
from tests.support.status import status_of as known_status
from tests.support.waiting import DEADLINE_S as DEADLINE_S
from tests.support.waiting import await_that

NETWORK = "198.18"
"""From the range for benchmarks (RFC 2544): nobody's."""
NODE_TIMERS = {"heartbeat_ms": 200, "link_timeout_ms": 5_000}
HEAD_TIMERS = NODE_TIMERS | {"node_grace_ms": 5_000}
"""So that what a test cuts off is soon given up, and what only waits for a busy machine is not."""
NOBODY = "02:00:00:00:00:01"
"""An address of network cards (a locally administered one) that no host has."""


def ip(*arguments: str, stdin: str = "") -> None:
    """Run ip(8)."""
    subprocess.run(
        ["ip", *arguments],
        input=stdin,
        text=True,
        check=True,
        capture_output=True,
        timeout=DEADLINE_S,
        env=environment(sbin=True),
    )


def environment(*, sbin: bool = False, **more: str) -> dict[str, str]:
    """Return the environment of a command under test."""
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **more}
    if sbin:
        found["PATH"] = "/usr/sbin:/sbin:" + found.get("PATH", "/usr/bin:/bin")
    return found


def eventually(what: str, condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> Any:
    """Wait until `condition` gives something true and return it; fail with its last value otherwise."""
    return await_that(condition, what, deadline_s)


_number = count()
"""Of the networks of this process: a module may have one of its own, and a test another."""


class Host:
    """One host: a network namespace, a directory that stands for its disk, and its daemons."""

    def __init__(self, network: Network, name: str, number: int) -> None:
        self.network = network
        self.namespace = f"{network.prefix}{name}"
        self.address = f"{NETWORK}.{77 + number // 256}.{number % 256}"
        self.directory = network.directory / name
        self.directory.mkdir()
        self.config = self.directory / f"{'head' if name == 'head' else 'node'}.toml"
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.started_s: dict[str, float] = {}
        """When each of them was started last, on the monotonic clock."""

    def run(self, command: str, *arguments: object, stdin: str = "", **more: str) -> subprocess.CompletedProcess[str]:
        """Run one of Heorot's commands here and return what became of it."""
        return subprocess.run(
            self._inside(argv_of(command) + [str(argument) for argument in arguments]),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
            env=environment(sbin=True, **more),
        )

    def start(self, daemon: str, argv: Sequence[str] = ()) -> None:
        """Start a daemon as a service manager would: one of Heorot's, or what `argv` says."""
        argv = argv or [*argv_of(daemon), "--config", str(self.config)]
        self.started_s[daemon] = time.monotonic()
        with open(self.directory / f"{daemon}.err", "ab") as errors:
            self.daemons[daemon] = subprocess.Popen(
                self._inside(argv),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=environment(sbin=True),
            )

    def end(self, daemon: str, *, kill: bool = False) -> None:
        """End a daemon and wait for it."""
        process = self.daemons.pop(daemon)
        process.kill() if kill else process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE_S)
            raise

    def set_timers(self, **timers_ms: int) -> None:
        """Change timers in the configuration that a command wrote."""
        lines = "".join(f"{name} = {value}\n" for name, value in timers_ms.items())
        self.config.write_text(self.config.read_text().replace("[timers]\n", f"[timers]\n{lines}", 1))

    def add_settings(self, text: str) -> None:
        """Add a table to the configuration that a command wrote."""
        self.config.write_text(self.config.read_text() + text)

    def logs(self) -> str:
        """Return all that the daemons here have said."""
        return "\n".join(
            path.read_text() for path in sorted(self.directory.rglob("*")) if path.suffix in (".log", ".err")
        )

    def _inside(self, argv: Sequence[str]) -> list[str]:
        return [*self.prefix, *argv]

    @property
    def prefix(self) -> list[str]:
        """The words in front of a command that make it run here."""
        return [shutil.which("ip", path=environment(sbin=True)["PATH"]) or "ip", "netns", "exec", self.namespace]


class Network:
    """Some hosts on one bridge; all is removed at the end."""

    def __init__(self, directory: Path, kind: type[Host] = Host) -> None:
        self.directory = directory
        self._kind = kind
        self.prefix = f"heorot{os.getpid()}.{next(_number)}."
        self.hosts: dict[str, Host] = {}
        self._namespaces: list[str] = []

    def __enter__(self) -> Network:
        try:
            self._add(self._switch)
            ip("-n", self._switch, "link", "add", "bridge0", "type", "bridge")
            ip("-n", self._switch, "link", "set", "bridge0", "up")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _switch(self) -> str:
        return f"{self.prefix}switch"

    def _add(self, namespace: str) -> None:
        ip("netns", "add", namespace)
        self._namespaces.append(namespace)

    def host(self, name: str) -> Host:
        """Add a host and plug it in."""
        host = self._kind(self, name, len(self.hosts) + 1)
        self.hosts[name] = host
        self._add(host.namespace)
        port = f"port{len(self.hosts)}"
        ip("-n", self._switch, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
        ip("-n", self._switch, "link", "set", port, "master", "bridge0", "up")
        ip("-n", host.namespace, "address", "add", f"{host.address}/16", "dev", "eth0")
        for device in ("lo", "eth0"):
            ip("-n", host.namespace, "link", "set", device, "up")
        return host

    def unplug(self, host: Host, *, back: bool = False) -> None:
        """Cut a host's cable, or mend it."""
        number = list(self.hosts.values()).index(host) + 1
        ip("-n", self._switch, "link", "set", f"port{number}", "up" if back else "down")

    def cut(self, source: Host, targets: Iterable[Host]) -> None:
        """Have all vanish that `source` sends to `targets`, without a word; the other way stays as it is.

        Its packets go to a network card that does not exist.
        """
        lines = [f"neigh replace {host.address} lladdr {NOBODY} dev eth0 nud permanent\n" for host in targets]
        ip("-n", source.namespace, "-batch", "-", stdin="".join(lines))

    def mend(self, source: Host, targets: Iterable[Host]) -> None:
        """Undo `cut`."""
        lines = [f"neigh del {host.address} dev eth0\n" for host in targets]
        ip("-n", source.namespace, "-batch", "-", stdin="".join(lines))

    def end_daemons(self) -> None:
        """End all that was started on the hosts; of what has ended before, say how."""
        for host in self.hosts.values():
            for daemon, process in list(host.daemons.items()):
                if process.poll() is not None:
                    print(f"{host.namespace}: {daemon} had ended with {process.returncode}:\n{host.logs()[-2000:]}")
                with suppress(subprocess.TimeoutExpired):
                    host.end(daemon)

    def close(self) -> None:
        """End every daemon and remove every namespace."""
        self.end_daemons()
        for namespace in reversed(self._namespaces):
            ip("netns", "delete", namespace)
        self._namespaces.clear()


@contextmanager
def etcd_on(*hosts: Host) -> Iterator[Etcd]:
    """Run a member of etcd on each of these hosts."""
    directory = hosts[0].network.directory / "etcd"
    directory.mkdir()
    members = Etcd(directory, hosts=[(host.address, host.prefix) for host in hosts])
    try:
        members.start()
        yield members
    finally:
        members.kill()


def status_of(head: Host) -> dict[str, Any]:
    """Return ``heorot status --json``, or nothing while there is no head."""
    return known_status(head.directory)
