"""A program of the site's that a head runs on its own host: as the head's user, and for a limited time.

It has no input; what it writes goes into a file, which begins anew each time. It is in a process group of its own,
which ends with it, and all of the group ends with the head that has started it: the group's leader, a process of the
head's, sees to that.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from heorot.linux import system
from heorot.linux.process import die_with_parent, fork_daemon, how_ended, watch_child
from heorot.runtime.loop import Loop

MAX_LOG_BYTES = 1024 * 1024
"""What it may write into any file: a loop that writes must not fill the head's disk."""
LAST_LINE_BYTES = 4096
DEFAULT_AGAIN = (signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that a program takes as usual: Python ignores some of them, and what is ignored stays so beyond execve(2)."""
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class SiteProgram:
    """One run. `ended` is told how it has failed, in one line, empty if it has not; once, unless it is closed before.

    Raises OSError if it cannot be started.
    """

    def __init__(
        self,
        loop: Loop,
        words: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        limit_ms: int,
        ended: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._log = log
        self._limit_ms = limit_ms
        self._told = ended
        self._is_late = False
        log.parent.mkdir(mode=0o700, exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._pid = fork_daemon(f"{Path(words[0]).name}", {output}, lambda: _become(words, environment, output))
        finally:
            os.close(output)
        self._process = watch_child(self._pid)
        self._limit = loop.call_at(loop.time() + limit_ms / 1000, self._too_late)
        loop.add_reader(self._process, self._has_ended)

    def _too_late(self) -> None:
        self._is_late = True
        self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        # It may not lead its group yet.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._process, signal.SIGKILL)

    def close(self) -> None:
        """End it; nobody is told."""
        self._kill()
        self._reap()

    def _reap(self) -> int:
        self._limit.cancel()
        self._loop.remove_reader(self._process)
        # What it has left behind goes with it; as long as nobody has waited for it, the number is no other group's.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._process)
        return status

    def _has_ended(self) -> None:
        status = self._reap()
        error = ""
        if self._is_late:
            error = f"it has not ended within {self._limit_ms / 1000:g} s"
        elif status:
            said = last_line(self._log)
            error = f"it {how_ended(status)}{': ' if said else ''}{said}"
        self._told(error)


def last_line(path: Path) -> str:
    """Return the last line of a file that says anything; empty: there is none."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_LINE_BYTES))
            return last_line_of(file.read())
    except OSError:
        return ""


def last_line_of(data: bytes) -> str:
    """Return the last line of this that says anything; empty: there is none."""
    lines = data.decode("utf-8", "backslashreplace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _become(words: Sequence[str], environment: Mapping[str, str], output: int) -> None:
    """Lead a group with the program in it, end it if the head is gone, and end as the program does."""
    head = os.getppid()
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, lambda number, frame: os.killpg(0, signal.SIGKILL))
    # Of the program itself the kernel would say the same, but not of what that has started.
    system.set_parent_death_signal(signal.SIGTERM)
    if os.getppid() != head:
        os._exit(1)
    here = os.getpid()
    program = os.fork()
    if not program:
        try:
            _execute(here, words, environment, output)
        finally:
            os._exit(127)
    status = os.waitpid(program, 0)[1]
    if os.WIFSIGNALED(status):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(here, number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _execute(parent: int, words: Sequence[str], environment: Mapping[str, str], output: int) -> None:
    for number in DEFAULT_AGAIN:
        signal.signal(number, signal.SIG_DFL)
    die_with_parent(parent)
    nothing = os.open("/dev/null", os.O_RDONLY)
    for descriptor, source in ((0, nothing), (1, output), (2, output)):
        os.dup2(source, descriptor)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_LOG_BYTES, MAX_LOG_BYTES))
    os.umask(0o022)
    os.chdir("/")
    try:
        os.execve(words[0], list(words), {"PATH": PATH, **environment})
    except (OSError, ValueError) as error:
        os.write(2, f"cannot execute {words[0]}: {getattr(error, 'strerror', None) or error}\n".encode())
