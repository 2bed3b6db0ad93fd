"""A small cluster of real daemons for tests of what a client sees."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.support.waiting import DEADLINE_S as DEADLINE_S
from tests.support.waiting import await_that

ROOT = Path(__file__).resolve().parents[2]

T = TypeVar("T")
Finished = subprocess.CompletedProcess[bytes]


def eventually(condition: Callable[[], T], what: str) -> T:
    """Ask until the answer is true, and return it."""
    return await_that(condition, what)


class LocalCluster:
    """A running cluster."""

    def __init__(self, base: Path) -> None:
        self.directory = base / "cluster"
        programs = base / "bin"
        programs.mkdir()
        for name in ("heorot", "bpsh", "bprsh", "bpps", "bpjob", "bpcp", "bpstat", "bpkill"):
            # As installed: a shell before it would change the environment that goes along.
            (programs / name).symlink_to(Path(sys.executable).parent / name)
        self.environment = {
            **os.environ,
            "HEOROT_DIR": str(self.directory),
            "PYTHONPATH": str(ROOT / "src"),
            "PATH": f"{programs}:{os.environ['PATH']}",
        }

    def run(self, *words: str | bytes, input: bytes | None = None, **options: Any) -> Finished:
        """Run a command to its end; with `input` None its stdin is /dev/null."""
        if input is None:
            options.setdefault("stdin", subprocess.DEVNULL)
        else:
            options["input"] = input
        options.setdefault("env", self.environment)
        return subprocess.run([self._found(words[0]), *words[1:]], capture_output=True, timeout=DEADLINE_S, **options)

    def bpsh(self, *words: str | bytes, input: bytes | None = None, **options: Any) -> Finished:
        """Run `bpsh` to its end."""
        return self.run("bpsh", *words, input=input, **options)

    def start(self, *words: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command; options as of Popen."""
        return subprocess.Popen([self._found(words[0]), *words[1:]], env=self.environment, **options)

    @contextmanager
    def running(self, *words: str | bytes, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command; whatever is left of it afterwards is killed, so that a failed test does not hang."""
        with self.start(*words, **options) as process:
            try:
                yield process
            finally:
                process.kill()

    def _found(self, name: str | bytes) -> str:
        return shutil.which(os.fsdecode(name), path=self.environment["PATH"]) or os.fsdecode(name)

    def processes(self) -> list[dict[str, Any]]:
        """What bpps shows."""
        rows: list[dict[str, Any]] = json.loads(self.run("bpps", "--json", check=True).stdout)
        return rows

    def await_idle(self) -> None:
        """Wait until no process of any job is left."""
        eventually(lambda: not self.processes(), "every process of the cluster to end")


@contextmanager
def local_cluster(nodes: int) -> Iterator[LocalCluster]:
    """Start a cluster, end it afterwards."""
    base = Path(tempfile.mkdtemp(prefix="lc."))
    cluster = LocalCluster(base)
    try:
        cluster.run("heorot", "up", "--nodes", str(nodes), check=True)
        try:
            yield cluster
        finally:
            cluster.run("heorot", "down", check=True)
    finally:
        shutil.rmtree(base)
