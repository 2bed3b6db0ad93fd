"""Our ends of the ranks' pipes: reading, writing, pausing, closing."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from heorot.bpinit.census import Census
from heorot.bpinit.child_process import ChildProcess
from heorot.bpinit.pipe_room import PipeRoom
from heorot.bpinit.terminal import end_of_file, set_size
from heorot.core.space import events as e

_READ_BYTES = 64 * 1024
_LARGE_READ_BYTES = 256 * 1024
"""Of a pipe that was made larger."""
_READS_PER_TURN = 4
"""So often such a pipe is read before others have their turn."""
_DRAIN_BYTES = 1024 * 1024
"""The largest pipe that an unprivileged process can make."""


class Quiet(Enum):
    """What a handler returns that has changed nothing the daemon would have to look at."""

    QUIET = auto()


QUIET = Quiet.QUIET
Handler = Callable[[int, Any], Quiet | None]


class Watcher:
    """An epoll instance, and what is to be called for each descriptor."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, tuple[Handler, Any]] = {}

    def add(self, fd: int, handler: Handler, subject: Any, mask: int = select.EPOLLIN) -> None:
        """Call ``handler(fd, subject)`` whenever the descriptor is ready."""
        self._handlers[fd] = (handler, subject)
        self._epoll.register(fd, mask)

    def change(self, fd: int, mask: int) -> None:
        """Wait for something else."""
        self._epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        """Watch the descriptor no more, if it is watched."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def __contains__(self, fd: int) -> bool:
        return fd in self._handlers

    def wait(self, timeout_s: float) -> None:
        """Wait, and call the handlers of what is ready; while all of them are `QUIET`, wait on."""
        poll, handlers = self._epoll.poll, self._handlers
        end_s = time.monotonic() + timeout_s
        quiet = True
        while quiet:
            ready = poll(timeout_s, 256)
            quiet = bool(ready)
            for fd, _ in ready:
                entry = handlers.get(fd)
                # A descriptor may have been closed by an earlier event of the same turn.
                if entry is None or entry[0](fd, entry[1]) is not QUIET:
                    quiet = False
            if timeout_s >= 0 and quiet:
                # However long that goes on, what is due is not kept from its time.
                timeout_s = end_s - time.monotonic()
                quiet = timeout_s > 0


class Pipes:
    """Carries bytes between the ranks' pipes and the machine."""

    def __init__(self, census: Census, watcher: Watcher, emit: Callable[[e.SpaceEvent], None]) -> None:
        self._census = census
        self._watcher = watcher
        self._emit = emit
        self.some_ended = False
        """The end of some output was seen since this was set to False."""
        self._room = PipeRoom()

    def open(self, child: ChildProcess) -> None:
        """Begin to read what a new rank writes."""
        for index, fd in enumerate(child.ends):
            if fd >= 0:
                self._watcher.add(fd, self._readable, (child, index))

    def finish(self, child: ChildProcess) -> None:
        """The rank's own process has ended: take what it wrote last."""
        self._close_input(child)
        self.take_written(child)

    def take_written(self, child: ChildProcess) -> None:
        """Take what the rank has written so far, of streams that are read."""
        for index in (0, 1):
            if child.ends[index] >= 0:
                self._drain(child, index, False)

    def forget(self, child: ChildProcess) -> None:
        """Close everything, without a word."""
        self._close_input(child)
        for index, fd in enumerate(child.ends):
            if fd >= 0:
                self._forget(fd)
                child.ends[index] = -1

    # ------------------------------------------------------------------ output

    def _readable(self, fd: int, subject: tuple[ChildProcess, int]) -> None:
        child, index = subject
        size = _LARGE_READ_BYTES if fd in self._room else _READ_BYTES
        for _ in range(_READS_PER_TURN):
            data = read(fd, size)
            if data is None:
                return
            if not data:
                self._close_output(child, index)
                return
            self._emit(e.Wrote(child.slot, index + 1, data))
            if size == _READ_BYTES or len(data) < size or fd not in self._watcher:
                return

    def _close_output(self, child: ChildProcess, index: int) -> None:
        fd = child.ends[index]
        if fd >= 0:
            child.ends[index] = -1
            self.some_ended = True
            self._forget(fd)
            self._emit(e.WriteEnded(child.slot, index + 1))

    def _forget(self, fd: int) -> None:
        self._watcher.remove(fd)
        self._room.closed(fd)
        os.close(fd)

    def _drain(self, child: ChildProcess, index: int, even_if_paused: bool) -> None:
        """Read what is there."""
        taken = 0
        while (fd := child.ends[index]) >= 0 and taken < _DRAIN_BYTES and (even_if_paused or fd in self._watcher):
            data = read(fd, _LARGE_READ_BYTES if fd in self._room else _READ_BYTES)
            if data is None:
                return
            if not data:
                self._close_output(child, index)
                return
            taken += len(data)
            self._emit(e.Wrote(child.slot, index + 1, data))

    def close_outputs(self, instruction: e.CloseOutputs) -> None:
        """Carry out `CloseOutputs`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is not None:
            for index in (0, 1):
                self._drain(child, index, True)
                self._close_output(child, index)

    def pause(self, instruction: e.PauseReading) -> None:
        """Carry out `PauseReading`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is not None and child.ends[instruction.stream - 1] >= 0:
            fd = child.ends[instruction.stream - 1]
            self._watcher.remove(fd)
            # It writes more than is taken: while it waits for its reader, it may go on for a while.
            self._room.enlarge(fd, child.uid)

    def resume(self, instruction: e.ResumeReading) -> None:
        """Carry out `ResumeReading`."""
        child = self._census.by_slot.get(instruction.slot)
        index = instruction.stream - 1
        if child is not None and child.ends[index] >= 0 and child.ends[index] not in self._watcher:
            self._watcher.add(child.ends[index], self._readable, (child, index))

    # ------------------------------------------------------------------ input

    def feed(self, instruction: e.Feed) -> None:
        """Carry out `Feed`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is None or child.stdin < 0:
            self._emit(e.InputClosed(instruction.slot))
            return
        child.input = instruction.data
        self._write(child.stdin, child)

    def feed_end(self, instruction: e.FeedEnd) -> None:
        """Carry out `FeedEnd`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is None or child.stdin < 0:
            return
        if not child.terminal:
            self._close_input(child)
            return
        child.end_input = True
        child.input = end_of_file(child.stdin, child.last_input_byte)
        self._write(child.stdin, child)

    def _write(self, fd: int, child: ChildProcess) -> None:
        try:
            written = os.write(fd, child.input)
        except BlockingIOError:
            written = 0
        except OSError:
            self._close_input(child)
            self._emit(e.InputClosed(child.slot))
            return
        if written:
            child.last_input_byte = child.input[written - 1 : written]
        child.input = child.input[written:]
        if child.input:
            if fd not in self._watcher:
                self._watcher.add(fd, self._write, child, select.EPOLLOUT)
            return
        self._watcher.remove(fd)
        if not child.end_input:
            self._emit(e.Fed(child.slot))

    def _close_input(self, child: ChildProcess) -> None:
        if child.stdin >= 0:
            self._watcher.remove(child.stdin)
            os.close(child.stdin)
            child.stdin = -1
            child.input = b""

    def resize(self, instruction: e.ResizeTerminals) -> None:
        """Carry out `ResizeTerminals`."""
        for slot in instruction.slots:
            child = self._census.by_slot.get(slot)
            if child is not None and child.terminal and child.ends[0] >= 0:
                set_size(child.ends[0], instruction.rows, instruction.columns)


def read(fd: int, size: int = _READ_BYTES) -> bytes | None:
    """Read once; None: nothing there now, empty: the end."""
    try:
        return os.read(fd, size)
    except BlockingIOError:
        return None
    except OSError:
        # A pseudo-terminal whose last user is gone gives EIO.
        return b""
