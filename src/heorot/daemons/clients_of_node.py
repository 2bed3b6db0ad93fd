"""Commands and programs on a node's host reach the cluster there, too: its agent has their connections passed on.

The agent only listens. When somebody comes, it forks a process that passes clients on (`heorot.runtime.passing`) as
long as there are any; so a node that nobody uses like this has one more descriptor, and no code of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from heorot.core.errors import HeorotError
from heorot.linux.process import fork_daemon, how_ended, watch_child
from heorot.linux.trusted_path import make_directory
from heorot.runtime.log import LogFile
from heorot.runtime.loop import EpollLoop, Timer
from heorot.runtime.sockets import listen_unix

if TYPE_CHECKING:
    from heorot.runtime.passing import Passing

IDLE_S = 30.0
"""So long the process stays without a client."""
PAUSE_S = 0.5
"""Between two starts of it, if it ends by itself."""
Heads = Callable[[], tuple[tuple[str, int], ...]]


class ClientsOfNode:
    """Listens at `path`, and has clients passed on by a process.

    Parameters
    ----------
    directory
        The node's: its identity.
    heads
        Returns where heads of the cluster accept connections.
    """

    def __init__(
        self, loop: EpollLoop, path: Path, directory: Path, cluster: str, name: str, heads: Heads, log: LogFile
    ) -> None:
        self._loop = loop
        self._path = path
        self._directory = directory
        self._cluster = cluster
        self._name = name
        self._heads = heads
        self._log = log
        self._pid = 0
        self._process = -1
        self._pause: Timer | None = None
        make_directory(path.parent, 0o755)
        self._listener = listen_unix(path, 0o666)
        self._listener.setblocking(False)
        self._inode = path.stat().st_ino
        loop.add_reader(self._listener.fileno(), self._somebody_comes)

    def _somebody_comes(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        try:
            pid = fork_daemon(f"bpnode-pass {self._name}", {self._listener.fileno()}, self._pass_on)
            self._process = watch_child(pid)
        except OSError as error:
            self._log("error", f"cannot pass clients on: {error.strerror or error}")
            self._listen_later()
            return
        self._pid = pid
        self._loop.add_reader(self._process, self._ended)

    def _ended(self) -> None:
        self._loop.remove_reader(self._process)
        status = self._reap()
        if status:
            self._log("warning", f"what passes clients on {how_ended(status)}")
        self._listen_later()

    def _listen_later(self) -> None:
        self._pause = self._loop.call_at(self._loop.time() + PAUSE_S, self._listen)

    def _listen(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listener.fileno(), self._somebody_comes)

    def _reap(self) -> int:
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._process)
        self._process, self._pid = -1, 0
        return status

    def close(self) -> None:
        """End it all, and remove the socket."""
        if self._process >= 0:
            self._loop.remove_reader(self._process)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            self._reap()
        elif self._pause is not None:
            self._pause.cancel()
        else:
            self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        # A head on the same host may have put its own socket there.
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()

    # ------------------------------------------------------------------ the process

    def _pass_on(self) -> None:
        from heorot.core.wire.passing import MAX_OF_NODE
        from heorot.runtime.callers import ClientQuotas
        from heorot.runtime.passing import Passing
        from heorot.security import tls

        self._log.forget()
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        loop = EpollLoop()
        try:
            context = tls.client_context(self._directory, passed_on=True, for_a_client=True)
            # A head takes no more of a node: here users share them, as they do at a head.
            what = "clients that this node passes on"
            quotas = ClientQuotas(os.geteuid(), MAX_OF_NODE, what=what, setting="")
            passing = Passing(loop, self._path, self._cluster, self._heads, "", context, self._log, quotas)
            passing.listen_on(socket.socket(fileno=os.dup(self._listener.fileno())))
            _EndWhenIdle(loop, passing)
            loop.run_forever()
        except HeorotError as error:
            self._log("error", f"cannot pass clients on: {error}")
            sys.exit(1)


class _EndWhenIdle:
    """Stops the loop when there was no client for `IDLE_S`; whoever comes meanwhile wakes the agent."""

    def __init__(self, loop: EpollLoop, passing: Passing) -> None:
        self._loop = loop
        self._passing = passing
        self._was_idle = False
        self._look_later()

    def _look_later(self) -> None:
        self._loop.call_at(self._loop.time() + IDLE_S / 2, self._look)

    def _look(self) -> None:
        if self._was_idle and self._passing.is_idle:
            self._loop.stop()
            return
        self._was_idle = self._passing.is_idle
        self._look_later()
