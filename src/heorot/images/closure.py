"""What programs need in order to run where nothing is installed: their interpreters and their shared libraries.

The dynamic loader of the program itself is asked for the libraries (`heorot.images.loader`). Those that a program loads
later by itself (plug-ins, Python's modules) cannot be known; they are named by the user.

Formats: elf(5); for ``#!`` execve(2). Short commands import this.
"""

from __future__ import annotations

import os

from heorot.core.client.end import EXIT_NO_COMMAND, EXIT_NOT_EXECUTABLE
from heorot.images.elf import look_at
from heorot.images.find import DEFAULT_PATH, find_command, interpreter_line, line_ends_of, plain, why_not_executable
from heorot.images.identity import CommandError, ImageError, shown
from heorot.images.loader import is_glibc, is_of_the_system, libraries_of
from heorot.images.ways import way_to

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from heorot.images.elf import Elf

MAX_INTERPRETERS = 4
"""An interpreter may be a script, too; the kernel follows so many."""
_MACHINES = {"x86_64": (62, 3), "aarch64": (183,), "riscv64": (243,), "ppc64le": (21,), "s390x": (22,), "i686": (3,)}
"""``e_machine`` of what this kind of machine runs."""
_MACHINE_NAMES = {3: "x86", 21: "ppc64", 22: "s390", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
_LOADER_CACHE = b"/etc/ld.so.cache"


class Closure:
    """The files that programs need, found one program after the other.

    Parameters
    ----------
    environment, directory:
        Those in which they will run; ``NAME=value``.
    """

    def __init__(self, environment: Sequence[bytes], directory: bytes) -> None:
        self.paths: dict[bytes, bytes] = {}
        """In the order in which they were found: paths, each with the target of the link that is there; empty: none
        that matters."""
        self._variables = dict(entry.partition(b"=")[::2] for entry in environment)
        self._directory = directory
        self._seen: set[bytes] = set()
        """Files of which everything was found."""
        self._loader = b""
        """That of the first program which names one: it loads all that names none."""
        self.careful = False
        """Nobody need want to run what comes now: a loader is asked only if nobody else could have put it there."""
        self._trusted: dict[bytes, bool] = {}
        self._usual: set[bytes] = set()
        """Names of libraries that were found without a search path of who needs them."""

    def add(self, program: bytes, depth: int = 0) -> bytes:
        """Add a program, the links by which it is found, and what it needs; return the path of its file.

        Raises
        ------
        CommandError
            If it is for another kind of machine, or an interpreter is missing or cannot be executed.
        ImageError
            If a library is missing or cannot be read. What was found before is added all the same.
        """
        file, links = way_to(program)
        self.paths.update(links)
        self.paths.setdefault(file, b"")
        if depth > MAX_INTERPRETERS:
            raise ImageError(f"{shown(program)}: too many interpreters that are scripts themselves")
        self.add_needs(file, depth)
        return file

    def add_needs(self, path: bytes, depth: int = 0) -> None:
        """Add what a file needs, a program or a library, which is there itself. Raises as `add` does."""
        if path in self._seen:
            return
        self._seen.add(path)
        head, elf = look_at(path)
        if elf is not None:
            self._add_libraries(path, elf)
            return
        for needed in self._interpreters(path, head):
            self.add(needed, depth + 1)

    def lacks_something(self, path: bytes) -> bool:
        """Say whether this is a program or library for this machine that needs more than was found as others find it.

        Raises
        ------
        ImageError
            If it cannot be read, or is damaged.
        """
        if path in self._seen:
            return False
        _, elf = look_at(path)
        if elf is None or not _is_for_us(elf.machine):
            return False
        names = elf.needed()
        return names is None or not self._usual.issuperset(names)

    # ------------------------------------------------------------------ scripts

    def _interpreters(self, path: bytes, head: bytes) -> list[bytes]:
        """Return what runs a script."""
        words = interpreter_line(head)
        if words is None:
            # execvp(3) gives it to the shell.
            return [b"/bin/sh"]
        if not words:
            raise CommandError(EXIT_NOT_EXECUTABLE, f"{shown(path)} names no interpreter after #!")
        interpreter = os.path.join(self._directory, words[0])
        needs = f"{shown(path)} needs the interpreter {shown(words[0])}, which"
        if not os.path.exists(interpreter):
            raise CommandError(EXIT_NO_COMMAND, f"{needs} does not exist{line_ends_of(words[0])}")
        if not os.path.isfile(interpreter) or not os.access(interpreter, os.X_OK):
            why = why_not_executable(os.stat(interpreter).st_mode)
            raise CommandError(EXIT_NOT_EXECUTABLE, f"{needs} cannot be executed: {why}")
        needed = [plain(interpreter)]
        if os.path.basename(interpreter) == b"env":
            # env(1) runs the first word that is neither an option nor an assignment.
            named = [word for word in words[1:] if not word.startswith(b"-") and b"=" not in word]
            if named:
                needed.append(self._found_in_path(path, named[0]))
        return needed

    def _found_in_path(self, path: bytes, name: bytes) -> bytes:
        """Return where the interpreter of this name is, as env(1) finds it."""
        found = find_command(name, self._variables.get(b"PATH", DEFAULT_PATH), self._directory)
        if found is None:
            text = f"{shown(path)} needs the interpreter {shown(name)}, which is not in PATH"
            raise CommandError(EXIT_NO_COMMAND, text + line_ends_of(name))
        return found

    # ------------------------------------------------------------------ binaries

    def _add_libraries(self, path: bytes, elf: Elf) -> None:
        if not _is_for_us(elf.machine):
            machine = _MACHINE_NAMES.get(elf.machine, f"machine {elf.machine}")
            text = f"{shown(path)} is a program for {machine}; this is {os.uname().machine}"
            raise CommandError(EXIT_NOT_EXECUTABLE, text)
        loader = elf.loader
        if loader is None:
            # A program that is linked statically, or a library.
            if not self._loader or not self._names(elf, path):
                return
            loader = self._loader
        elif not os.path.isfile(loader):
            text = f"{shown(path)} needs the loader {shown(loader)}, which does not exist"
            raise CommandError(EXIT_NO_COMMAND, text)
        if self.careful and not self._may_be_asked(loader):
            text = f"{shown(path)} names the loader {shown(loader)}, which is none of the system's and is not run here"
            raise ImageError(text)
        self._loader = self._loader or loader
        found = self._libraries(path, loader)
        if self._loader == loader and elf.needed() is not None:
            self._usual.update(name for name, _ in found)
        for _, library in found:
            self._keep(library)
        self._keep(plain(loader))
        self._usual.add(os.path.basename(loader))
        if is_glibc(loader) and os.path.isfile(_LOADER_CACHE):
            # With it the loader finds on the node what it finds here.
            self._keep(_LOADER_CACHE)

    def _may_be_asked(self, loader: bytes) -> bool:
        if loader not in self._trusted:
            self._trusted[loader] = loader == self._loader or is_of_the_system(loader)
        return self._trusted[loader]

    @staticmethod
    def _names(elf: Elf, path: bytes) -> bool:
        """Say whether a file that names no loader names libraries."""
        names = elf.needed()
        return names is None or bool(names)

    def _keep(self, path: bytes) -> None:
        """Add a file under the name by which it is opened."""
        if self.paths.setdefault(path, b""):
            # A directory that is sent has it as a link, whose end may be elsewhere.
            file, links = way_to(path)
            self.paths.update(links)
            self.paths.setdefault(file, b"")

    def _libraries(self, path: bytes, loader: bytes) -> list[tuple[bytes, bytes]]:
        """Return the shared libraries that the loader would load: their names, and where they are."""
        libraries: list[tuple[bytes, bytes]] = []
        for name, place in libraries_of(path, loader, self._variables):
            library = os.path.join(self._directory, place)
            if not os.path.isfile(library):
                # A path may hold what the list is made of, and nothing tells where it ends then.
                raise ImageError(
                    f"{shown(path)} cannot be sent: its loader {shown(loader)} finds {shown(name)} where there is no"
                    f" file ({shown(place)}): rename a directory that has a line break and a tab, or let nodes run"
                    " their own (--image path)"
                )
            libraries.append((name, plain(library)))
        return libraries


def _is_for_us(machine: int) -> bool:
    """Say whether this machine runs programs for an ``e_machine``."""
    own = _MACHINES.get(os.uname().machine)
    return own is None or machine in own
