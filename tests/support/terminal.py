"""A person at a terminal: an interactive shell on a pseudo-terminal, with job control, driven by what is on the
screen.
"""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from types import TracebackType

from tests.support.waiting import DEADLINE_S

PROMPT = "ready> "


class Shell:
    """An interactive bash. Use as a context manager; leaving it ends the shell as closing the window does."""

    def __init__(self, environment: dict[str, str], rows: int = 30, columns: int = 200) -> None:
        self.screen = ""
        self._seen = 0
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            try:
                os.execvpe(
                    "bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], {**environment, "PS1": PROMPT}
                )
            finally:
                os._exit(127)
        self.resize(rows, columns)
        self.expect(PROMPT)

    def __enter__(self) -> Shell:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._fd)
        deadline = time.monotonic() + DEADLINE_S
        while os.waitpid(self.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise AssertionError("the shell did not end when its terminal was closed")
            time.sleep(0.01)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._fd, text.encode())

    def flags(self) -> int:
        """Return the terminal's local modes."""
        return int(termios.tcgetattr(self._fd)[3])

    def expect(self, text: str) -> str:
        """Wait until `text` shows up after what was expected before; return what came before it."""
        deadline = time.monotonic() + DEADLINE_S
        while (at := self.screen.find(text, self._seen)) < 0:
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0 or not select.select([self._fd], [], [], remaining_s)[0]:
                raise AssertionError(f"{text!r} did not show up in {self.screen[self._seen :]!r}")
            self.screen += os.read(self._fd, 65536).decode(errors="replace")
        before = self.screen[self._seen : at]
        self._seen = at + len(text)
        return before

    def expect_all(self, *texts: str) -> None:
        """Wait until all of these have shown up after what was expected before, in whatever order."""
        start = self._seen
        ends = []
        for text in texts:
            self._seen = start
            self.expect(text)
            ends.append(self._seen)
        self._seen = max(ends)

    def run(self, command: str) -> str:
        """Type a command, wait for the prompt, and return what was shown between."""
        self.type(command + "\n")
        # The terminal echoes what was typed.
        self.expect(command + "\r\n")
        return self.expect(PROMPT)
