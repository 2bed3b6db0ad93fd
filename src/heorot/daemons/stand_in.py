"""Keeps the process that serves a host's clients while its head is on standby: it passes them on to the active head."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from heorot.linux.process import how_ended, watch_child

PAUSE_S = 0.5
"""Between two starts of the process, if it ends by itself."""
END_GRACE_S = 1.0
"""How long it may take to end in good order."""

StartPassing = Callable[[str], int]
"""Starts the process, for an active head of this name (empty: not known); returns its pid."""


class StandIn:
    """The process that passes clients on while the head is on standby: started when missing, ended when in the way."""

    def __init__(self, start: StartPassing | None, log: Callable[[str, str], None]) -> None:
        self._start = start
        self._log = log
        self._process = -1
        self._pid = 0
        self._leader = ""
        self._not_before_s = 0.0

    def keep(self, leader: str) -> None:
        """Have it pass clients on to this head. Nobody leads, or nobody knows: leave it as it is."""
        if self._start is None:
            return
        if self._process >= 0 and self._has_ended(0.0):
            self._log("warning", f"what passes clients on {how_ended(self._reap())}; starting it again")
        if self._process >= 0 and leader and leader != self._leader:
            if self._leader:
                # Clients that were passed on to another head must come again.
                self.end(signal.SIGKILL)
                self._not_before_s = 0.0
            # Started when nobody knew who leads, it has asked whoever accepted clients: that was this one.
            self._leader = leader
        if self._process < 0 and time.monotonic() >= self._not_before_s:
            self._not_before_s = time.monotonic() + PAUSE_S
            self._leader = leader
            try:
                pid = self._start(leader)
                self._process = watch_child(pid)
            except OSError as error:
                self._log("error", f"cannot pass clients on: {error.strerror or error}")
                return
            self._pid = pid

    def descriptors(self) -> list[int]:
        """Return what becomes readable when it has ended."""
        return [self._process] if self._process >= 0 else []

    def end(self, number: signal.Signals) -> None:
        """End it, by force if it takes too long; it is reaped when this returns."""
        if self._process >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, number)
                if number != signal.SIGKILL and not self._has_ended(END_GRACE_S):
                    signal.pidfd_send_signal(self._process, signal.SIGKILL)
            self._reap()

    def _has_ended(self, timeout_s: float) -> bool:
        poll = select.poll()
        poll.register(self._process, select.POLLIN)
        return bool(poll.poll(timeout_s * 1000))

    def _reap(self) -> int:
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._process)
        self._process, self._pid = -1, 0
        return status
