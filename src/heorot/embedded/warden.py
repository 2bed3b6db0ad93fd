"""The warden of an embedded cluster: forks all of its daemons, starts agents and heads again, and ends everything.

All daemons are forked from this one process after everything was imported, so that a thousand of them share its
memory, and the kernel kills them when it is gone. The rules of supervision are those of a real cluster: an agent that
ends is started again while its bpinit lives; a bpinit that ends takes its node down until somebody starts the node
again; a head's keeper that ends is started again (the keeper does the same for its head).
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heorot.config.mark import WARDEN_NAME
from heorot.core.errors import HeorotError
from heorot.embedded.control_server import ControlServer
from heorot.embedded.forks import DaemonForks
from heorot.embedded.plan import HOST, ClusterPlan, Embedded, HeadSlot, NodeSlot
from heorot.images.usage import Usage
from heorot.linux.keyring import leave_session_keyring
from heorot.linux.process import how_ended, raise_descriptor_limit, set_name
from heorot.linux.trusted_path import check_directory
from heorot.runtime.log import LogFile
from heorot.runtime.loop import EpollLoop
from heorot.runtime.sockets import listen_unix

STANDBY_WAIT_S = 5.0
"""How long the standby heads wait for the first one to become active."""
QUICK_END_S = 10.0
MAX_QUICK_ENDS = 5
"""What has ended so many times in a row just after its start cannot be started: ``heorot up`` gives the cluster up."""
LONGEST_PAUSE_S = 2.0
"""Well below the grace of a node: an agent that ends again and again must not cost its node the jobs."""
GRACE_S = 3.0
"""How long process spaces may take to end in good order before they are killed."""


class Warden:
    """Supervises one embedded cluster."""

    def __init__(self, plan: ClusterPlan, report: Callable[[dict[str, Any]], None]) -> None:
        self.embedded = Embedded(plan)
        self.loop = EpollLoop()
        self._usage = Usage(self.embedded.layout.root, plan.image_cache_bytes, self.loop.time)
        self._report = report
        self._log = LogFile(Path(self.embedded.layout.log("warden")), "warden", plan.log_level)
        self._forks = DaemonForks(self.embedded, self.loop)
        self._control: ControlServer | None = None
        # The kernel ends a PID namespace with its bpinit; without one, bpinit needs time to kill what it started.
        self._end_signal = signal.SIGKILL if self.embedded.isolated else signal.SIGTERM
        self._boot_next = 0
        self._standbys_started = plan.heads == 1
        self._ready = False
        """Every daemon was started once."""
        self._ending = False

    # ------------------------------------------------------------------ start

    def start(self) -> None:
        """Make the cluster's files, open the control socket and start to start daemons. Raises HeorotError."""
        leave_session_keyring(self._log)
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, frame: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.loop.add_reader(wake_read, self._signalled, wake_read)
        layout = self.embedded.layout
        check_directory(layout.root)
        self.embedded.create()
        control = listen_unix(Path(layout.path("warden.sock")), 0o666)
        self._control = ControlServer(self.loop, control, "the warden", self._command, self._log)
        self.embedded.warm_up()
        gc.collect()
        gc.freeze()
        # All heads' addresses are known before the first node starts.
        listeners = [(head, self.embedded.bind_head(head)) for head in self.embedded.heads]
        self._forks.head(*listeners[0])
        self._start_standbys(listeners[1:], self.loop.time() + STANDBY_WAIT_S)
        self.loop.call_soon(self._boot)

    def _start_standbys(self, standbys: list[tuple[HeadSlot, socket.socket]], deadline_s: float) -> None:
        # The first head shall be the first one: the others start once it leads.
        if self._ending or not standbys:
            return
        if self.embedded.head_state(self.embedded.heads[0]).get("role") != "active" and self.loop.time() < deadline_s:
            self.loop.call_at(self.loop.time() + 0.01, self._start_standbys, standbys, deadline_s)
            return
        for head, listener in standbys:
            self._forks.head(head, listener)
        self._standbys_started = True

    def _boot(self) -> None:
        if self._ending:
            return
        nodes = self.embedded.nodes
        try:
            for node in nodes[self._boot_next : self._boot_next + 4]:
                self.start_node(node)
                self._boot_next += 1
        except (HeorotError, OSError) as error:
            self._fail(f"cannot start n{self._boot_next}: {error}")
            return
        self._report({"started": self._boot_next})
        if self._boot_next < len(nodes):
            self.loop.call_at(0.0, self._boot)
        elif not self._standbys_started:
            self.loop.call_at(self.loop.time() + 0.01, self._boot)
        else:
            self._ready = True
            self._report({"ready": True})

    def _fail(self, text: str) -> None:
        self._log("error", text)
        self._report({"error": text})
        self.end()

    def start_node(self, node: NodeSlot) -> None:
        """Start a node's bpinit and agent. Raises HeorotError or OSError."""
        node.wanted = True
        listener = None if node.port else self.embedded.bind_agent(node)
        try:
            self.embedded.issue(node)
            if not node.init_pid:
                self._forks.space(node)
            if not node.agent_pid:
                listener = listener or self.embedded.bind_agent(node)
                self._forks.agent(node, listener)
        finally:
            if listener is not None:
                listener.close()

    # ------------------------------------------------------------------ supervision

    def _signalled(self, wake: int) -> None:
        try:
            numbers = os.read(wake, 4096)
        except BlockingIOError:
            numbers = b""
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self._log("info", "told to end")
            self.end()
        self._reap()

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            kind, slot = self._forks.by_pid.pop(pid, ("", None))
            if slot is None:
                continue
            if isinstance(slot, HeadSlot):
                self._head_ended(slot, status)
            elif kind == "agent":
                self._agent_ended(slot, status)
            else:
                self._space_ended(slot, status)

    def _space_ended(self, node: NodeSlot, status: int) -> None:
        node.init_pid = 0
        if self._ending:
            return
        reason = node.init_page.problem
        why = f" ({reason})" if reason else ""
        self._log(
            "warning" if node.wanted else "info", f"bpinit of n{node.number} {how_ended(status)}{why}: the node is down"
        )
        if node.wanted:
            self._cannot_start(f"n{node.number}", f"its bpinit {how_ended(status)}", reason)

    def _cannot_start(self, who: str, how: str, reason: str) -> None:
        """Tell ``heorot up``, if that still waits: it need not wait longer, and the reason is here."""
        self._report({"failed": f"{who} cannot start: {reason or how}"})

    def _agent_ended(self, node: NodeSlot, status: int) -> None:
        node.agent_pid = 0
        if self._ending:
            return
        if node.init_pid and node.wanted:
            how = how_ended(status)
            lived_s = self.loop.time() - node.agent_started_s
            node.quick_ends = node.quick_ends + 1 if lived_s < QUICK_END_S else 0
            if node.quick_ends >= MAX_QUICK_ENDS:
                self._cannot_start(f"n{node.number}", f"its agent {how} again and again", node.page.problem)
            pause_s = _pause(node.quick_ends)
            self._log("warning", f"the agent of n{node.number} {how}; starting it again in {pause_s:g} s")
            self.loop.call_at(self.loop.time() + pause_s, self._restart_agent, node)

    def _restart_agent(self, node: NodeSlot) -> None:
        if self._ending or not node.wanted or not node.init_pid or node.agent_pid:
            return
        try:
            with self.embedded.bind_agent(node) as listener:
                self._forks.agent(node, listener)
        except (HeorotError, OSError) as error:
            self._log("error", f"cannot start the agent of n{node.number}: {error}")
            self.loop.call_at(self.loop.time() + LONGEST_PAUSE_S, self._restart_agent, node)

    def _head_ended(self, head: HeadSlot, status: int) -> None:
        head.pid = 0
        if self._ending:
            return
        if not head.wanted:
            self._log("info", f"the head {head.name} {how_ended(status)}, as it was told to")
            return
        lived_s = self.loop.time() - head.started_s
        head.quick_ends = head.quick_ends + 1 if lived_s < QUICK_END_S else 0
        if head.quick_ends >= MAX_QUICK_ENDS:
            problem = str(head.page.read().get("problem", ""))
            self._cannot_start(f"the head {head.name}", f"its keeper {how_ended(status)} again and again", problem)
        pause_s = _pause(head.quick_ends)
        self._log("warning", f"the keeper of {head.name} {how_ended(status)}; starting it again in {pause_s:g} s")
        self.loop.call_at(self.loop.time() + pause_s, self._restart_head, head)

    def _restart_head(self, head: HeadSlot) -> None:
        if self._ending or head.pid or not head.wanted:
            return
        try:
            self._forks.head(head, self.embedded.bind_head(head))
        except (HeorotError, OSError) as error:
            self._log("error", f"cannot start the keeper of {head.name}: {error}")
            self.loop.call_at(self.loop.time() + LONGEST_PAUSE_S, self._restart_head, head)

    # ------------------------------------------------------------------ control

    def _command(self, request: dict[str, Any], master: bool) -> dict[str, Any]:
        if request["do"] != "status" and not master:
            raise HeorotError("only root and the cluster's owner may do that")
        numbers = [int(number) for number in request.get("nodes", ())]
        return self._obey(request["do"], numbers, [str(name) for name in request.get("heads", ())])

    def _obey(self, what: str, numbers: list[int], names: list[str]) -> dict[str, Any]:
        unknown = [number for number in numbers if not 0 <= number < len(self.embedded.nodes)]
        if unknown:
            raise HeorotError(f"there is no node n{unknown[0]}; this cluster has n0 to n{len(self.embedded.nodes) - 1}")
        heads = {head.name: head for head in self.embedded.heads}
        strangers = [name for name in names if name not in heads]
        if strangers:
            raise HeorotError(f"there is no head {strangers[0]!r}; this cluster has {', '.join(heads)}")
        if what == "start":
            for number in numbers:
                self.start_node(self.embedded.nodes[number])
        elif what == "stop":
            for number in numbers:
                self._stop_node(self.embedded.nodes[number])
        elif what == "start-heads":
            for name in names:
                heads[name].wanted = True
                self._restart_head(heads[name])
        elif what == "stop-heads":
            for name in names:
                self._stop_head(heads[name])
        elif what == "down":
            self.end()
        elif what != "status":
            raise HeorotError(f"unknown command {what!r}")
        return self.status()

    def _stop_node(self, node: NodeSlot) -> None:
        node.wanted = False
        if node.init_pid:
            pid = node.init_pid
            _kill(pid, self._end_signal)
            self.loop.call_at(self.loop.time() + GRACE_S, self._kill_init, node, pid)

    def _stop_head(self, head: HeadSlot) -> None:
        head.wanted = False
        if head.pid:
            pid = head.pid
            _kill(pid, signal.SIGTERM)
            self.loop.call_at(self.loop.time() + GRACE_S, self._kill_head, head, pid)

    def _kill_head(self, head: HeadSlot, pid: int) -> None:
        if head.pid == pid:
            _kill(pid, signal.SIGKILL)

    def _kill_init(self, node: NodeSlot, pid: int) -> None:
        if node.init_pid == pid:
            _kill(pid, signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        """Return what runs."""
        return {
            "cluster": self.embedded.cluster,
            "pid": os.getpid(),
            "ready": self._ready and not self._ending,
            "caches": self._usage.read(),
            "heads": [self._head_status(head) for head in self.embedded.heads],
            "nodes": [
                {
                    "id": node.number,
                    "agent_pid": node.agent_pid,
                    "init_pid": node.init_pid,
                    "wanted": node.wanted,
                    "master": self.embedded.is_master(node),
                    "problem": node.problem,
                }
                for node in self.embedded.nodes
            ],
        }

    def _head_status(self, head: HeadSlot) -> dict[str, Any]:
        known = self.embedded.head_state(head)
        return {
            "name": head.name,
            "role": known.get("role", "standby"),
            "pid": known.get("head_pid") or head.pid,
            "keeper_pid": head.pid,
            "address": f"{HOST}:{head.port}",
            "quick_ends": max(head.quick_ends, known.get("quick_ends", 0)),
            "wanted": head.wanted,
            "leader": known.get("leader", ""),
            "problem": known.get("problem", ""),
        }

    # ------------------------------------------------------------------ end

    def end(self) -> None:
        """End all daemons, the process spaces in good order, and then this process."""
        if self._ending:
            return
        self._ending = True
        if self._control is not None:
            self._control.leaving = True
        for pid, (kind, _) in list(self._forks.by_pid.items()):
            # Agents keep nothing that matters; keepers give their leases up.
            _kill(pid, {"init": self._end_signal, "head": signal.SIGTERM}.get(kind, signal.SIGKILL))
        self._end_when_empty(self.loop.time() + GRACE_S)

    def _end_when_empty(self, deadline_s: float) -> None:
        self._reap()
        if not self._forks.by_pid:
            # A socket that nobody serves says that a warden was killed, which is not so.
            with contextlib.suppress(OSError):
                os.unlink(self.embedded.layout.path("warden.sock"))
            self.loop.stop()
            return
        if self.loop.time() > deadline_s:
            for pid in list(self._forks.by_pid):
                _kill(pid, signal.SIGKILL)
        self.loop.call_at(self.loop.time() + 0.02, self._end_when_empty, deadline_s)


def _pause(quick_ends: int) -> float:
    return 0.0 if quick_ends <= 1 else min(0.1 * 2 ** (quick_ends - 2), LONGEST_PAUSE_S)


def _kill(pid: int, number: signal.Signals) -> None:
    # Our own child that was not reaped yet: the pid cannot be anybody else's.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def main() -> int:
    """Run a warden: the plan comes as JSON on stdin, progress goes to stdout as lines of JSON."""
    plan = ClusterPlan(**json.loads(sys.stdin.readline()))
    null = os.open(os.devnull, os.O_RDWR)
    # No daemon shall have this pipe: `heorot up` waits for its end.
    progress = [fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)]
    for fd in (0, 1):
        os.dup2(null, fd)
    os.close(null)

    def report(message: dict[str, Any]) -> None:
        """Tell ``heorot up``, which listens until all nodes are up; the first failure is the last word."""
        if progress:
            with contextlib.suppress(OSError):
                os.write(progress[0], json.dumps(message).encode() + b"\n")
                if not message.keys() & {"error", "failed"}:
                    return
            os.close(progress.pop())

    set_name(WARDEN_NAME)
    raise_descriptor_limit()
    warden = Warden(plan, report)
    try:
        warden.start()
    except (HeorotError, OSError) as error:
        warden._fail(str(error))
    warden.loop.run_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
