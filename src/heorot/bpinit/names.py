"""Names in a node's own directories that an image needs: made, and removed again, with the rights of the user.

All of this runs in a child that has these rights (`heorot.bpinit.as_user`). Directories are gone through by
descriptors: whoever exchanges one meanwhile has the names made and removed where their own rights reach, and nowhere
else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

import msgspec

from heorot.bpinit.as_user import MAX_DESCRIPTORS, UserIds
from heorot.core.images.chunks import DIRECTORY, FILE
from heorot.core.images.manifest import Entry


class Name:
    """One name that was made in the node's own directories, as a user."""

    __slots__ = ("anchor", "device", "identity", "inode", "inside", "users")

    def __init__(self, identity: UserIds, anchor: Anchor, inside: list[bytes], device: int, inode: int) -> None:
        self.identity = identity
        self.anchor = anchor
        self.inside = inside
        """The way from there, name by name."""
        self.device = device
        self.inode = inode
        self.users = 0
        """How many jobs use it."""


class Anchor:
    """A directory in which a name was made: it is found again through this, whatever its own name leads to by then."""

    __slots__ = ("device", "fd", "inode", "names", "path")

    def __init__(self, path: bytes, device: int, inode: int, fd: int) -> None:
        self.path = path
        self.device = device
        self.inode = inode
        self.fd = fd
        """-1: there were too many; it is opened by its path, and has to be the same."""
        self.names = 0
        """How many names made in it are left."""


def exists(entry: Entry) -> bool:
    """Say whether what an entry names is there, as far as the caller may see. Raises OSError."""
    try:
        if entry.kind == FILE:
            return stat.S_ISREG(os.stat(entry.path).st_mode)
        if entry.kind == DIRECTORY:
            return stat.S_ISDIR(os.stat(entry.path).st_mode)
        os.lstat(entry.path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        # Root may not search every directory, either: of a file server that trusts no root, users may see more.
        return False
    return True


class Made(msgspec.Struct, array_like=True):
    """What `make` has done."""

    anchors: list[tuple[bytes, int, int]] = []
    """Path, device and inode of the directories in which something was made; of the first the descriptors go along."""
    names: list[tuple[bytes, int, int, int]] = []
    """Path, anchor, device and inode."""
    refused: list[int] = []
    """Those of the entries that the user may not make."""
    error: int = 0
    """Why it went no further, and with which path."""
    culprit: bytes = b""


class _Maker:
    """Makes names where the user may write."""

    def __init__(self) -> None:
        self.made = Made()
        self.descriptors: list[int] = []
        self._anchors: dict[tuple[int, int], int] = {}

    def make(self, entry: Entry) -> None:
        """Make a name and the directories that it needs. Raises OSError."""
        base, at, missing = _open_nearest(entry.path)
        keep = False
        try:
            anchor, keep = self._anchor(base or b"/", at)
            path = base
            for name in missing[:-1]:
                os.mkdir(name, 0o755, dir_fd=at)
                path += b"/" + name
                self._note(path, anchor, os.lstat(name, dir_fd=at))
                inner = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
                if not keep:
                    os.close(at)
                at, keep = inner, False
            name = missing[-1]
            if entry.kind == FILE:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                fd = os.open(name, flags, 0o600, dir_fd=at)
                self._note(entry.path, anchor, os.fstat(fd))
                os.close(fd)
            elif entry.kind == DIRECTORY:
                os.mkdir(name, 0o755, dir_fd=at)
                self._note(entry.path, anchor, os.lstat(name, dir_fd=at))
            else:
                os.symlink(entry.target, name, dir_fd=at)
                self._note(entry.path, anchor, os.lstat(name, dir_fd=at))
        finally:
            if not keep:
                os.close(at)

    def _anchor(self, path: bytes, fd: int) -> tuple[int, bool]:
        """Return the number of a directory, and whether its descriptor is kept."""
        status = os.fstat(fd)
        key = status.st_dev, status.st_ino
        number = self._anchors.get(key)
        if number is not None and self.made.anchors[number][0] == path:
            return number, False
        number = self._anchors[key] = len(self.made.anchors)
        self.made.anchors.append((path, *key))
        if number >= MAX_DESCRIPTORS:
            return number, False
        self.descriptors.append(fd)
        return number, True

    def _note(self, path: bytes, anchor: int, status: os.stat_result) -> None:
        self.made.names.append((path, anchor, status.st_dev, status.st_ino))


def _open_nearest(path: bytes) -> tuple[bytes, int, list[bytes]]:
    """Open the nearest directory above that is there; return its path, a descriptor, and the names that lack.

    Raises OSError.
    """
    missing: list[bytes] = []
    while True:
        path, _, last = path.rpartition(b"/")
        missing.insert(0, last)
        try:
            return path, os.open(path or b"/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), missing
        except (FileNotFoundError, NotADirectoryError):
            if not path:
                raise


def make(entries: list[Entry], umask: int) -> tuple[object, list[int]]:
    """Make the names of these entries that are not there; return a `Made`, and descriptors of its first anchors."""
    os.umask(umask)
    maker = _Maker()
    for number, entry in enumerate(entries):
        try:
            if not exists(entry):
                maker.make(entry)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                maker.made.error, maker.made.culprit = error.errno or errno.EIO, entry.path
                break
            maker.made.refused.append(number)
    return maker.made, maker.descriptors


def find_missing(entries: list[Entry]) -> tuple[list[tuple[int, bytes]], list[int]]:
    """Find where the names of these entries would be to go that are not there.

    Returns
    -------
    For each entry the number of the descriptor of the nearest directory, and the way from there; and the descriptors.
    The user may search these directories, and all above.

    Raises
    ------
    OSError
        If that is not so: who lays out a name there as root would open the directory to the user.
    """
    places: list[tuple[int, bytes]] = []
    descriptors: list[int] = []
    numbers: dict[bytes, int] = {}
    for entry in entries:
        try:
            base, at, missing = _open_nearest(entry.path)
            with contextlib.suppress(FileNotFoundError):
                os.lstat(missing[0], dir_fd=at)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), entry.path) from error
        number = numbers.setdefault(base, len(descriptors))
        if number < len(descriptors):
            os.close(at)
        else:
            descriptors.append(at)
        places.append((number, b"/".join(missing)))
    return places, descriptors


def unmake(names: list[Name]) -> tuple[object, list[int]]:
    """Remove names that were made, unless somebody has put something else there, or something into them."""
    for name in names:
        with contextlib.suppress(OSError):
            _remove(name)
    return None, []


def _remove(name: Name) -> None:
    way = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    anchor = name.anchor
    at = os.dup(anchor.fd) if anchor.fd >= 0 else os.open(anchor.path, way)
    try:
        if not _is(os.fstat(at), anchor):
            return
        for part in name.inside[:-1]:
            inner = os.open(part, way | os.O_NOFOLLOW, dir_fd=at)
            os.close(at)
            at = inner
        last = name.inside[-1]
        status = os.lstat(last, dir_fd=at)
        if not _is(status, name):
            return
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(last, dir_fd=at)
        elif stat.S_ISLNK(status.st_mode) or status.st_size == 0:
            os.unlink(last, dir_fd=at)
    finally:
        os.close(at)


def _is(status: os.stat_result, made: Name | Anchor) -> bool:
    return (status.st_dev, status.st_ino) == (made.device, made.inode)
