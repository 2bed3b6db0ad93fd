"""A place in a tree of files, found from a directory by names of which none may be a link.

So whoever exchanges names meanwhile leads nobody elsewhere: each directory is opened in the one above it.
"""

from __future__ import annotations

import os
from errno import ESTALE

CONTENTS = b"."
"""As the first part of an item's path: it is in the destination itself, which is made if it is not there."""
_FOLDER = os.O_DIRECTORY | os.O_CLOEXEC


class Spot:
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

    def below(self, name: bytes) -> Spot:
        """Return the place of something in this directory."""
        return Spot(self._root, (*self.names, name))

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

    def followed(self) -> Spot:
        """Return where the kernel gets from here, by a link that its rules for sticky directories let us follow.

        Raises
        ------
        OSError
            If it leads nowhere.
        """
        fd = os.open(self.path, os.O_PATH | os.O_CLOEXEC)
        try:
            there = Spot(*split(os.readlink(b"/proc/self/fd/%d" % fd)))
            with there.parent() as parent:
                # The name may be gone, and then says so in its own text.
                if not os.path.samestat(os.fstat(fd), os.lstat(there.name, dir_fd=parent)):
                    raise OSError(ESTALE, os.strerror(ESTALE))
            return there
        finally:
            os.close(fd)


class _Parent:
    __slots__ = ("_fd", "_spot")

    def __init__(self, spot: Spot) -> None:
        self._spot = spot

    def __enter__(self) -> int:
        self._fd = self._spot.open_parent()
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def split(path: bytes) -> tuple[bytes, tuple[bytes]]:
    """Return the directory of a path and the name in it, as `Spot` takes them."""
    folder, name = os.path.split(path)
    return folder, (name,)
