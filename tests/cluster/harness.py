"""A cluster of real daemons for tests, driven through Heorot's commands as a user would."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.support.commands import ROOT as ROOT
from tests.support.commands import command as command
from tests.support.embedded import enter_user_namespace
from tests.support.status import status_of
from tests.support.waiting import DEADLINE_S as DEADLINE_S
from tests.support.waiting import await_that as await_that

NOTHING: Mapping[str, str] = {}


class Running(subprocess.Popen[bytes]):
    """A started command; leaving its block with an error ends it, where Popen would wait for it."""

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)

    def outcome(self) -> tuple[int, bytes, bytes]:
        """Wait for its end; return its exit status, and what it has said on stdout and stderr."""
        output, errors = self.communicate(timeout=DEADLINE_S)
        return self.returncode, output, errors


Finished = subprocess.CompletedProcess[bytes]
T = TypeVar("T")


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and is not yet reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in (b"Z", b"X")


def parent(pid: int) -> int:
    """Return the PID of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])


def private_bytes(pid: int) -> int:
    """Return the memory that belongs to this process alone."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


def host_pids(marker: str) -> list[int]:
    """Return the host's PIDs of all living processes whose last argument is `marker`, bpsh itself left out."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                arguments = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
                is_bpsh = any(argument.endswith(b"/bpsh") for argument in arguments[:4])
                if arguments[-2:] == [marker.encode(), b""] and not is_bpsh and is_alive(int(name)):
                    found.append(int(name))
    return found


class Cluster:
    """One cluster; `directory` is its directory, `environment` what its commands need."""

    def __init__(
        self, directory: Path, environment: Mapping[str, str] = NOTHING, user_namespace: int | None = None
    ) -> None:
        self.directory = directory
        self.user_namespace = user_namespace
        self.environment = {**os.environ, "HEOROT_DIR": str(directory), "PYTHONPATH": str(ROOT / "src"), **environment}

        self.started_at = 0.0
        """When the last command was."""

    def start(self, name: str, *arguments: str | bytes | Path, **options: Any) -> Running:
        """Start one of Heorot's commands; options as of Popen, stdin empty unless given."""
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        options.setdefault("env", self.environment)
        if self.user_namespace is not None:
            namespace = self.user_namespace
            options["preexec_fn"] = lambda: enter_user_namespace(namespace)
        self.started_at = time.time()
        # Unbuffered, because `communicate` does not know what a buffered reader has read ahead.
        return Running([*command(name), *arguments], bufsize=0, **options)

    def run(
        self,
        name: str,
        *arguments: str | bytes | Path,
        stdin: bytes = b"",
        deadline_s: float = DEADLINE_S,
        **options: Any,
    ) -> Finished:
        """Run one of Heorot's commands to its end, whatever its status."""
        with self.start(name, *arguments, stdin=subprocess.PIPE, **options) as process:
            output, errors = process.communicate(stdin, deadline_s)
        return Finished(arguments, process.returncode, output, errors)

    def check(self, name: str, *arguments: str | bytes | Path, stdin: bytes = b"") -> bytes:
        """Run one of Heorot's commands, which must succeed, and return its output."""
        result = self.run(name, *arguments, stdin=stdin)
        assert result.returncode == 0, f"{name} {arguments} ended with {result.returncode}: {result.stderr.decode()}"
        return result.stdout

    def up(self, nodes: int, *options: str) -> None:
        """Start the daemons."""
        self.check("heorot", "up", "--nodes", str(nodes), *options)

    def down(self) -> None:
        """End everything."""
        self.check("heorot", "down")

    def status(self) -> dict[str, Any]:
        """What ``heorot status`` says."""
        status = self.known()
        assert status, "no head leads"
        return status

    def known(self) -> dict[str, Any]:
        """The same, empty while no head leads."""
        if self.user_namespace is None:
            return status_of(self.directory)
        result = self.run("heorot", "status", "--json")
        return dict(json.loads(result.stdout)) if not result.returncode else {}

    def files_in(self, pattern: str) -> list[os.stat_result]:
        """Return the status of the files with such names in its directory; daemons rename and remove some meanwhile."""
        found = []
        for item in self.directory.glob(pattern):
            with suppress(FileNotFoundError):
                found.append(item.stat())
        return found

    def fetched_blocks(self) -> int:
        """How much the heads have of the largest file that came since the last command, in blocks of 512 bytes.

        The nodes of an embedded cluster have it when it is whole.
        """
        files = [file for kind in ("partial", "files") for file in self.files_in(f"heads/*/images/{kind}/*")]
        return max((file.st_blocks for file in files if file.st_ctime >= self.started_at), default=0)

    def node(self, number: int) -> dict[str, Any]:
        """What ``heorot status`` says about a node."""
        node: dict[str, Any] = next(node for node in self.status()["nodes"] if node["id"] == number)
        return node

    def head_pid(self) -> int:
        """The active head's PID."""
        pid: int = next(head["pid"] for head in self.status()["heads"] if head["role"] == "active")
        return pid

    def await_up(self, *numbers: int) -> None:
        """Wait until these nodes (none: all) are up."""

        def all_up() -> bool:
            nodes = self.status()["nodes"]
            return all(node["state"] == "up" for node in nodes if not numbers or node["id"] in numbers)

        await_that(all_up, f"nodes {numbers or 'of the cluster'} up again")

    def processes(self, *options: str) -> list[dict[str, Any]]:
        """What ``bpps`` says."""
        processes: list[dict[str, Any]] = json.loads(self.check("bpps", "--json", *options))
        return processes

    def job(self, job: str) -> dict[str, Any]:
        """What ``bpjob show`` says."""
        shown: dict[str, Any] = json.loads(self.check("bpjob", "show", job, "--json"))
        return shown

    def jobs(self) -> list[dict[str, Any]]:
        """What ``bpjob list`` says."""
        jobs: list[dict[str, Any]] = json.loads(self.check("bpjob", "list", "--json"))
        return jobs

    def detach(self, *arguments: str) -> str:
        """Start a detached job and return its id."""
        return self.check("bpsh", "--detach", *arguments).decode().strip()

    def await_job(self, job: str, wanted: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Wait until a job is as wanted, and return it."""
        shown: dict[str, Any] = {}

        def asked() -> bool:
            shown.update(self.job(job))
            return wanted(shown)

        await_that(asked, f"{what}: {shown}")
        return shown


def kill_hard(pid: int) -> None:
    """End a daemon as a crash would, and wait until it is gone."""
    os.kill(pid, signal.SIGKILL)
    await_that(lambda: not is_alive(pid), f"process {pid} gone after SIGKILL")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process, and let it go on at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def cluster(nodes: int, *options: str, environment: Mapping[str, str] = NOTHING) -> Iterator[Cluster]:
    """Run a cluster in a directory of its own; afterwards nothing is left of it."""
    parent = Path(tempfile.mkdtemp(prefix="c."))
    made = Cluster(parent / "cluster", environment)
    try:
        made.up(nodes, *options)
        yield made
    finally:
        try:
            if made.directory.exists():
                made.down()
        finally:
            shutil.rmtree(parent, ignore_errors=True)
