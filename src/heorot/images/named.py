"""What the user names beside the program (``bpsh --with``): files, and directories with all that is in them.

A program or library brings its libraries, as if it were launched: `env`, a debugger or a shell starts the program that
is named. Of a directory that goes for binaries in it, and for links that lead from it to programs elsewhere, as in a
virtual environment of Python. Scripts in it do not bring their interpreters: most directories have hundreds that nobody
runs.
"""

from __future__ import annotations

import os
import stat
from itertools import islice

from heorot.images.elf import DamagedError, look_at
from heorot.images.find import may_be_sent, plain
from heorot.images.identity import ImageError, shown
from heorot.images.ways import way_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from heorot.images.closure import Closure

MAX_ENTRIES = 50_000
MAX_ASKED = 512
"""Of so many files in directories a loader is asked for the libraries; it takes a millisecond each."""


class NamedFiles:
    """Adds what is named to what the program needs.

    Parameters
    ----------
    closure:
        What the program needs.
    directory:
        In which relative paths are.
    say:
        Takes a line for people about what goes without something that it needs.
    """

    def __init__(self, closure: Closure, directory: bytes, say: Callable[[str], object]) -> None:
        self._closure = closure
        self._paths = closure.paths
        self._directory = directory
        self._say = say
        self._links: list[bytes] = []
        """Links in directories."""
        self._binaries: list[bytes] = []
        """Files in directories that may be programs or libraries."""
        self._asked = 0

    def add(self, name: bytes) -> None:
        """Add a file, or a directory with everything in it.

        Raises
        ------
        ImageError
            If it is not there, cannot be read, may not be sent, or is too much.
        """
        path = plain(os.path.join(self._directory, name))
        if os.path.isdir(path):
            if os.path.islink(path):
                path, links = way_to(path)
                self._paths.update(links)
            self._walk(path)
        elif os.path.lexists(path):
            self._add_file(path)
        else:
            raise ImageError(f"cannot read {shown(path)}: {os.strerror(2)}")

    def finish(self) -> None:
        """All are added: add what those in directories need. Raises ImageError if that is too much."""
        for link in self._links:
            self._follow(link)
        for path in self._binaries:
            self._add_needs(path)
        self._require_few()

    def _require_few(self) -> None:
        if len(self._paths) > MAX_ENTRIES:
            raise ImageError(f"more than {MAX_ENTRIES} files: send fewer, or one archive of them")

    # ------------------------------------------------------------------ one file

    def _add_file(self, path: bytes) -> None:
        if not _is_program(path):
            self._paths.setdefault(path, b"")
            return
        try:
            self._closure.add(path)
        except ImageError as error:
            if path not in self._paths:
                raise
            self._say(f"{error}; it is sent as it is")

    # ------------------------------------------------------------------ directories

    def _walk(self, top: bytes) -> None:
        if top == b"/":
            raise ImageError("/ is not sent as a whole: name those of its directories that are needed")
        above = [top]
        while above:
            folder = above.pop()
            if not may_be_sent(folder):
                raise ImageError(may_not_be_sent(folder))
            self._paths.setdefault(folder, b"")
            inner = [path for path in self._listed(folder) if self._take(path)]
            # In the order of their names, all that is in one before the next.
            above += reversed(inner)
            self._require_few()

    def _listed(self, folder: bytes) -> list[bytes]:
        try:
            with os.scandir(folder) as listing:
                # One more than is allowed, however many there are.
                names = [entry.name for entry in islice(listing, MAX_ENTRIES + 1)]
        except OSError as error:
            raise ImageError(f"cannot read {shown(folder)}: {error.strerror}") from error
        return [folder + b"/" + name for name in sorted(names)]

    def _take(self, path: bytes) -> bool:
        """Add what a directory holds under this name; return whether it is a directory itself."""
        try:
            mode = os.lstat(path).st_mode
            target = os.readlink(path) if stat.S_ISLNK(mode) else b""
        except OSError as error:
            raise ImageError(f"cannot read {shown(path)}: {error.strerror}") from error
        if stat.S_ISDIR(mode):
            return True
        # What the program needs under this name is a file.
        self._paths.setdefault(path, target)
        if target:
            self._links.append(path)
        elif mode & 0o111 or b".so" in os.path.basename(path):
            self._binaries.append(path)
        return False

    # ------------------------------------------------------------------ what those in directories need

    def _follow(self, link: bytes) -> None:
        """See that a link that leads to a program leads there on a node, too."""
        try:
            file, links = way_to(link)
            if file in self._paths:
                self._paths.update(links)
            elif may_be_sent(file) and os.access(file, os.X_OK) and _is_program(file):
                self._closure.add(link)
        except ImageError:
            return  # it leads nowhere, to what cannot be read, or to a program for other machines

    def _add_needs(self, path: bytes) -> None:
        try:
            if not self._closure.lacks_something(path):
                return
            self._asked += 1
            if self._asked <= MAX_ASKED:
                self._closure.add_needs(path)
            elif self._asked == MAX_ASKED + 1:
                self._say(
                    f"only {MAX_ASKED} programs and libraries in directories were asked for the libraries that they"
                    f" need, from {shown(path)} on none: name more with --with if one is missing"
                )
        except ImageError:
            return  # most directories have files that nobody runs here


def may_not_be_sent(path: bytes) -> str:
    """Return why an image cannot hold this path."""
    return f"{shown(path)} may not be sent: every node has its own {shown(path.split(b'/')[1])}"


def _is_program(path: bytes) -> bool:
    """Say whether a file is a binary, or a script that may be executed. Raises ImageError if it cannot be read."""
    try:
        head, elf = look_at(path)
    except DamagedError:
        return False  # whoever sends it, sends data
    return elf is not None or (head.startswith(b"#!") and os.access(path, os.X_OK))
