"""Putting copied files at their place: whole or not at all, as the user who copies.

Theory of operation. A file is written without a name (O_TMPFILE), and is given one when it is complete: whoever looks
sees the former file or the new one, and a copy that is killed in the middle leaves nothing, because the kernel drops a
file without a name. File systems that cannot do this get a hidden name beside the destination, which is removed after
an error. Of a tree each file is whole; the tree grows file by file.

Both ends use this: a node for what comes from the head, the head for what comes from a node. So nothing is believed:
an entry has to lie in a directory that came before it, and no symbolic link below the destination is followed. That
holds against whoever exchanges names meanwhile, too: from the destination on, each directory is opened in the one above
it. The path of the destination itself is the caller's word, and is resolved by the kernel, more than once: who may
rename its directories says where it leads.
"""

# ruff: noqa: SIM105 - contextlib would cost a short command a millisecond

from __future__ import annotations

import os
import stat
from errno import EEXIST, EINVAL, EISDIR, ENAMETOOLONG, ENOENT, ENOSYS, ENOTDIR, ENOTSUP, EPERM, ERANGE, ESTALE, EXDEV

from heorot.core.errors import HeorotError
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.images.identity import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COPY_BYTES = 1 << 30
READ_BYTES = 256 * 1024
CONTENTS = b"."
"""As the first part of an item's path: it is in the destination itself, which is made if it is not there."""
_SET_ID = 0o6000
_PATH_BYTES = 4095
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC


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


class _Spot:
    """Where an item belongs: below which directory, and by which names from there, of which none may be a link."""

    __slots__ = ("_root", "names")

    def __init__(self, root: bytes, names: tuple[bytes, ...]) -> None:
        self._root = root
        self.names = names

    @property
    def path(self) -> bytes:
        """What people call it."""
        return os.path.join(self._root, *(name for name in self.names if name != CONTENTS))

    @property
    def name(self) -> bytes:
        """What it is called in its directory."""
        return self.names[-1]

    def below(self, name: bytes) -> _Spot:
        """Return the place of something in this directory."""
        return _Spot(self._root, (*self.names, name))

    def parent(self) -> _Parent:
        """Return what opens the directory that it is in, in a `with` statement, and yields the descriptor."""
        return _Parent(self)

    def open_parent(self) -> int:
        """Return a descriptor of the directory that it is in. Raises OSError."""
        fd = os.open(self._root or b".", os.O_PATH | _FOLDER)
        for name in self.names[:-1]:
            try:
                inner = os.open(name, os.O_PATH | os.O_NOFOLLOW | _FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def open_directory(self) -> int:
        """Return a descriptor of the directory that is here. Raises OSError."""
        with self.parent() as parent:
            return os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | _FOLDER, dir_fd=parent)

    def followed(self) -> _Spot:
        """Return where the kernel gets from here, by a link that its rules for sticky directories let us follow.

        Raises
        ------
        OSError
            If it leads nowhere.
        """
        fd = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        try:
            there = _Spot(*_split(os.readlink(b"/proc/self/fd/%d" % fd)))
            with there.parent() as parent:
                # The name may be gone, and then says so in its own text.
                if not os.path.samestat(os.fstat(fd), os.lstat(there.name, dir_fd=parent)):
                    raise OSError(ESTALE, os.strerror(ESTALE))
            return there
        finally:
            os.close(fd)


class _Parent:
    __slots__ = ("_fd", "_spot")

    def __init__(self, spot: _Spot) -> None:
        self._spot = spot

    def __enter__(self) -> int:
        self._fd = self._spot.open_parent()
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _split(path: bytes) -> tuple[bytes, tuple[bytes]]:
    folder, name = os.path.split(path)
    return folder, (name,)


class Placer:
    """Puts items under one destination.

    Parameters
    ----------
    destination:
        An existing directory, in which the items get their own names; or what does not exist (or is a file), which
        then is the name of the one that is copied.
    several:
        There is more than one: the destination has to be a directory.
    inside:
        Whether it was a directory before anybody began; None: look.

    Raises
    ------
    PlacingError
        If it has to be a directory, and is none.
    """

    def __init__(self, destination: bytes, several: bool, inside: bool | None = None) -> None:
        self._destination = destination or b"."
        self._several = several
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        why = os.strerror(ENOTDIR)
        self._inside = inside if inside is not None and not several else False
        if inside is None or several:
            try:
                self._inside = stat.S_ISDIR(os.stat(self._destination).st_mode)
            except OSError as error:
                if error.errno != ENOENT:
                    raise _failure(self._destination, error) from error
                why = os.strerror(ENOENT)
        if not self._inside and (several or destination.endswith(b"/")):
            if several:
                why += "; several files need a directory: name or make one"
            raise PlacingError(f"cannot write {'into ' if several else ''}{shown(destination)}: {why}")
        self._directories: dict[bytes, tuple[_Spot, Item, os.stat_result, bool]] = {}
        """By path of the item: where it is, the item, which directory that was, and whether we have made it."""
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
        spot = self._where(item)
        try:
            if item.kind == DIRECTORY:
                self._make_directory(spot, item)
            elif item.kind == SYMLINK:
                self._link(spot, item)
            else:
                raise PlacingError(f"{shown(spot.path)} would be of the unknown kind {item.kind}")
        except OSError as error:
            raise _failure(spot.path, error) from error

    def begin(self, item: Item) -> NewFile:
        """Return a new file, which is seen only when it is finished. Raises PlacingError."""
        spot = self._where(item)
        try:
            return NewFile(spot, item, self._umask, not self._inside and b"/" not in item.path)
        except OSError as error:
            raise _failure(spot.path, error) from error

    def _where(self, item: Item) -> _Spot:
        """Return where an item belongs.

        Raises
        ------
        PlacingError
            If it may not be put anywhere.
        """
        parts = item.path.split(b"/")
        named = parts[1:] if parts[0] == CONTENTS and (len(parts) > 1 or item.kind == DIRECTORY) else parts
        if any(part in (b"", b".", b"..") for part in named) or b"\0" in item.path:
            raise PlacingError(f"a copy may not be called {shown(item.path)}")
        if item.path in self._seen:
            raise PlacingError(f"{shown(item.path)} comes twice")
        if len(parts) == 1:
            spot = _Spot(self._destination, (parts[0],)) if self._inside else _Spot(*_split(self._destination))
        else:
            above = self._directories.get(b"/".join(parts[:-1]))
            if above is None:
                raise PlacingError(f"{shown(item.path)} is in no directory that was copied")
            spot = above[0].below(parts[-1])
        if len(spot.path) > _PATH_BYTES:
            raise PlacingError(f"cannot write {shown(item.path)}: {os.strerror(ENAMETOOLONG)}")
        self._seen.add(item.path)
        return spot

    def finish(self) -> list[PlacingError]:
        """All items are there: give the directories what they shall have, the innermost first."""
        failures = []
        for spot, item, was, made in reversed(list(self._directories.values())):
            if not item.attributes and not made:
                continue
            try:
                fd = spot.open_directory()
                try:
                    if not os.path.samestat(os.fstat(fd), was):
                        raise PlacingError(
                            f"{shown(spot.path)} was exchanged while it was written: its mode is not set"
                        )
                    if item.attributes:
                        _keep(fd, item.attributes)
                    else:
                        os.fchmod(fd, item.mode & 0o777 & ~self._umask)
                finally:
                    os.close(fd)
            except PlacingError as error:
                failures.append(error)
            except OSError as error:
                failures.append(_failure(spot.path, error))
        return failures

    # ------------------------------------------------------------------ one of each kind

    def _make_directory(self, spot: _Spot, item: Item) -> None:
        made = True
        with spot.parent() as parent:
            try:
                # Ours to write into for now; `finish` says what it shall be.
                os.mkdir(spot.name, 0o700, dir_fd=parent)
            except FileExistsError:
                made = False
            was = os.lstat(spot.name, dir_fd=parent)
        if not stat.S_ISDIR(was.st_mode):
            raise OSError(EEXIST, os.strerror(EEXIST))
        self._directories[item.path] = spot, item, was, made

    def _link(self, spot: _Spot, item: Item) -> None:
        if not item.target or b"\0" in item.target:
            raise PlacingError(f"the symbolic link {shown(spot.path)} has no target")
        with spot.parent() as parent:
            try:
                os.symlink(item.target, spot.name, dir_fd=parent)
            except FileExistsError:
                if stat.S_ISDIR(os.lstat(spot.name, dir_fd=parent).st_mode):
                    raise
                hidden = _hidden(spot.name)
                os.symlink(item.target, hidden, dir_fd=parent)
                try:
                    os.rename(hidden, spot.name, src_dir_fd=parent, dst_dir_fd=parent)
                except OSError:
                    _remove(hidden, parent)
                    raise


class NewFile:
    """A file on its way to its place; ended by `finish` or `drop`."""

    def __init__(self, spot: _Spot, item: Item, umask: int, follow: bool) -> None:
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
            raise _failure(self.path, error) from error

    def finish(self) -> None:
        """It is complete: let it be seen. Raises PlacingError; nothing is left of it then."""
        try:
            if self._attributes:
                _keep(self.fd, self._attributes)
            else:
                os.fchmod(self.fd, self._mode)
            with self._spot.parent() as parent:
                if not self._hidden:
                    try:
                        self._name(self._spot.name, parent)
                        return
                    except FileExistsError:
                        # It has a name of its own for the moment between two system calls.
                        hidden = _hidden(self._spot.name)
                        self._name(hidden, parent)
                        self._hidden = hidden
                os.rename(self._hidden, self._spot.name, src_dir_fd=parent, dst_dir_fd=parent)
                self._hidden = b""
        except OSError as error:
            raise _failure(self.path, error) from error
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
                    _remove(self._hidden, parent)
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
    hidden = _hidden(name)
    return os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent), hidden


def _hidden(name: bytes) -> bytes:
    # A name may have 255 bytes.
    return b".%s.%s" % (name[:200], os.urandom(8).hex().encode())


def _remove(name: bytes, parent: int) -> None:
    try:
        os.unlink(name, dir_fd=parent)
    except OSError:
        pass  # somebody else has removed it, or nobody may


def _keep(fd: int, attributes: Sequence[int]) -> None:
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


def _failure(path: bytes, error: OSError) -> PlacingError:
    return PlacingError(f"cannot write {shown(path)}: {os.strerror(error.errno or 0)}")
