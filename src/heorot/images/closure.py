"""What a program needs in order to run where nothing is installed: its interpreter and its shared libraries.

The dynamic loader of the program itself is asked (``LOADER --list PROGRAM``): nobody else knows as well what it will
open, with its cache, its search paths and the caller's environment. Libraries that a program loads later by itself
(plug-ins, Python's modules) cannot be known; they are named by the user.

Formats: elf(5); for ``#!`` execve(2). Short commands import this.
"""

from __future__ import annotations

import os

from heorot.images.files import open_file
from heorot.images.find import DEFAULT_PATH, find, plain
from heorot.images.identity import ImageError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

MAX_INTERPRETERS = 4
"""An interpreter may be a script, too; the kernel follows so many."""
HEAD_BYTES = 4096
MAX_LIST_BYTES = 1024 * 1024
_PT_INTERP = 3
_MACHINES = {"x86_64": (62, 3), "aarch64": (183,), "riscv64": (243,), "ppc64le": (21,), "s390x": (22,), "i686": (3,)}
"""``e_machine`` of what this kind of machine runs."""
_MACHINE_NAMES = {3: "x86", 21: "ppc64", 22: "s390", 40: "arm", 62: "x86_64", 183: "aarch64", 243: "riscv"}
_LOADER_CACHE = b"/etc/ld.so.cache"


def closure(program: bytes, environment: Sequence[bytes], directory: bytes) -> list[bytes]:
    """Return the paths of all files that the program needs, itself first.

    `environment` (``NAME=value``) and `directory` are those in which it will run.

    Raises
    ------
    ImageError
        If it is for another kind of machine, or an interpreter or a library is missing or cannot be read.
    """
    variables = dict(entry.partition(b"=")[::2] for entry in environment)
    found: dict[bytes, None] = {}
    _add(found, program, variables, directory, 0)
    return list(found)


def _add(found: dict[bytes, None], path: bytes, variables: dict[bytes, bytes], directory: bytes, depth: int) -> None:
    if path in found:
        return
    found[path] = None
    if depth > MAX_INTERPRETERS:
        raise ImageError(f"{shown(path)}: too many interpreters that are scripts themselves")
    head = _head(path)
    if head.startswith(b"\x7fELF"):
        _add_libraries(found, path, head, variables, directory)
        return
    for needed in _interpreters(path, head, variables, directory):
        _add(found, needed, variables, directory, depth + 1)


def _head(path: bytes) -> bytes:
    fd, _ = open_file(path)
    try:
        return os.pread(fd, HEAD_BYTES, 0)
    except OSError as error:
        raise ImageError(f"cannot read {shown(path)}: {error.strerror or error}") from error
    finally:
        os.close(fd)


# ------------------------------------------------------------------ scripts


def _interpreters(path: bytes, head: bytes, variables: dict[bytes, bytes], directory: bytes) -> list[bytes]:
    """Return what runs a script."""
    if not head.startswith(b"#!"):
        # execvp(3) gives it to the shell.
        return [b"/bin/sh"]
    words = head[2:].partition(b"\n")[0].split()
    if not words:
        raise ImageError(f"{shown(path)} names no interpreter after #!")
    interpreter = os.path.join(directory, words[0])
    if not os.path.isfile(interpreter):
        raise ImageError(f"{shown(path)} needs the interpreter {shown(words[0])}, which does not exist")
    needed = [plain(interpreter)]
    if os.path.basename(interpreter) == b"env":
        # env(1) runs the first word that is neither an option nor an assignment.
        named = [word for word in words[1:] if not word.startswith(b"-") and b"=" not in word]
        if named:
            runs = find(named[0], variables.get(b"PATH", DEFAULT_PATH), directory)
            if runs is None:
                raise ImageError(f"{shown(path)} needs the interpreter {shown(named[0])}, which is not in PATH")
            needed.append(runs)
    return needed


# ------------------------------------------------------------------ binaries


def _add_libraries(
    found: dict[bytes, None], path: bytes, head: bytes, variables: dict[bytes, bytes], directory: bytes
) -> None:
    machine = int.from_bytes(head[18:20], _byte_order(head))
    own = _MACHINES.get(os.uname().machine)
    if own is not None and machine not in own:
        raise ImageError(
            f"{shown(path)} is a program for {_MACHINE_NAMES.get(machine, f'machine {machine}')};"
            f" this is {os.uname().machine}"
        )
    try:
        loader = _loader_of(path, head)
    except (IndexError, ValueError) as error:
        raise ImageError(f"{shown(path)} is no program that can be run: its header is damaged") from error
    if loader is None:
        return
    if not os.path.isfile(loader):
        raise ImageError(f"{shown(path)} needs the loader {shown(loader)}, which does not exist")
    for library in _libraries(path, loader, variables, directory):
        found[library] = None
    found[plain(loader)] = None
    if os.path.basename(loader).startswith((b"ld-linux", b"ld64")) and os.path.isfile(_LOADER_CACHE):
        # With it the loader finds on the node what it finds here.
        found[_LOADER_CACHE] = None


def _byte_order(head: bytes) -> Literal["big", "little"]:
    return "big" if head[5:6] == b"\x02" else "little"


def _loader_of(path: bytes, head: bytes) -> bytes | None:
    """Return the path of the dynamic loader that an ELF file names; None: it is linked statically."""
    order = _byte_order(head)
    wide = head[4] == 2

    def number(at: int, size: int) -> int:
        if at + size > len(head):
            raise ValueError("beyond the header")
        return int.from_bytes(head[at : at + size], order)

    table = number(32, 8) if wide else number(28, 4)
    size, count = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
    for index in range(count):
        at = table + index * size
        if number(at, 4) == _PT_INTERP:
            offset = number(at + 8, 8) if wide else number(at + 4, 4)
            length = number(at + 32, 8) if wide else number(at + 16, 4)
            with open(path, "rb", buffering=0) as file:
                return os.pread(file.fileno(), min(length, 4096), offset).rstrip(b"\0")
    return None


def _libraries(path: bytes, loader: bytes, variables: dict[bytes, bytes], directory: bytes) -> list[bytes]:
    """Return the shared libraries that the loader would load."""
    code, text = _ask_loader(loader, path, variables)
    libraries: list[bytes] = []
    missing: list[bytes] = []
    for line in text.splitlines():
        name, arrow, rest = line.strip().partition(b" => ")
        place = (rest if arrow else name).rpartition(b" (0x")[0]
        if arrow and rest.startswith(b"not found"):
            missing.append(name)
        elif b"/" in place and place != loader:
            libraries.append(plain(os.path.join(directory, place)))
    if missing:
        names = ", ".join(shown(name) for name in missing)
        raise ImageError(f"{shown(path)} needs libraries that are missing here: {names}")
    if code != 0:
        said = text.strip().splitlines()
        reason = shown(said[-1]) if said else f"its loader {shown(loader)} ends with status {code}"
        raise ImageError(f"{shown(path)} cannot be loaded here: {reason.removeprefix(shown(path) + ': ')}")
    return libraries


def _ask_loader(loader: bytes, path: bytes, variables: dict[bytes, bytes]) -> tuple[int, bytes]:
    """Return the exit status of the loader and all that it says."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            pid = os.posix_spawn(
                loader,
                [loader, b"--list", path],
                variables,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_DUP2, writer, 2),
                ],
            )
        except OSError as error:
            raise ImageError(
                f"{shown(path)} needs the loader {shown(loader)}, which cannot be run: {error.strerror or error}"
            ) from error
        finally:
            os.close(writer)
        text = b""
        while len(text) < MAX_LIST_BYTES and (part := os.read(reader, 65536)):
            text += part
    finally:
        os.close(reader)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), text
