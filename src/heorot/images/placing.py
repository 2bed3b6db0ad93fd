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

from __future__ import annotations

import os
import stat
from errno import EEXIST, ENAMETOOLONG, ENOENT, ENOTDIR

from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.images.identity import shown
from heorot.images.new_file import Item, NewFile, PlacingError, failure, hidden_name, keep_attributes, remove_name
from heorot.images.spot import CONTENTS, Spot, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PATH_BYTES = 4095


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
                    raise failure(self._destination, error) from error
                why = os.strerror(ENOENT)
        if not self._inside and (several or destination.endswith(b"/")):
            if several:
                why += "; several files need a directory: name or make one"
            raise PlacingError(f"cannot write {'into ' if several else ''}{shown(destination)}: {why}")
        self._directories: dict[bytes, tuple[Spot, Item, os.stat_result, bool]] = {}
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
                raise failure(new.path, error) from error
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
            raise failure(spot.path, error) from error

    def begin(self, item: Item) -> NewFile:
        """Return a new file, which is seen only when it is finished. Raises PlacingError."""
        spot = self._where(item)
        try:
            return NewFile(spot, item, self._umask, not self._inside and b"/" not in item.path)
        except OSError as error:
            raise failure(spot.path, error) from error

    def _where(self, item: Item) -> Spot:
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
            spot = Spot(self._destination, (parts[0],)) if self._inside else Spot(*split(self._destination))
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
                        keep_attributes(fd, item.attributes)
                    else:
                        os.fchmod(fd, item.mode & 0o777 & ~self._umask)
                finally:
                    os.close(fd)
            except PlacingError as error:
                failures.append(error)
            except OSError as error:
                failures.append(failure(spot.path, error))
        return failures

    # ------------------------------------------------------------------ one of each kind

    def _make_directory(self, spot: Spot, item: Item) -> None:
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

    def _link(self, spot: Spot, item: Item) -> None:
        if not item.target or b"\0" in item.target:
            raise PlacingError(f"the symbolic link {shown(spot.path)} has no target")
        with spot.parent() as parent:
            try:
                os.symlink(item.target, spot.name, dir_fd=parent)
            except FileExistsError:
                if stat.S_ISDIR(os.lstat(spot.name, dir_fd=parent).st_mode):
                    raise
                hidden = hidden_name(spot.name)
                os.symlink(item.target, hidden, dir_fd=parent)
                try:
                    os.rename(hidden, spot.name, src_dir_fd=parent, dst_dir_fd=parent)
                except OSError:
                    remove_name(hidden, parent)
                    raise
