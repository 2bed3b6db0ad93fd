"""Putting copied files at their place: whole or not at all, as the user who copies.

Theory of operation. A file is written without a name (O_TMPFILE), and is given one when it is complete: whoever looks
sees the former file or the new one, and a copy that is killed in the middle leaves nothing, because the kernel drops a
file without a name. File systems that cannot do this get a hidden name beside the destination, which is removed after
an error. Of a tree each file is whole; the tree grows file by file.

Both ends use this: a node for what comes from the head, the head for what comes from a node. So nothing is believed:
an entry has to lie in a directory that came before it, and no symbolic link below the destination is followed.
"""

# ruff: noqa: SIM105 - contextlib would cost a short command a millisecond

from __future__ import annotations

import os
import stat
from errno import EINVAL, EISDIR, ENOENT, ENOSYS, ENOTDIR, ENOTSUP, EPERM, EXDEV

from heorot.core.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.errors import HeorotError
from heorot.images.identity import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        Relative to the destination; the first part is the name of what was copied.
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


class Placer:
    """Puts items under one destination.

    Parameters
    ----------
    destination:
        An existing directory, in which the items get their own names; or what does not exist (or is a file), which
        then is the name of the one that is copied.
    several:
        There is more than one: the destination has to be a directory.

    Raises
    ------
    PlacingError
        If it has to be a directory, and is none.
    """

    def __init__(self, destination: bytes, several: bool) -> None:
        self._destination = destination or b"."
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        try:
            self._inside = stat.S_ISDIR(os.stat(self._destination).st_mode)
        except OSError as error:
            if error.errno != ENOENT or several or destination.endswith(b"/"):
                raise _failure(self._destination, error) from error
            self._inside = False
        if not self._inside and (several or destination.endswith(b"/")):
            raise PlacingError(f"cannot write {shown(destination)}: {os.strerror(ENOTDIR)}")
        self._directories: dict[bytes, tuple[bytes, Item, bool]] = {}
        """By path of the item: where it is, the item, and whether we have made it."""
        self._seen: set[bytes] = set()

    def place(self, item: Item, fill: Callable[[int], None] | None = None) -> None:
        """Put one item at its place; `fill` writes the content of a file into a descriptor.

        Raises
        ------
        PlacingError
            If that cannot be done. Nothing of the item is left then.
        """
        if item.kind == FILE:
            assert fill is not None
            new = self.begin(item)
            try:
                fill(new.fd)
                new.finish()
            except OSError as error:
                raise _failure(new.path, error) from error
            finally:
                new.drop()
            return
        path = self._where(item)
        try:
            if item.kind == DIRECTORY:
                self._make_directory(path, item)
            elif item.kind == SYMLINK:
                self._link(path, item)
            else:
                raise PlacingError(f"{shown(path)} would be of the unknown kind {item.kind}")
        except OSError as error:
            raise _failure(path, error) from error

    def begin(self, item: Item) -> NewFile:
        """Return a new file, which is seen only when it is finished. Raises PlacingError."""
        path = self._where(item)
        try:
            return NewFile(path, item, self._umask)
        except OSError as error:
            raise _failure(path, error) from error

    def _where(self, item: Item) -> bytes:
        """Return where an item belongs.

        Raises
        ------
        PlacingError
            If it may not be put anywhere.
        """
        parts = item.path.split(b"/")
        if any(part in (b"", b".", b"..") for part in parts) or b"\0" in item.path:
            raise PlacingError(f"a copy may not be called {shown(item.path)}")
        if item.path in self._seen:
            raise PlacingError(f"{shown(item.path)} comes twice")
        if len(parts) == 1:
            path = os.path.join(self._destination, parts[0]) if self._inside else self._destination
        else:
            above = self._directories.get(b"/".join(parts[:-1]))
            if above is None:
                raise PlacingError(f"{shown(item.path)} is in no directory that was copied")
            path = above[0] + b"/" + parts[-1]
        self._seen.add(item.path)
        return path

    def finish(self) -> list[PlacingError]:
        """All items are there: give the directories what they shall have, the innermost first."""
        failures = []
        for path, item, made in reversed(list(self._directories.values())):
            try:
                if item.attributes:
                    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                    try:
                        _keep(fd, item.attributes)
                    finally:
                        os.close(fd)
                elif made:
                    os.chmod(path, item.mode & 0o777 & ~self._umask)
            except OSError as error:
                failures.append(_failure(path, error))
        return failures

    # ------------------------------------------------------------------ one of each kind

    def _make_directory(self, path: bytes, item: Item) -> None:
        made = True
        try:
            # Ours to write into for now; `finish` says what it shall be.
            os.mkdir(path, 0o700)
        except FileExistsError:
            below = b"/" in item.path
            status = os.lstat(path) if below else os.stat(path)
            if not stat.S_ISDIR(status.st_mode):
                raise
            made = False
        self._directories[item.path] = path, item, made

    def _link(self, path: bytes, item: Item) -> None:
        if not item.target or b"\0" in item.target:
            raise PlacingError(f"the symbolic link {shown(path)} has no target")
        try:
            os.symlink(item.target, path)
        except FileExistsError:
            if stat.S_ISDIR(os.lstat(path).st_mode):
                raise
            hidden = _hidden(path)
            os.symlink(item.target, hidden)
            _rename(hidden, path)


class NewFile:
    """A file on its way to its place; ended by `finish` or `drop`."""

    def __init__(self, path: bytes, item: Item, umask: int) -> None:
        if b"/" not in item.path and os.path.islink(path):
            # As cp does: what the link leads to is replaced, not the link.
            path = os.path.realpath(path)
        self._mode = item.mode & 0o777 & ~umask
        self._attributes = item.attributes
        self.path = path
        try:
            present = os.lstat(path)
        except FileNotFoundError:
            pass
        else:
            if stat.S_ISDIR(present.st_mode):
                raise OSError(EISDIR, os.strerror(EISDIR))
            if stat.S_ISREG(present.st_mode):
                self._mode = present.st_mode & 0o777
            elif not stat.S_ISLNK(present.st_mode):
                raise PlacingError(f"cannot write {shown(path)}: it is no regular file")
        self.fd, self._hidden = _open_new(os.path.dirname(path) or b".", path)

    def write(self, data: bytes) -> None:
        """Append to it. Raises PlacingError."""
        try:
            write_all(self.fd, data)
        except OSError as error:
            raise _failure(self.path, error) from error

    def finish(self) -> None:
        """It is complete: let it be seen. Raises PlacingError; nothing is left of it then."""
        try:
            if self._attributes:
                _keep(self.fd, self._attributes)
            else:
                os.fchmod(self.fd, self._mode)
            if not self._hidden:
                try:
                    self._name(self.path)
                    return
                except FileExistsError:
                    # It has a name of its own for the moment between two system calls.
                    hidden = _hidden(self.path)
                    self._name(hidden)
                    self._hidden = hidden
            os.rename(self._hidden, self.path)
            self._hidden = b""
        except OSError as error:
            raise _failure(self.path, error) from error
        finally:
            self.drop()

    def _name(self, path: bytes) -> None:
        # With a descriptor, which an absolute path has no use for, Python calls linkat(2), which follows the link.
        os.link(b"/proc/self/fd/%d" % self.fd, path, src_dir_fd=self.fd, follow_symlinks=True)

    def drop(self) -> None:
        """Close it; nothing is left of it unless it was finished."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
        if self._hidden:
            _remove(self._hidden)
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


def _open_new(folder: bytes, path: bytes) -> tuple[int, bytes]:
    """Return a new file and its name; empty: it has none."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC, 0o600), b""
    except OSError as error:
        if error.errno not in (ENOTSUP, EISDIR, EINVAL):
            raise
    hidden = _hidden(path)
    return os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), hidden


def _hidden(path: bytes) -> bytes:
    folder, name = os.path.split(path)
    # A name may have 255 bytes.
    return os.path.join(folder, b".%s.%s" % (name[:200], os.urandom(8).hex().encode()))


def _rename(hidden: bytes, path: bytes) -> None:
    try:
        os.rename(hidden, path)
    except OSError:
        _remove(hidden)
        raise


def _remove(path: bytes) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # somebody else has removed it, or nobody may


def _keep(fd: int, attributes: Sequence[int]) -> None:
    """Give an open file the owner, mode and modification time that it is to keep."""
    mode, uid, gid, modified_ns = attributes
    status = os.fstat(fd)
    if (status.st_uid, status.st_gid) != (uid, gid):
        try:
            os.fchown(fd, uid, gid)
        except OSError:
            # Only root gives files away; what runs as its owner must not do so for another one.
            mode &= ~_SET_ID
    os.fchmod(fd, mode & 0o7777)
    os.utime(fd, ns=(status.st_atime_ns, modified_ns))


def _failure(path: bytes, error: OSError) -> PlacingError:
    return PlacingError(f"cannot write {shown(path)}: {os.strerror(error.errno or 0)}")
