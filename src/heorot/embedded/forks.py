"""The daemons of an embedded cluster, forked from one process in which everything that they need was imported."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from heorot.bpinit import daemon as _preloaded  # noqa: F401  (the forked bpinits need it)
from heorot.bpinit.namespace import spawn_space
from heorot.core.errors import HeorotError
from heorot.daemons import agent
from heorot.daemons import head as bphead
from heorot.daemons.single import hold, note
from heorot.embedded.plan import Embedded, HeadSlot, NodeSlot
from heorot.linux.process import fork_daemon
from heorot.runtime.loop import EpollLoop


class DaemonForks:
    """Forks daemons, and knows them by their PIDs."""

    def __init__(self, embedded: Embedded, loop: EpollLoop) -> None:
        self._embedded = embedded
        self._loop = loop
        self.by_pid: dict[int, tuple[str, NodeSlot | HeadSlot]] = {}
        """Those that were not reaped: ``init``, ``agent`` or ``head``, and whose it is."""

    def space(self, node: NodeSlot) -> None:
        """Fork a node's bpinit. Raises HeorotError or OSError."""
        # The space's process alone keeps the lock. What had it before was reaped: there is nothing to wait for.
        lock = hold(self._embedded.layout.node(node.number), "bpinit", f"bpinit of n{node.number}", ending_s=0.0)
        try:
            with self._embedded.listen_space(node) as space:
                others = self._descriptors({space.fileno(), lock})
                node.init_page.say("")
                node.init_pid = spawn_space(self._embedded.space_config(node), space, others, node.init_page.say)
            note(lock, node.init_pid)
        finally:
            os.close(lock)
        self.by_pid[node.init_pid] = ("init", node)

    def agent(self, node: NodeSlot, listener: socket.socket) -> None:
        """Fork a node's agent, which listens there."""
        # Listening from now on: the nodes below may come before the agent is ready.
        listener.listen(1024)
        settings = self._embedded.node_settings(node, listener)
        node.agent_pid = fork_daemon(
            f"bpnode n{node.number}", {listener.fileno()}, lambda: _quietly(agent.run_agent, settings)
        )
        node.agent_started_s = self._loop.time()
        self.by_pid[node.agent_pid] = ("agent", node)

    def head(self, head: HeadSlot, listener: socket.socket) -> None:
        """Fork a head's keeper, which listens there. The listener is closed here."""
        settings = self._embedded.head_settings(head, listener)
        with listener:
            head.pid = fork_daemon(
                f"bphead-keeper {head.name}",
                {listener.fileno()},
                lambda: _quietly(bphead.run_head, settings, lambda make_room: self._embedded.store(head, make_room)),
            )
        head.started_s = self._loop.time()
        self.by_pid[head.pid] = ("head", head)

    def _descriptors(self, keep: set[int]) -> list[int]:
        """Return the warden's own descriptors, which no child may keep."""
        own = [int(name) for name in os.listdir("/proc/self/fd")]
        return [fd for fd in own if fd > 2 and fd not in keep and _is_open(fd)]


def _quietly(run: Callable[..., object], *arguments: Any) -> None:
    """Run a daemon; its errors are in its log already."""
    try:
        run(*arguments)
    except HeorotError:
        sys.exit(1)


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
