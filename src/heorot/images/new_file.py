"""One new file: written without a name, and seen when it is whole; a file that is not finished leaves nothing."""

# ruff: noqa: SIM105 - contextlib would cost a short command a millisecond

from __future__ import annotations

import os
import stat
from errno import EINVAL, EISDIR, ENOENT, ENOSYS, ENOTSUP, EPERM, ERANGE, EXDEV

from heorot.core.errors import HeorotError
from heorot.images.identity import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from heorot.images.spot import Spot

COPY_BYTES = 1 << 30
READ_BYTES = 256 * 1024
_SET_ID = 0o6000


class PlacingError(HeorotError):
    """A file cannot be put at its place; the text says which, and why."""


class Item:
    """What one file, directory or symbolic link is to become.

    Parameters
    ----------
    path:
        Relative to the destination; the first part is the name of what was copied, or `CONTENTS`.
    attributes:
        Empty, or mode, uid, gid and modification time in nanoseconds: keep them.
    """

    __slots__ = ("attributes", "kind", "mode", "path", "target")

    def __init__(self, path: bytes, kind: int, mode: int, target: bytes, attributes: Sequence[int]) -> None:
        self.path = path
        self.kind = kind
        self.mode = mode
        self.target = target
        self.attributes = attributes


class NewFile:
    """A file on its way to its place; ended by `finish` or `drop`."""

    def __init__(self, spot: Spot, item: Item, umask: int, follow: bool) -> None:
        self._mode = item.mode & 0o777 & ~umask
        self._attributes = item.attributes
        with spot.parent() as parent:
            present = _status(spot.name, parent)
        if follow and present is not None and stat.S_ISLNK(present.st_mode):
            # As cp does: what the link that is named leads to is replaced, not the link.
            spot = spot.followed()
            with spot.parent() as parent:
                present = _status(spot.name, parent)
        self._spot = spot
        self.path = spot.path
        if present is not None:
            if stat.S_ISDIR(present.st_mode):
                raise OSError(EISDIR, os.strerror(EISDIR))
            if stat.S_ISREG(present.st_mode):
                self._mode = present.st_mode & 0o777
            elif not stat.S_ISLNK(present.st_mode):
                raise PlacingError(f"cannot write {shown(self.path)}: it is no regular file")
        with spot.parent() as parent:
            self.fd, self._hidden = _open_new(parent, spot.name)

    def write(self, data: bytes) -> None:
        """Append to it. Raises PlacingError."""
        try:
            write_all(self.fd, data)
        except OSError as error:
            raise failure(self.path, error) from error

    def finish(self) -> None:
        """It is complete: let it be seen. Raises PlacingError; nothing is left of it then."""
        try:
            if self._attributes:
                keep_attributes(self.fd, self._attributes)
            else:
                os.fchmod(self.fd, self._mode)
            with self._spot.parent() as parent:
                if not self._hidden:
                    try:
                        self._name(self._spot.name, parent)
                        return
                    except FileExistsError:
                        # It has a name of its own for the moment between two system calls.
                        hidden = hidden_name(self._spot.name)
                        self._name(hidden, parent)
                        self._hidden = hidden
                os.rename(self._hidden, self._spot.name, src_dir_fd=parent, dst_dir_fd=parent)
                self._hidden = b""
        except OSError as error:
            raise failure(self.path, error) from error
        finally:
            self.drop()

    def _name(self, name: bytes, parent: int) -> None:
        # With a descriptor, which an absolute path has no use for, Python calls linkat(2), which follows the link.
        source = b"/proc/self/fd/%d" % self.fd
        os.link(source, name, src_dir_fd=self.fd, dst_dir_fd=parent, follow_symlinks=True)

    def drop(self) -> None:
        """Close it; nothing is left of it unless it was finished."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._hidden:
            try:
                with self._spot.parent() as parent:
                    remove_name(self._hidden, parent)
            except OSError:
                pass  # its directory is gone
            self._hidden = b""


def copy_from(source: int, size: int) -> Callable[[int], None]:
    """Return what copies so many bytes from an open file, without reading them where the kernel can do that."""

    def fill(fd: int) -> None:
        offset = 0
        while offset < size:
            try:
                copied = os.copy_file_range(source, fd, min(COPY_BYTES, size - offset), offset)
            except OSError as error:
                if error.errno not in (EXDEV, EINVAL, ENOSYS, ENOTSUP, EPERM):
                    raise
                break
            if not copied:
                break
            offset += copied
        os.lseek(fd, offset, os.SEEK_SET)
        while offset < size:
            data = os.pread(source, min(READ_BYTES, size - offset), offset)
            if not data:
                raise PlacingError("the copy of it in this node's cache is too short")
            offset += len(data)
            write_all(fd, data)

    return fill


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of this. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _status(name: bytes, parent: int) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return None


def _open_new(parent: int, name: bytes) -> tuple[int, bytes]:
    """Return a new file in a directory, and its name; empty: it has none."""
    try:
        return os.open(b".", os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=parent), b""
    except OSError as error:
        if error.errno == EPERM and not os.fstat(parent).st_nlink:
            # A working directory that somebody has removed.
            raise OSError(ENOENT, os.strerror(ENOENT)) from error
        if error.errno not in (ENOTSUP, EISDIR, EINVAL):
            raise
    hidden = hidden_name(name)
    return os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent), hidden


def hidden_name(name: bytes) -> bytes:
    """Return a name for what is not to be seen yet, beside what it will be called."""
    # A name may have 255 bytes.
    return b".%s.%s" % (name[:200], os.urandom(8).hex().encode())


def remove_name(name: bytes, parent: int) -> None:
    """Remove a name from a directory, if that can be done."""
    try:
        os.unlink(name, dir_fd=parent)
    except OSError:
        pass  # somebody else has removed it, or nobody may


def keep_attributes(fd: int, attributes: Sequence[int]) -> None:
    """Give an open file the owner, mode and modification time that it is to keep."""
    mode, uid, gid, modified_ns = attributes
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (uid, gid):
        try:
            os.fchown(fd, uid, gid)
        except (OSError, OverflowError):
            # Only root gives files away; what runs as its owner must not do so for another one.
            mode &= ~_SET_ID
    os.fchmod(fd, mode & 0o7777)
    try:
        os.utime(fd, ns=(status.st_atime_ns, modified_ns))
    except OverflowError:
        raise OSError(ERANGE, os.strerror(ERANGE)) from None


def failure(path: bytes, error: OSError) -> PlacingError:
    """Return what to tell of an error of the system at this place."""
    return PlacingError(f"cannot write {shown(path)}: {os.strerror(error.errno or 0)}")
