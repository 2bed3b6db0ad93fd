"""Our ends of the ranks' connections to PMI: reading, answering, closing.

A rank that says one thing, as libraries do, and waits for the answer, has it at once: it costs what the rank's own turn
at the processor costs. Nearly all of that are questions for what other ranks have put, hundreds one after the other.
These are answered *aside*: without an event for the machine, and without a turn of the loop, as nothing has changed.

What says more than that at a time is heard when its user has a turn, a little at a time, and no more of it while it
does not read what it is told: so however fast a rank asks, neither the others of this node wait for it, nor does
anything pile up here.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Hashable
from functools import partial

from heorot.bpinit.census import Census
from heorot.bpinit.child_process import ChildProcess
from heorot.bpinit.rank_pipes import QUIET, Quiet, Watcher, read
from heorot.core.space import events as e

_READ_BYTES = 4 * 1024
"""The answers to so much take at most about thirty times as much."""
_ONE_LINE_BYTES = 1536
"""The longest line of which a library waits for the answer: a key and a value."""
_LAST_READS = 64
"""Of what a rank has said before it ended, so much is still heard."""

Aside = Callable[[int, bytes], bytes]
"""`heorot.core.space.pmi.PmiSide.answer_aside`: by slot, what a rank that says this is told; empty: the machine has to
hear it."""
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
    aside
        See `Aside`.
    """

    def __init__(
        self, census: Census, watcher: Watcher, put: Put, emit: Callable[[e.SpaceEvent], None], aside: Aside
    ) -> None:
        self._census = census
        self._watcher = watcher
        self._put = put
        self._emit = emit
        self._aside = aside

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

    def _readable(self, fd: int, child: ChildProcess) -> Quiet | None:
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            data = b""
        if len(data) <= _ONE_LINE_BYTES and (answer := self._aside(child.slot, data)):
            return self._tell(child, answer)
        if len(data) <= _ONE_LINE_BYTES and data.count(b"\n") <= 1:
            self._heard(child, data)
        else:
            child.pmi_held = data
            self._watcher.remove(fd)
            self._put(child.uid, partial(self._has_turn, child), ("pmi", child.slot))
        return None

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
        if child is not None and child.pmi >= 0:
            self._tell(child, instruction.data)

    def _tell(self, child: ChildProcess, data: bytes) -> Quiet:
        if child.pmi_answer:
            child.pmi_answer += data
            return QUIET
        try:
            written = os.write(child.pmi, data)
        except BlockingIOError:
            written = 0
        except OSError:
            # Nobody reads any more.
            self.forget(child)
            return QUIET
        if written < len(data):
            child.pmi_answer = data[written:]
            self._watcher.remove(child.pmi)
            self._watcher.add(child.pmi, self._writable, child, select.EPOLLOUT)
        return QUIET

    def _writable(self, fd: int, child: ChildProcess) -> None:
        self._watcher.remove(fd)
        waiting, child.pmi_answer = child.pmi_answer, b""
        self._tell(child, waiting)
        if not child.pmi_answer:
            self._listen(child)

    def close(self, instruction: e.PmiClose) -> None:
        """Carry out `PmiClose`."""
        child = self._census.by_slot.get(instruction.slot)
        if child is not None:
            self.forget(child)
