"""A job that runs beside what a test does to its cluster, and must not be harmed by it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from tests.cluster.harness import DEADLINE_S, Cluster, await_that

SCRIPT = 'i=0; while [ ! -e "$0" ]; do echo $i; i=$((i+1)); sleep 0.05; done; exit 5'
"""Counts until a file is there. A second start of it, or a byte that is lost or doubled, breaks the row of numbers."""


class Witness:
    """A client follows the job until the block is left; then output and exit status must be right to the last byte."""

    def __init__(self, cluster: Cluster, directory: Path, node: str = "n0") -> None:
        self._output, self._end = directory / f"witness.{node}", directory / f"witness.{node}.end"
        with open(self._output, "wb") as output:
            self._client = cluster.start("bpsh", node, "/bin/sh", "-c", SCRIPT, str(self._end), stdout=output)

    def __enter__(self) -> Witness:
        try:
            self.check()
        except BaseException:
            self._abandon()
            raise
        return self

    def check(self) -> None:
        """The job goes on, and its output comes."""
        before = self._numbers()
        await_that(lambda: self._numbers() > before + 5, "more output of the job")

    def _numbers(self) -> int:
        """Return how many numbers have come; they must be in a row."""
        lines = self._output.read_bytes().split(b"\n")[:-1]
        assert lines == [b"%d" % number for number in range(len(lines))], self._output
        assert self._client.poll() is None or self._end.exists(), self._client.communicate()
        return len(lines)

    def _abandon(self) -> None:
        self._end.touch()
        self._client.kill()
        self._client.communicate()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._abandon()
            return
        try:
            self.check()
            self._end.touch()
            _, errors = self._client.communicate(timeout=DEADLINE_S)
        except BaseException:
            self._abandon()
            raise
        self._numbers()
        assert self._client.returncode == 5, errors
