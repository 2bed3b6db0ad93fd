"""The process space's daemon: one epoll loop around `heorot.core.space.machine`."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from functools import partial
from typing import NoReturn

import msgspec

from heorot.bpinit.census import Census, send_signal
from heorot.bpinit.child_process import ChildProcess
from heorot.bpinit.errands import Errands
from heorot.bpinit.guests import Guests
from heorot.bpinit.last_act import end_with_all
from heorot.bpinit.link import AgentLink
from heorot.bpinit.mistakes import handle_or_tell
from heorot.bpinit.pids import PidRange
from heorot.bpinit.rank_pipes import Pipes, Watcher, read
from heorot.bpinit.rank_pmi import PmiEnds
from heorot.bpinit.reaper import Reaper
from heorot.bpinit.spool import FileSpool
from heorot.bpinit.starter import Starter
from heorot.bpinit.starting import Starting
from heorot.bpinit.wanted import Wanted
from heorot.core.errors import ProtocolError
from heorot.core.space import events as e
from heorot.core.space.events import SpaceConfig
from heorot.core.space.machine import Space
from heorot.core.space.shell import SpaceShell
from heorot.core.wire import tree as m
from heorot.core.wire.framing import PROGRESS_MS
from heorot.core.wire.parts import encode_in_parts
from heorot.images.reclaim import Reclaimer
from heorot.linux import system
from heorot.linux.clock import now_ms
from heorot.linux.keyring import leave_session_keyring

__all__ = ["SpaceConfig", "run_space"]

_WRITES_PER_TURN = 16
_LOOK_ARGV_BYTES = 256


def run_space(config: SpaceConfig, listener: socket.socket, parent: int | None = None) -> NoReturn:
    """Be the process space's daemon; never returns.

    Parameters
    ----------
    config:
        With `isolated` set if this process is PID 1 of its namespace.
    listener:
        A listening unix socket for the agent.
    parent:
        A pidfd of the process with which this one shall end (`SpaceConfig.die_with_parent`).
    """
    if config.log_path:
        # A disk that takes no log costs the log, not the node.
        with contextlib.suppress(OSError):
            log = os.open(config.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.dup2(log, 2)
            os.close(log)
    incarnation = config.incarnation or int.from_bytes(os.urandom(6), "big") + 1
    config = msgspec.structs.replace(
        config,
        incarnation=incarnation,
        marker=config.marker or os.urandom(16).hex(),
        init_pid=config.init_pid or os.getpid(),
    )
    SpaceDaemon(config, listener, parent).loop()


class SpaceDaemon(SpaceShell):
    """The shell of one process space."""

    def __init__(self, config: SpaceConfig, listener: socket.socket, parent: int | None) -> None:
        self.config = config
        self._events: deque[e.SpaceEvent] = deque()
        self._busy = False
        self._link: AgentLink | None = None
        self._peers_due_ms: int | None = None
        """When one of those who are connected has been waited for long enough."""
        favoured = frozenset((0, os.getuid()))
        os.chdir("/")
        for name in os.listdir("/proc/self/fd"):
            # Whatever we were given by whoever started us: no rank shall inherit it.
            with contextlib.suppress(OSError):
                if int(name) > 2:
                    os.set_inheritable(int(name), False)
        self._watcher = Watcher()
        self._watch_signals()
        leave_session_keyring(self._say)
        self._census = Census(config.isolated)
        self._pids = PidRange(config)
        # Imported at the start, though seldom needed: later another release may lie where Python looks for it.
        self._reclaimer = Reclaimer(config.cluster_dir, self._say)
        self._space = Space(config, FileSpool(config.spool_dir, self._make_room))
        starter = Starter(config, Errands(self._pids.started, self._census.unreaped))
        self._pipes = Pipes(self._census, self._watcher, self._do)
        self._wanted = Wanted(favoured, self._space, self._census, self._pipes, self._do, self._backlog_bytes)
        self._pmi = PmiEnds(self._census, self._watcher, self._wanted.put, self._do, self._space.pmi.answer_aside)
        self._reaper = Reaper(self._census, self._pids, self._do, self._finish, self._pipes.take_written)
        ends = self._pipes, self._pmi
        self._starting = Starting(favoured, starter, self._census, *ends, self._pids, self._reaper, self._do)
        self._guests = Guests(self._watcher, self._use_agent, self._look, partial(self._say, "warning"))
        listener.setblocking(False)
        self._listener = listener
        self._watcher.add(listener.fileno(), self._accept, None)
        if parent is not None and config.die_with_parent:
            self._watcher.add(parent, self._told_to_end, None)
        if not config.isolated:
            system.become_subreaper()
            if config.die_with_parent:
                system.set_parent_death_signal(signal.SIGTERM)
        with contextlib.suppress(OSError):
            system.set_process_name(b"bpinit n%d" % config.node)
            system.set_title(b"bpinit n%d" % config.node)
        # Nearly nothing here is cyclic, and a collection would touch the pages shared with the parent.
        gc.freeze()
        gc.set_threshold(100_000, 50, 50)

    def _watch_signals(self) -> None:
        """Block all signals for good, and read of those that matter.

        So no handler ever runs, neither here nor in a child that shares our memory, and no signal makes such a child
        leave that memory in a core file.
        """
        for number in signal.valid_signals():
            if number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ):
                with contextlib.suppress(OSError, ValueError):
                    signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        self._sigchld = system.signal_descriptor(signal.SIGCHLD)
        self._watcher.add(self._sigchld, self._child_ended, None)
        if not self.config.isolated:
            # To PID 1 only its parent speaks, and kills it.
            self._watcher.add(system.signal_descriptor(signal.SIGTERM), self._told_to_end, None)

    # ------------------------------------------------------------------ the loop

    def loop(self) -> NoReturn:
        """Run until told to end."""
        while True:
            self._watcher.wait(self._timeout())
            if self._pipes.some_ended:
                # Mostly the process ends as its pipes do: then no further turn is needed to hear of it.
                self._child_ended(self._sigchld, None)
                self._pipes.some_ended = False
            if self._starting.waiting:
                self._starting.turn()
            if self._wanted.waiting:
                self._wanted.turn()
            self._reaper.turn()
            deadline = self._space.deadline_ms
            if deadline is not None and deadline <= now_ms():
                self._do(e.Tick())
            self._flush()
            if self._peers_due_ms is not None and self._peers_due_ms <= now_ms():
                self._give_up_peers()

    def _timeout(self) -> float:
        link = self._link
        due = self._guests.due_ms
        if link is not None and link.due_ms is not None and (due is None or link.due_ms < due):
            due = link.due_ms
        self._peers_due_ms = due
        if self._starting.waiting:
            return 0
        turn_s = self._wanted.wait_s() if self._wanted.waiting else None
        for at in (self._space.deadline_ms, self._reaper.due_ms):
            if at is not None and (due is None or at < due):
                due = at
        if due is None:
            return -1 if turn_s is None else turn_s
        due_s = max(0, due - now_ms()) / 1000
        return due_s if turn_s is None else min(turn_s, due_s)

    def _give_up_peers(self) -> None:
        """Close connections on which too little comes."""
        self._guests.turn(now_ms())
        link = self._link
        if link is not None and link.due_ms is not None and link.due_ms <= now_ms():
            self._disconnect(ProtocolError(f"a frame was begun, and nothing more came for {PROGRESS_MS // 1000} s"))

    def _do(self, event: e.SpaceEvent) -> None:
        """Hand an event to the machine and carry out what it wants; events that this causes come afterwards."""
        self._events.append(event)
        if self._busy:
            return
        self._busy = True
        try:
            while self._events:
                self.carry_out(handle_or_tell(self._space, self._events.popleft(), now_ms()))
        finally:
            self._busy = False

    def _child_ended(self, fd: int, subject: object) -> None:
        if read(fd):
            self._reaper.reap()

    def _finish(self, child: ChildProcess) -> None:
        """A rank's own process has ended: take what it said last."""
        self._pmi.finish(child)
        self._pipes.finish(child)

    def _say(self, level: str, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"bpinit n{self.config.node}: {level}: {text}\n".encode())

    def _make_room(self) -> bool:
        """The spool's disk is full: let images that nobody uses go."""
        return self._reclaimer() if self.config.cluster_dir else False

    # ------------------------------------------------------------------ the end

    def _told_to_end(self, fd: int, subject: object) -> None:
        end_with_all(self.config.isolated)

    # ------------------------------------------------------------------ agent

    def _accept(self, fd: int, subject: object) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        uid = struct.unpack("3i", credentials)[1]
        if uid not in (0, os.getuid()):
            self._say("warning", f"refused a connection of uid {uid}: only root and uid {os.getuid()} may")
            connection.close()
            return
        self._guests.add(AgentLink(connection), now_ms())

    def _use_agent(self, link: AgentLink, frames: list[bytes]) -> None:
        """Somebody who has connected speaks as an agent does: from now on it is the agent."""
        self._drop_agent()
        self._link = link
        self._watcher.add(link.fd, self._agent_ready, link)
        self._do(e.AgentConnected())
        self._obey(frames)

    def _look(self) -> list[bytes]:
        """Return what a guest is told."""
        look = self._census.look(time.monotonic_ns())
        rows = self._census.select(look, "", None, None, 0, True, argv_limit_bytes=_LOOK_ARGV_BYTES)[1]
        self._census.forget_look()
        return [m.encode(view) for view in self._space.look(rows, now_ms())]

    def _drop_agent(self) -> None:
        link = self._link
        if link is not None:
            self._link = None
            self._watcher.remove(link.fd)
            link.close()
            self._wanted.agent_lost()
            self._do(e.AgentLost())

    def _agent_ready(self, fd: int, link: AgentLink) -> None:
        try:
            frames = link.receive()
        except ProtocolError as error:
            self._disconnect(error)
            return
        if frames is None:
            self._drop_agent()
        else:
            self._obey(frames)

    def _obey(self, frames: list[bytes]) -> None:
        try:
            for frame in frames:
                self._wanted.obey(m.decode_space_command(frame))
        except ProtocolError as error:
            self._disconnect(error)

    def _backlog_bytes(self) -> int:
        return self._link.backlog_bytes if self._link is not None else 0

    def _disconnect(self, error: ProtocolError) -> None:
        self._say("error", f"the agent broke the protocol and is disconnected: {error}")
        self._drop_agent()

    def _flush(self) -> None:
        link = self._link
        if link is None or not (link.dirty or link.writable_watched):
            return
        try:
            for _ in range(_WRITES_PER_TURN):
                if not link.dirty and not link.writable_watched:
                    break
                link.dirty = False
                if not link.flush():
                    break
                # The machine may have more to send now.
                self._do(e.Backlog(link.backlog_bytes))
        except OSError:
            self._drop_agent()
            return
        wanted = link.backlog_bytes > 0
        if self._link is link and link.writable_watched != wanted:
            link.writable_watched = wanted
            self._watcher.change(link.fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    # ------------------------------------------------------------------ the instructions

    def to_agent(self, item: e.ToAgent) -> None:
        """Queue it; it is written at the end of the loop's turn."""
        if self._link is None:
            return
        try:
            size_bytes = self._link.queue(encode_in_parts(item.message), item.bulk)
            if isinstance(item.message, m.Reply):
                self._wanted.answered(size_bytes)
        except ProtocolError as error:
            # One answer less is better than a node less.
            self._say("error", f"{type(item.message).__name__} cannot be sent: {error}")

    def start_ranks(self, item: e.StartRanks) -> None:
        """Start them in the next turns of the loop."""
        self._starting.start_ranks(item)

    def cancel_starts(self, item: e.CancelStarts) -> None:
        """Take them from those that wait to be started."""
        self._starting.cancel(item)

    def feed(self, item: e.Feed) -> None:
        """Write it when its user has a turn."""
        self._wanted.feed(item)

    def feed_end(self, item: e.FeedEnd) -> None:
        """Close the pipe."""
        self._pipes.feed_end(item)

    def pmi_answer(self, item: e.PmiAnswer) -> None:
        """Write it."""
        self._pmi.answer(item)

    def pmi_close(self, item: e.PmiClose) -> None:
        """Close it."""
        self._pmi.close(item)

    def pause_reading(self, item: e.PauseReading) -> None:
        """Wait no more for that pipe."""
        self._pipes.pause(item)

    def resume_reading(self, item: e.ResumeReading) -> None:
        """Wait for that pipe again."""
        self._pipes.resume(item)

    def send_signal(self, item: e.SendSignal) -> None:
        """Send it to the group, or to what the process has left."""
        child = self._census.by_slot.get(item.slot)
        if child is not None and child.reaped:
            self._reaper.signal_left(child, item.signal)
        elif child is not None:
            send_signal(-child.pid, item.signal)

    def destroy(self, item: e.Destroy) -> None:
        """Kill the groups, and then round after round what is left."""
        self._reaper.destroy(item)

    def sweep(self, item: e.Sweep) -> None:
        """Look round after round for what is left."""
        self._reaper.sweep(item)

    def close_outputs(self, item: e.CloseOutputs) -> None:
        """Read for the last time, and close the pipes."""
        self._pipes.close_outputs(item)

    def select(self, item: e.Select) -> None:
        """Look for them in the table of processes."""
        self._wanted.select(item)

    def resize_terminals(self, item: e.ResizeTerminals) -> None:
        """Tell the kernel."""
        self._pipes.resize(item)

    def forget_slots(self, item: e.ForgetSlots) -> None:
        """Close what is open for them, and tidy up after their job."""
        self._starting.forget(item)

    def space_log(self, item: e.SpaceLog) -> None:
        """Write a line to the standard error stream, which is the log."""
        self._say(item.level, item.text)


if sys.platform != "linux":
    raise ImportError("heorot's process space needs Linux")
