"""The hosts file of a node with the names of all nodes: written by its agent, shown to its ranks by bpinit.

What is shown is the file itself, whatever its name becomes: mounts of jobs that run would not follow a rename. So it is
changed in place, and whoever reads it meanwhile must not be led astray: what the host's own file says comes first and
fills whole pages, and each node has a line of one size at a place of its own behind it. A reader gets each line as it
was or as it is; only what the host itself changes may shift all of them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from heorot.config.hosts import BEGIN, END, HOSTS_PATH, defined_names, line_of, own_text
from heorot.core.wire.names import NamedHost
from heorot.runtime.file_watch import FileWatch
from heorot.runtime.loop import Loop

PAGE_BYTES = 4096
"""What the C library reads at once, and a whole number of lines."""
LINE_BYTES = 128


class HostsFile:
    """Keeps the file `path`, if bpinit has made one; `log` is told what goes wrong, once.

    Parameters
    ----------
    loop
        For looking when the host's own file changes; None: nobody looks.
    own_path
        The host's own.
    """

    def __init__(
        self, path: Path, log: Callable[[str, str], None], loop: Loop | None = None, own_path: str = HOSTS_PATH
    ) -> None:
        self._path = path
        self._log = log
        self._own_path = own_path
        self._hosts: Sequence[NamedHost] = ()
        self._said = ""
        self._watch: FileWatch | None = None
        if loop is not None:
            # Without, it is read again with each list of names.
            with suppress(OSError):
                self._watch = FileWatch(loop, Path(own_path), self.write)

    def show(self, hosts: Sequence[NamedHost]) -> None:
        """Let it say that these are the nodes."""
        self._hosts = hosts
        self.write()

    def write(self) -> None:
        """Write what has changed. Nothing, before anybody has said which nodes there are."""
        if not self._hosts:
            return
        content = content_of(own_text(self._own_path), self._hosts)
        try:
            _rewrite(self._path, content)
        except FileNotFoundError:
            return  # this node shows none
        except OSError as error:
            text = f"the names of nodes cannot be written into {self._path}: {error.strerror or error}"
            if text != self._said:
                self._said = text
                self._log("warning", text)
            return
        self._said = ""

    def close(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.close()


def content_of(own: str, hosts: Sequence[NamedHost]) -> bytes:
    """Return the whole file; see the module for what is where."""
    taken = defined_names(own)
    text = own.encode("utf-8", "surrogateescape")
    mark = BEGIN.encode() + b"\n"
    used = (len(text) + len(mark)) % PAGE_BYTES
    lines = {host.node: _line(host, taken) for host in hosts}
    # The head is number -1.
    last = max(lines, default=-1)
    slots = (lines.get(node, b"").ljust(LINE_BYTES - 1) + b"\n" for node in range(-1, last + 1))
    return b"".join([text, b"\n" * (-used % PAGE_BYTES), mark, *slots, END.encode(), b"\n"])


def _line(host: NamedHost, taken: set[str]) -> bytes:
    """Return the line of a node, with as many of its names as have room."""
    for names in (host.names, [host.names[0], host.names[-1]], host.names[-1:]):
        line = line_of(host.address, dict.fromkeys(names), taken).encode()
        if len(line) < LINE_BYTES:
            return line
    return b""


def _rewrite(path: Path, content: bytes) -> None:
    """Change the pages of a file that are other than they should be. Raises OSError."""
    fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_nlink != 1:
            raise OSError(0, "it is no file of this daemon's own")
        for start in range(0, max(len(content), 1), PAGE_BYTES):
            page = content[start : start + PAGE_BYTES]
            if os.pread(fd, PAGE_BYTES, start) != page:
                os.pwrite(fd, page, start)
        if status.st_size > len(content):
            os.ftruncate(fd, len(content))
    finally:
        os.close(fd)
