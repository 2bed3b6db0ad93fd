"""Our ends of the ranks' connections to PMI: reading, answering, closing.

A rank that says one thing, as libraries do, and waits for the answer, has it at once: it costs what the rank's own turn
at the processor costs. What says more than that at a time is heard when its user has a turn, a little at a time, and
no more of it while it does not read what it is told: so however fast a rank asks, neither the others of this node wait
for it, nor does anything pile up here.
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
_ONE_LINE_BYTES = 1536
"""The longest line of which a library waits for the answer: a key and a value."""
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
        self._hear_held(child)
        for _ in range(_LAST_READS):
            data = read(child.pmi, _READ_BYTES) if child.pmi >= 0 else None
            if not data:
                break
            self._heard(child, data)
        self.forget(child)

    def forget(self, child: ChildProcess) -> None:
        """Close the connection, without a word."""
        if child.pmi >= 0:
            self._watcher.remove(child.pmi)
            os.close(child.pmi)
            child.pmi, child.pmi_held, child.pmi_answer = -1, b"", b""

    # ------------------------------------------------------------------ what ranks say

    def _readable(self, fd: int, child: ChildProcess) -> None:
        data = read(fd, _READ_BYTES)
        if data is None:
            return
        if len(data) <= _ONE_LINE_BYTES and data.count(b"\n") <= 1:
            self._heard(child, data)
        else:
            child.pmi_held = data
            self._watcher.remove(fd)
            self._put(child.uid, partial(self._has_turn, child), ("pmi", child.slot))

    def _has_turn(self, child: ChildProcess) -> None:
        self._hear_held(child)
        self._listen(child)

    def _hear_held(self, child: ChildProcess) -> None:
        if held := child.pmi_held:
            child.pmi_held = b""
            self._heard(child, held)

    def _listen(self, child: ChildProcess) -> None:
        """Read on, unless something of this rank waits: its user's turn, or that it reads what it is told."""
        if child.pmi >= 0 and not child.pmi_held and child.pmi not in self._watcher:
            self._watcher.add(child.pmi, self._readable, child)

    def _heard(self, child: ChildProcess, data: bytes) -> None:
        if data:
            self._emit(e.PmiSaid(child.slot, data))
        else:
            # Nobody has the other end any more; what became of the rank, its process says.
            self.forget(child)

    # ------------------------------------------------------------------ what they are told

    def answer(self, instruction: e.PmiAnswer) -> None:
        """Carry out `PmiAnswer`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is None or child.pmi < 0:
            return
        waits = bool(child.pmi_answer)
        child.pmi_answer += instruction.data
        if not waits and self._has_written(child) and child.pmi_answer:
            self._watcher.remove(child.pmi)
            self._watcher.add(child.pmi, self._writable, child, select.EPOLLOUT)

    def _writable(self, fd: int, child: ChildProcess) -> None:
        if self._has_written(child) and not child.pmi_answer:
            self._watcher.remove(fd)
            self._listen(child)

    def _has_written(self, child: ChildProcess) -> bool:
        """Write as much as fits; return False if nobody reads any more."""
        try:
            written = os.write(child.pmi, child.pmi_answer)
        except BlockingIOError:
            return True
        except OSError:
            self.forget(child)
            return False
        child.pmi_answer = child.pmi_answer[written:]
        return True

    def close(self, instruction: e.PmiClose) -> None:
        """Carry out `PmiClose`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is not None:
            self.forget(child)
