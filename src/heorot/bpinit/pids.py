"""The node's PID range: aiming the kernel's counter at it, and telling cheaply whether anybody has forked."""

from __future__ import annotations

import os

from heorot.core.space.events import SpaceConfig


class PidRange:
    """Watches ``ns_last_pid``, the PID that was given out last in this namespace."""

    def __init__(self, config: SpaceConfig) -> None:
        self._base = config.base_pid if config.isolated else 0
        self._size = config.range_size
        self._expected = 0
        self._foreign = False
        flags = os.O_RDWR if self._base else os.O_RDONLY
        try:
            self._fd = os.open("/proc/sys/kernel/ns_last_pid", flags | os.O_CLOEXEC)
        except OSError:
            # A kernel without CONFIG_CHECKPOINT_RESTORE: nothing is known, so everything is looked at.
            self._fd = -1

    def last(self) -> int:
        """Return the PID that was given out last; it grows with every call if that is not known."""
        if self._fd < 0:
            self._expected += 1000
            return self._expected
        return int(os.pread(self._fd, 32, 0))

    def aim(self, last: int) -> bool:
        """Set the counter back to the start of the range if it has left it or comes near its end."""
        if not self._base or self._fd < 0 or self._base - 1 <= last < self._base + self._size - self._size // 8:
            return False
        os.pwrite(self._fd, b"%d" % (self._base - 1), 0)
        return True

    def before_start(self) -> None:
        """To be called before processes are started."""
        last = self.last()
        if last != self._expected:
            self._foreign = self._foreign or self._expected != 0
        self._expected = self._base - 1 if self.aim(last) else last

    def started(self, pid: int) -> None:
        """A process was started."""
        if pid != self._expected + 1:
            self._foreign = True
        self._expected = pid

    def nobody_forked(self) -> bool:
        """Return True if it is certain that only we have made processes since `all_gone`."""
        return self._fd >= 0 and not self._foreign and self.last() == self._expected

    def all_gone(self) -> None:
        """None of the processes that we started is left, and so whoever forked is gone or an orphan."""
        self._foreign = self._fd < 0
        self._expected = 0
