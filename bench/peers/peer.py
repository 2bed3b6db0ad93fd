"""What is asked of each program that is measured, whatever it is."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from bench.peers import processes
from bench.peers.results import OUTPUT, TRUE, Attempt, judged

ROOT = Path(__file__).resolve().parents[2]
CALL_LIMIT_S = 60.0
"""For one work; what takes longer is killed and counts as failed."""
START_LIMIT_S = 900.0
"""For all nodes of a peer to be there."""
CAT = "/bin/cat"


class PeerError(Exception):
    """A peer did not start; the text says what of it, in words for the table. `said` is what it wrote itself."""

    def __init__(self, text: str, said: str = "") -> None:
        super().__init__(text)
        self.said = said


@dataclass
class Place:
    """Where a peer lives while it is measured.

    Attributes
    ----------
    directory:
        A new one, of its own; removed at the end.
    python:
        The interpreter of the environment that holds the wheels.
    """

    directory: Path
    python: str
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True)
        # What peers keep for their users is to be gone with the directory, and no setting of this user is to count.
        home = {"HOME": str(self.directory), "TMPDIR": str(self.directory), "PYTHONPATH": str(ROOT)}
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL") if name in os.environ}
        self.environment = {"PATH": path(), **kept, **home, **self.environment}


def path() -> str:
    """Return where programs are looked for: where the user's are, and where Debian puts daemons."""
    return os.pathsep.join([os.environ.get("PATH", "/usr/bin:/bin"), "/usr/sbin", "/sbin"])


class Peer(ABC):
    """A program that runs commands on many nodes.

    Attributes
    ----------
    key, name, how:
        For programs, for the table, and how it is driven.
    commands:
        What it is started with, and the package of Debian that has each.
    wheels:
        What has to be in the environment for it, each with the module or file that shows that it is.
    kinds:
        The works that it does at all; why not the others is nothing to tell.
    version_command:
        What says which release it is, unless that is known by its wheel.
    most_nodes, most_nodes_because:
        More are not tried, and why.
    """

    key: ClassVar[str]
    name: ClassVar[str]
    how: ClassVar[str]
    commands: ClassVar[Sequence[tuple[str, str]]] = ()
    wheels: ClassVar[Sequence[tuple[str, str]]] = ()
    kinds: ClassVar[Sequence[str]] = (TRUE, OUTPUT)
    version_command: ClassVar[Sequence[str]] = ()
    most_nodes: ClassVar[int] = 1 << 20
    most_nodes_because: ClassVar[str] = ""

    place: Place
    """Where it lives, once it has begun."""

    def __init__(self) -> None:
        self.nodes = 0
        self.running: list[subprocess.Popen[bytes]] = []

    def version(self) -> str:
        """Return the release, as far as it says so itself."""
        if not self.version_command:
            return ""
        with suppress(OSError, subprocess.TimeoutExpired):
            environment = os.environ | {"PATH": path()}
            ran = {"capture_output": True, "text": True, "timeout": CALL_LIMIT_S}
            said = subprocess.run(self.version_command, env=environment, check=False, **ran)  # type: ignore[call-overload]
            if number := re.search(r"\d+(\.\d+)*", said.stdout + said.stderr):
                return number[0]
        return ""

    def begin(self, nodes: int, place: Place) -> None:
        """Start what has to be there before the first command.

        Raises
        ------
        PeerError
            If it does not come up.
        """
        self.nodes, self.place = nodes, place
        self.start()

    def start(self) -> None:
        """Start daemons, if there are any; many peers have none. Raises PeerError."""
        self.running = []

    def stop(self) -> None:
        """End them as their users would; what is left afterwards is killed."""
        running, self.running = self.running, []
        processes.end(running)

    def daemon_pids(self) -> list[list[int]]:
        """Return the PIDs of each node's daemons; none if a node has none."""
        return []

    @abstractmethod
    def run(self, argv: list[str], expected_bytes: int) -> Attempt:
        """Run a command on all nodes, and count the bytes that come back."""

    def copy(self, source: Path, target: Path) -> Attempt:
        """Copy a file to all nodes."""
        raise NotImplementedError

    def targets(self, target: Path) -> list[Path]:
        """Return the files that are there after such a copy: nodes on one machine may share the one."""
        return [target]

    def daemon(self, argv: list[str], log: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a daemon, which is ended with the others; what it says goes into a file of this name."""
        with open(self.place.directory / log, "ab") as said:
            process = subprocess.Popen(
                argv,
                env=self.place.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                cwd=self.place.directory,
                start_new_session=True,
            )
        self.running.append(process)
        return process

    def said(self, log: str) -> str:
        """Return the end of such a file."""
        with suppress(FileNotFoundError):
            return (self.place.directory / log).read_text(errors="replace")[-processes.SAID_BYTES :].strip()
        return ""


class CommandPeer(Peer):
    """A peer that is a command: each work is a whole run of it."""

    @abstractmethod
    def argv(self, command: list[str]) -> list[str]:
        """Return what is typed to run a command on all nodes."""

    def copy_argv(self, source: Path, target: Path) -> list[str]:
        """Return what is typed to copy a file to all nodes."""
        raise NotImplementedError

    def run(self, argv: list[str], expected_bytes: int) -> Attempt:
        """Run it with a limit."""
        return self._timed(self.argv(argv), expected_bytes)

    def copy(self, source: Path, target: Path) -> Attempt:
        """Run it with a limit."""
        return self._timed(self.copy_argv(source, target), 0)

    def _timed(self, argv: list[str], expected_bytes: int) -> Attempt:
        ran = processes.timed(argv, self.place.environment, CALL_LIMIT_S)
        return judged(ran.elapsed_s, ran.status, ran.received_bytes, expected_bytes, ran.said)


class DrivenPeer(Peer):
    """A peer that is a library: a program of its own holds it and obeys orders (`bench.peers.drivers`)."""

    driver: ClassVar[str]

    def interpreter(self) -> str:
        """Return the Python that has the library."""
        return self.place.python

    def arguments(self) -> list[str]:
        """Return what the driver is told at its start."""
        return [str(self.nodes)]

    def program(self) -> list[str]:
        """Return what starts the driver."""
        return [self.interpreter(), "-m", f"bench.peers.drivers.{self.driver}", *self.arguments()]

    def start(self) -> None:
        """Start the driver and wait until it is ready."""
        with open(self.place.directory / "driver.log", "ab") as said:
            self._process = subprocess.Popen(
                self.program(),
                env=self.place.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=self.place.directory,
                start_new_session=True,
                bufsize=0,
            )
        self.running.append(self._process)
        self._unread = b""
        ready = self._answer(START_LIMIT_S)
        if "pids" not in ready:
            raise PeerError(ready["problem"], self.said("driver.log"))
        self._pids: list[list[int]] = ready["pids"]

    def daemon_pids(self) -> list[list[int]]:
        """Return what the driver has said when it was ready."""
        return self._pids

    def stop(self) -> None:
        """Let the driver end by itself, which ends its nodes, too; then what is left."""
        for process in self.running:
            if process.stdin is not None:
                process.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                process.wait(processes.GRACE_S)
            if process.stdout is not None:
                process.stdout.close()
        super().stop()

    def run(self, argv: list[str], expected_bytes: int) -> Attempt:
        """Order it, and wait for the answer with a limit."""
        return self._ordered({"do": "run", "argv": argv}, expected_bytes)

    def copy(self, source: Path, target: Path) -> Attempt:
        """Order it, and wait for the answer with a limit."""
        return self._ordered({"do": "copy", "source": str(source), "target": str(target)}, 0)

    def _ordered(self, order: dict[str, Any], expected_bytes: int) -> Attempt:
        start = time.perf_counter()
        with suppress(BrokenPipeError):
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
        answer = self._answer(CALL_LIMIT_S)
        if "elapsed_s" not in answer:
            return Attempt(time.perf_counter() - start, answer["problem"], self.said("driver.log"))
        if answer["good"] != self.nodes:
            return Attempt(answer["elapsed_s"], f"{answer['good']} of {self.nodes} nodes did it")
        return judged(answer["elapsed_s"], 0, answer["bytes"], expected_bytes)

    def _answer(self, limit_s: float) -> dict[str, Any]:
        """Return the next line of the driver; or what is the matter, as ``problem``."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._unread:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._process.stdout], [], [], left_s)[0]:
                # Its answer may come still, and would be taken for that to the next order.
                self._process.kill()
                return {"problem": f"was not over in {limit_s:.0f} s"}
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                return {"problem": "its program ended"}
            self._unread += data
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def own_python() -> str:
    """Return the interpreter that Heorot is installed for."""
    return sys.executable
