"""Signals as bytes on a pipe, for an event loop."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal wraps these in enums: 3 ms
import os
from _signal import (
    SIG_DFL,
    SIG_IGN,
    SIGALRM,
    SIGCONT,
    SIGHUP,
    SIGINT,
    SIGKILL,
    SIGPIPE,
    SIGQUIT,
    SIGSTOP,
    SIGTERM,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
    SIGUSR1,
    SIGUSR2,
    SIGWINCH,
)  # fmt: skip

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

FORWARDED = (SIGHUP, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGALRM, SIGCONT)
"""Passed on to the job as they are; SIGINT and SIGTSTP need more thought."""

REPEATABLE = (SIGHUP, SIGQUIT, SIGTERM, SIGKILL, SIGCONT, SIGSTOP, SIGTSTP)
"""Sent again if the head was lost before it said that they arrived: two are as good as one. The others are not: a user
who sees no effect of Ctrl-C presses it again.
"""

DEADLY = (SIGHUP, SIGINT, SIGQUIT, SIGTERM)
"""Those that ask a program to end."""


def _noted(number: int, frame: FrameType | None) -> None:
    """The number is on the pipe already; that is all."""


class SignalPipe:
    """Turns signals of this process into bytes; one that was ignored when we started stays ignored."""

    def __init__(self, numbers: tuple[int, ...]) -> None:
        self.fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        _signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in numbers:
            if _signal.getsignal(number) != SIG_IGN:
                _signal.signal(number, _noted)

    def read(self) -> bytes:
        """Return the numbers of the signals that came, in order."""
        try:
            return os.read(self.fd, 256)
        except BlockingIOError:
            return b""

    def close(self) -> bytes:
        """Close the pipe, whose place another one has taken; return the signals that nobody has read."""
        unread = self.read()
        os.close(self.fd)
        os.close(self._write_fd)
        return unread

    def stop_self(self, group: bool = False) -> bytes:
        """Stop this process, or its whole group, as the terminal's stop key does; return the signals that came, SIGCONT
        among them.

        If nobody could continue us the kernel does not stop us, and if the signal was ignored when we started, we do
        not; that counts as a stop that is over at once.
        """
        if _signal.getsignal(SIGTSTP) != SIG_IGN:
            _signal.signal(SIGTSTP, SIG_DFL)
            os.kill(0 if group else os.getpid(), SIGTSTP)
            _signal.signal(SIGTSTP, _noted)
        came = self.read()
        return came if SIGCONT in came else came + bytes([SIGCONT])


def ignore(number: int) -> None:
    """Ignore a signal from now on."""
    _signal.signal(number, SIG_IGN)


__all__ = [
    "DEADLY", "FORWARDED", "SIGALRM", "SIGCONT", "SIGHUP", "SIGINT", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP",
    "SIGTERM", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SignalPipe", "ignore",
]  # fmt: skip
