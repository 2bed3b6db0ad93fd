"""Our ends of the ranks' connections to PMI: reading, answering, closing.

What a rank says is heard when its user has a turn, a little at a time, and no more of it while it does not read what it
is told: so however fast it asks, neither the others of this node wait for it, nor does anything pile up here.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Hashable
from functools import partial

from heorot.bpinit.census import Census
from heorot.bpinit.child_process import ChildProcess
from heorot.bpinit.rank_pipes import Watcher, read
from heorot.core.space import events as e

_READ_BYTES = 4 * 1024
"""The answers to so much take at most about thirty times as much."""
_LAST_READS = 64
"""Of what a rank has said before it ended, so much is still heard."""

Put = Callable[[int, Callable[[], None], Hashable], None]
"""Calls something when a user has a turn, once for a key."""


class PmiEnds:
    """Carries lines between ranks and the machine.

    Parameters
    ----------
    put
        See `Put`.
    emit
        Takes the events.
    """

    def __init__(self, census: Census, watcher: Watcher, put: Put, emit: Callable[[e.SpaceEvent], None]) -> None:
        self._census = census
        self._watcher = watcher
        self._put = put
        self._emit = emit

    def open(self, child: ChildProcess) -> None:
        """Begin to hear a new rank, if it has such a connection."""
        if child.pmi >= 0:
            self._watcher.add(child.pmi, self._readable, child)

    def finish(self, child: ChildProcess) -> None:
        """The rank's own process has ended: hear what it has said last."""
        for _ in range(_LAST_READS):
            if child.pmi < 0 or not self._hear(child):
                break
        self.forget(child)

    def forget(self, child: ChildProcess) -> None:
        """Close the connection, without a word."""
        if child.pmi >= 0:
            self._watcher.remove(child.pmi)
            os.close(child.pmi)
            child.pmi, child.pmi_answer = -1, b""

    # ------------------------------------------------------------------ what ranks say

    def _readable(self, fd: int, child: ChildProcess) -> None:
        self._watcher.remove(fd)
        self._put(child.uid, partial(self._has_turn, child), ("pmi", child.slot))

    def _has_turn(self, child: ChildProcess) -> None:
        if child.pmi >= 0 and self._hear(child) and child.pmi >= 0 and child.pmi not in self._watcher:
            self._watcher.add(child.pmi, self._readable, child)

    def _hear(self, child: ChildProcess) -> bool:
        """Read once; return whether there may be more to read."""
        data = read(child.pmi, _READ_BYTES)
        if data is None:
            return True
        if not data:
            # Nobody has the other end any more; what became of the rank, its process says.
            self.forget(child)
            return False
        self._emit(e.PmiSaid(child.slot, data))
        return True

    # ------------------------------------------------------------------ what they are told

    def answer(self, instruction: e.PmiAnswer) -> None:
        """Carry out `PmiAnswer`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is not None and child.pmi >= 0:
            child.pmi_answer += instruction.data
            self._write(child.pmi, child)

    def _write(self, fd: int, child: ChildProcess) -> None:
        try:
            written = os.write(fd, child.pmi_answer)
        except BlockingIOError:
            written = 0
        except OSError:
            self.forget(child)
            return
        child.pmi_answer = child.pmi_answer[written:]
        self._watcher.remove(fd)
        if child.pmi_answer:
            self._watcher.add(fd, self._write, child, select.EPOLLOUT)
        else:
            self._watcher.add(fd, self._readable, child)

    def close(self, instruction: e.PmiClose) -> None:
        """Carry out `PmiClose`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is not None:
            self.forget(child)
