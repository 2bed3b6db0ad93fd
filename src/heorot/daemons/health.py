"""The site's check of nodes: at intervals the active head runs a command on all nodes that it reaches, as root's job.

It is a client of this head like any other, in a process of its own: so the check goes through the tree, with all the
limits of jobs, and needs nothing of a node. On nodes that are drained, or are being prepared, nothing is run.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from heorot.core.errors import HeorotError
from heorot.core.wire.wishes import HealthFound
from heorot.daemons.site_program import LAST_LINE_BYTES, PATH, last_line_of
from heorot.linux.process import fork_daemon, watch_child
from heorot.runtime.loop import Loop, Timer

NODES = "@*!down!drain!boot!unknown"
MAX_ANSWER_BYTES = 8 * 1024 * 1024
ENDING_S = 10.0
"""So much longer than its limit the process may take to say what it has found."""


class HealthSettings(Struct, frozen=True):
    """The site's command, as words, how often it runs, and how long it may take."""

    command: tuple[str, ...]
    clients: Path
    every_ms: int = 300_000
    limit_ms: int = 60_000


class HealthChecks:
    """Runs the checks. Without settings there are none."""

    def __init__(
        self,
        loop: Loop,
        settings: HealthSettings | None,
        feed: Callable[[HealthFound], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._settings = settings
        self._feed = feed
        self._log = log
        self._timer: Timer | None = None
        self._process = self._output = -1
        self._pid = 0
        self._data = b""
        self._plan()

    def close(self) -> None:
        """Check nothing more."""
        self._settings = None
        if self._timer is not None:
            self._timer.cancel()
        if self._process >= 0:
            self._kill()
            self._reap()

    def _plan(self) -> None:
        if self._settings is not None:
            self._timer = self._loop.call_at(self._loop.time() + self._settings.every_ms / 1000, self._begin)

    def _begin(self) -> None:
        settings = self._settings
        assert settings is not None
        self._data = b""
        try:
            self._start(settings)
        except OSError as error:
            self._log("warning", f"nodes are not checked: {error.strerror or error}")
            self._plan()
            return
        self._loop.add_reader(self._output, self._read)
        limit_s = settings.limit_ms / 1000 + ENDING_S
        self._timer = self._loop.call_at(self._loop.time() + limit_s, self._kill)

    def _start(self, settings: HealthSettings) -> None:
        """Start the check. Raises OSError, and leaves nothing then."""
        output, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(write, True)
            pid = fork_daemon("bphead-check", {write}, lambda: _check(settings, write))
            self._process = watch_child(pid)
        except OSError:
            os.close(output)
            raise
        finally:
            os.close(write)
        self._pid, self._output = pid, output

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def _read(self) -> None:
        try:
            part = os.read(self._output, 65536)
        except BlockingIOError:
            return
        self._data += part
        if part and len(self._data) <= MAX_ANSWER_BYTES:
            return
        if part:
            self._kill()
        self._reap()
        self._tell()
        self._plan()

    def _reap(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._loop.remove_reader(self._output)
        os.waitpid(self._pid, 0)
        os.close(self._output)
        os.close(self._process)
        self._process = self._output = -1

    def _tell(self) -> None:
        try:
            value = json.loads(self._data)
            found = tuple((int(node), str(error)) for node, error in value["found"])
            problem = str(value["problem"])
        except (ValueError, KeyError, TypeError):
            found, problem = (), "the process that does it was killed"
        if problem:
            self._log("warning", f"nodes are not checked: {problem}")
        if found:
            self._feed(HealthFound(found))


def _check(settings: HealthSettings, output: int) -> None:
    """Run the command, and write what came of it."""
    found: list[tuple[int, str]] = []
    problem = ""
    try:
        found = check_nodes(settings)
    except HeorotError as error:
        problem = str(error)
    with os.fdopen(output, "wb") as file:
        file.write(json.dumps({"found": found, "problem": problem}).encode())


def check_nodes(settings: HealthSettings) -> list[tuple[int, str]]:
    """Return what is wrong with each node that was reached, empty if nothing is. Raises HeorotError."""
    from heorot.client.blocking import connect
    from heorot.client.endings import in_words
    from heorot.core.errors import RequestError

    until_s = time.monotonic() + settings.limit_ms / 1000
    tails: dict[int, bytes] = {}
    with connect(settings.clients, reconnect_timeout_s=0) as cluster:
        try:
            job = cluster.spawn(
                settings.command, NODES, image="path", directory="/", umask=0o022, environment={"PATH": PATH}
            )
        except RequestError as error:
            if error.code == "no-nodes":
                return []
            raise
        with job:
            try:
                while (chunk := job.read(max(0.0, until_s - time.monotonic()))) is not None:
                    tails[chunk.rank] = (tails.get(chunk.rank, b"") + chunk.data)[-LAST_LINE_BYTES:]
            except TimeoutError:
                pass  # those that have not ended are wrong
            found: list[tuple[int, str]] = []
            for rank, node in enumerate(job.nodes):
                status = job.statuses.get(rank)
                if status is None:
                    found.append((node, f"its check has not ended within {settings.limit_ms / 1000:g} s"))
                elif not status.lost:
                    said = last_line_of(tails.get(rank, b"")) or status.text or in_words(status)
                    found.append((node, "" if status.success else f"its check: {said}"))
            return found
