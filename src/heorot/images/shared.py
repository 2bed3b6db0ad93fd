"""One store of content for all caches of a host that belong to one cluster and one user.

::

    CONTENT[x]    a file of one or more caches, whole or not: each of them has a hard link to it

Each cache has its own names, and drops them as if it were alone; the number of links is the count of who has a file,
and the kernel keeps it. So nothing has to be locked or repaired: a file that only has its name here is nobody's, and
whoever comes upon it removes it. A cache that another one has just made a link from keeps what it has.

Data is written into one file by all who get it, each chunk checked before: the second one writes the same bytes to the
same place. A program cannot be executed while anybody has it open for writing, so each cache writes its own, and
takes the one that is here when its own is whole. What is taken over is checked first, chunk by chunk, as whatever is on
a disk. Nothing is taken from a directory of another user, or in which others may write.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from hashlib import sha256

from heorot.images.disk import boot_of_host, names_in, remove

NAME_BYTES = 16
_TRIES = 8
"""Another cache may make or remove the same name meanwhile."""


class SharedContent:
    """See the module. `log` takes level and text."""

    def __init__(self, directory: str, log: Callable[[str, str], None]) -> None:
        self._directory = directory
        self._log = log
        self._usable = False
        self._complained = False
        self.name = b""
        """Of the store, if it is used: the same for all who use it, and for nobody else, on this host and elsewhere."""

    def prepare(self) -> bool:
        """Make the directory, if it is not here; return whether it can be used."""
        if not self._directory:
            return False
        self._usable, self.name = False, b""
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self._directory, 0o700)
            status = os.lstat(self._directory)
            self._usable = (
                stat.S_ISDIR(status.st_mode)
                and status.st_uid == os.geteuid()
                and not stat.S_IMODE(status.st_mode) & 0o077
            )
            why = "it is not a directory of this user alone"
            self.name = _name_of(status) if self._usable else b""
        except OSError as error:
            why = error.strerror or str(error)
        if not self._usable and not self._complained:
            self._complained = True
            self._log("warning", f"this cache shares no content with others of this host: {self._directory}: {why}")
        return self._usable

    def join(self, name: str, path: str) -> bool:
        """Let `path` be the shared file of this name, which is made if need be; return whether it was here.

        Raises
        ------
        OSError
            If that cannot be done. `path` may be a file that nobody else has, then.
        """
        if not self._usable:
            return False
        shared = self._path(name)
        for _ in range(_TRIES):
            if self.take(name, path):
                return True
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            try:
                os.link(path, shared, follow_symlinks=False)
                return False
            except FileExistsError:
                os.unlink(path)
            except OSError:
                return False  # it has no room for links, or is on another file system
        return False

    def take(self, name: str, path: str) -> bool:
        """Let `path` be the shared file of this name, if there is one; return whether there is.

        Raises
        ------
        FileExistsError
            If there is something at `path`.
        """
        if not self._usable:
            return False
        shared = self._path(name)
        try:
            status = os.lstat(shared)
            if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                remove(shared)
                return False
            os.link(shared, path, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:
            return False
        return True

    def give(self, name: str, path: str) -> bool:
        """Let the shared file of this name be this one; return whether it is: there may be another one already."""
        if not self._usable:
            return False
        try:
            os.link(path, self._path(name), follow_symlinks=False)
        except FileExistsError:
            return self.is_same(name, path)
        except OSError:
            return False
        return True

    def is_same(self, name: str, path: str) -> bool:
        """Say whether the shared file of this name is this one."""
        if not self._usable:
            return False
        with contextlib.suppress(OSError):
            return os.path.samestat(os.lstat(path), os.lstat(self._path(name)))
        return False

    def forget(self, name: str) -> None:
        """The shared file of this name is damaged: nobody else shall take it."""
        if self._usable:
            remove(self._path(name))

    def release(self, name: str) -> None:
        """A cache has dropped its file of this name."""
        if self._usable:
            remove_unused(self._path(name))

    def sweep(self) -> None:
        """Remove what no cache has: one may be gone with all that it had."""
        if self._usable:
            remove_all_unused(self._directory)

    def _path(self, name: str) -> str:
        assert self._directory
        return f"{self._directory}/{name}"


def _name_of(status: os.stat_result) -> bytes:
    """Return what only this directory is called, as long as the host runs. Raises OSError."""
    return sha256(b"%s %d %d" % (boot_of_host(), status.st_dev, status.st_ino)).digest()[:NAME_BYTES]


def remove_unused(path: str) -> int:
    """Remove a shared file, if nobody has it; return how many bytes that gives."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    if status.st_nlink > 1:
        return 0
    remove(path)
    return status.st_blocks * 512


def remove_all_unused(directory: str) -> int:
    """Remove all shared files that nobody has; return how many bytes that gives."""
    return sum(remove_unused(f"{directory}/{name}") for name in names_in(directory))
