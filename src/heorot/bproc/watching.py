"""What tells a program that nodes have changed."""

from __future__ import annotations

import os
from threading import Thread
from types import TracebackType

from heorot.bproc.errors import translated
from heorot.bproc.opened import used_directory
from heorot.client.blocking import connect
from heorot.core.errors import RequestError


class Notifier:
    """A file descriptor that is readable when nodes have changed. A context manager; `notifier` makes it."""

    def __init__(self, directory: str) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            self._cluster = connect(directory)
            self._updates = self._cluster.watch("nodes", 0.1)
            next(self._updates)
        except BaseException:
            os.close(self._fd)
            raise
        self._thread = Thread(target=self._follow, name="heorot.bproc.notifier", daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for _ in self._updates:
                os.eventfd_write(self._fd, 1)
        except RequestError:
            pass  # it was closed, or the cluster is gone: whoever looks is told that
        os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        """Return the descriptor, for select(2) and poll(2)."""
        return self._fd

    def clear(self) -> bool:
        """Let the descriptor be readable only after the next change; return whether there was one."""
        try:
            return bool(os.eventfd_read(self._fd))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            self._cluster.close()
            self._thread.join()
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Notifier:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def notifier() -> Notifier:
    """Return what tells that the state of a node has changed; then ask for `nodelist`."""
    try:
        return Notifier(used_directory())
    except RequestError as error:
        raise translated(error) from error
