"""Real clusters for tests: ``heorot up`` and the other commands as processes of their own, as root and without."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from heorot.config.mark import daemon_mark
from tests.support.commands import command
from tests.support.status import status_of
from tests.support.waiting import DEADLINE_S as DEADLINE_S
from tests.support.waiting import await_that

CLONE_NEWUSER = 0x10000000
FAST = "heartbeat_ms=300,link_timeout_ms=20000,node_grace_ms=20000"
"""What is silent or gone for as long as a busy machine makes a daemon wait is not given up."""


def make_user_namespace() -> int:
    """Return a descriptor of a user namespace without a mapping: nobody is root there, yet may read our files."""
    libc = ctypes.CDLL(None, use_errno=True)
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        _hold_user_namespace(libc, write)
    os.close(write)
    assert os.read(read, 1), "unshare(CLONE_NEWUSER) was refused"
    os.close(read)
    namespace = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return namespace


def _hold_user_namespace(libc: ctypes.CDLL, write: int) -> NoReturn:
    if not libc.unshare(CLONE_NEWUSER):
        os.write(write, b"x")
        signal.pause()
    os._exit(1)


def enter_user_namespace(namespace: int) -> None:
    """Be nobody in particular from the next exec on."""
    if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWUSER):
        raise OSError(ctypes.get_errno(), "setns")


def wait_for(condition: Callable[[], Any], what: str = "the condition") -> Any:
    """Poll until the condition holds; return what it returned."""
    return await_that(condition, what)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except OSError:
        return False


class Embedded:
    """One cluster directory and the commands about it."""

    def __init__(self, directory: Path, rootless: bool = False) -> None:
        self.directory = directory
        self._namespace = make_user_namespace() if rootless else -1

    def start(self, name: str, *arguments: str, prefix: Sequence[str] = (), **options: Any) -> subprocess.Popen[str]:
        """Start a command; `prefix` is a program that runs it."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "HEOROT_DIR": str(self.directory),
            "HEOROT_TIMES": FAST,
        }
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
        return subprocess.Popen(
            [*prefix, *command(name), *arguments],
            env=environment,
            text=True,
            preexec_fn=(lambda: enter_user_namespace(self._namespace)) if self._namespace >= 0 else None,
            **options,
        )

    def run(
        self, name: str, *arguments: str, status: int | None = 0, prefix: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end and check its exit status."""
        with self.start(name, *arguments, prefix=prefix) as process:
            try:
                output, errors = process.communicate(timeout=DEADLINE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        done = subprocess.CompletedProcess(process.args, process.returncode, output, errors)
        assert status is None or done.returncode == status, (done.returncode, output, errors)
        return done

    def up(self, *arguments: str) -> dict[str, Any]:
        """Start the cluster; return its status."""
        value: dict[str, Any] = json.loads(self.run("heorot", "up", "--json", *arguments).stdout)
        return value

    def status(self) -> dict[str, Any]:
        """Return the status; empty while there is no head."""
        if self._namespace < 0:
            return status_of(self.directory)
        done = self.run("heorot", "status", "--json", status=None)
        return json.loads(done.stdout) if done.returncode == 0 else {}

    def node(self, number: int) -> dict[str, Any]:
        """Return one node's status; empty while there is no head."""
        status = self.status()
        return dict(status["nodes"][number]) if status else {}

    def states(self) -> list[str]:
        """Return the states of all nodes, empty while there is no head."""
        return [node["state"] for node in self.status().get("nodes", ())]

    def daemons(self) -> list[int]:
        """Return the PIDs of all daemons of this directory."""
        word = daemon_mark(str(self.directory))
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    with open(f"/proc/{name}/cmdline", "rb") as file:
                        if word in file.read() and alive(int(name)):
                            found.append(int(name))
                except OSError:
                    pass
        return found

    def down(self) -> None:
        """End the cluster if there is one."""
        if self.directory.exists() and any(self.directory.iterdir()):
            self.run("heorot", "down", status=None)

    def close(self) -> None:
        """End the cluster if there is one, and everything else."""
        self.down()
        if self._namespace >= 0:
            os.close(self._namespace)
            self._namespace = -1
