"""A client of the head that counts what it is sent: a unix socket has no counter of its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType

from bench.cluster import BenchError
from heorot.client.endpoint import connect_head
from heorot.core.client.job import JobState
from heorot.core.client.session import Session
from heorot.linux.clock import now_ms

RECEIVE_BYTES = 1 << 16


class CountingClient:
    """One connection; launches one job after the other."""

    def __init__(self, directory: Path) -> None:
        self.connection = socket.socket(fileno=connect_head(str(directory)).detach())
        self.session = Session()
        self.received_bytes = 0

    def __enter__(self) -> CountingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def launch_everywhere(self, nodes: int, ranks_a_node: int = 1, more_environment_bytes: int = 0) -> None:
        """Run /bin/true on all nodes that are up and wait for the end.

        Raises
        ------
        BenchError
            If the head refuses, or a rank does not end with 0.
        """
        job = self.session.spawn(
            now_ms(),
            nodes=",".join(["up"] * ranks_a_node) if ranks_a_node > 1 else "",
            select="list" if ranks_a_node > 1 else "up",
            argv=[b"/bin/true"],
            environment=[
                b"PATH=/usr/bin:/bin",
                *([b"X=" + b"x" * more_environment_bytes] * bool(more_environment_bytes)),
            ],
            directory=b"/",
            umask=os.umask(0o022) or 0o022,
            limits=[],
            stdin=None,
            stdout=b"",
            stderr=b"",
            terminal=[],
            detached=False,
            max_processes=0,
            tell_started=False,
        )
        self._until_done(job)
        if len(job.statuses) != nodes * ranks_a_node or not all(status.success for status in job.statuses.values()):
            raise BenchError(f"a launch on {nodes} nodes gave {len(job.statuses)} statuses, not all of them 0")
        self.session.release(job)
        self._flush()

    def _flush(self) -> None:
        self.connection.sendall(self.session.outgoing)
        self.session.outgoing.clear()

    def _until_done(self, job: JobState) -> None:
        self._flush()
        while not job.done:
            data = self.connection.recv(RECEIVE_BYTES)
            if not data:
                raise BenchError("the head closed the connection")
            self.received_bytes += len(data)
            self.session.receive(data, now_ms())
            if job.error is not None:
                raise BenchError(f"the head refused the launch: {job.error}")
            if self.session.outgoing:
                self._flush()
