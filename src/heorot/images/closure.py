"""What a program needs in order to run where nothing is installed: its interpreter and its shared libraries.

The dynamic loader of the program itself is asked (``LOADER --list PROGRAM``): nobody else knows as well what it will
open, with its cache, its search paths and the caller's environment. Libraries that a program loads later by itself
(plug-ins, Python's modules) cannot be known; they are named by the user.

Formats: elf(5); for ``#!`` execve(2). Short commands import this.
"""

from __future__ import annotations

import os

from heorot.core.client.end import EXIT_NO_COMMAND, EXIT_NOT_EXECUTABLE
from heorot.images.files import open_file
from heorot.images.find import DEFAULT_PATH, find_command, interpreter_line, line_ends_of, plain, why_not_executable
from heorot.images.identity import CommandError, ImageError, shown

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
    CommandError
        If it is for another kind of machine, or an interpreter is missing or cannot be executed.
    ImageError
        If a library is missing or cannot be read.
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
    words = interpreter_line(head)
    if words is None:
        # execvp(3) gives it to the shell.
        return [b"/bin/sh"]
    if not words:
        raise CommandError(EXIT_NOT_EXECUTABLE, f"{shown(path)} names no interpreter after #!")
    interpreter = os.path.join(directory, words[0])
    if not os.path.exists(interpreter):
        text = f"{shown(path)} needs the interpreter {shown(words[0])}, which does not exist{line_ends_of(words[0])}"
        raise CommandError(EXIT_NO_COMMAND, text)
    if not os.path.isfile(interpreter) or not os.access(interpreter, os.X_OK):
        text = f"{shown(path)} needs the interpreter {shown(words[0])}, which cannot be executed: "
        raise CommandError(EXIT_NOT_EXECUTABLE, text + why_not_executable(os.stat(interpreter).st_mode))
    needed = [plain(interpreter)]
    if os.path.basename(interpreter) == b"env":
        # env(1) runs the first word that is neither an option nor an assignment.
        named = [word for word in words[1:] if not word.startswith(b"-") and b"=" not in word]
        if named:
            runs = find_command(named[0], variables.get(b"PATH", DEFAULT_PATH), directory)
            if runs is None:
                text = f"{shown(path)} needs the interpreter {shown(named[0])}, which is not in PATH"
                raise CommandError(EXIT_NO_COMMAND, text + line_ends_of(named[0]))
            needed.append(runs)
    return needed


# ------------------------------------------------------------------ binaries


def _add_libraries(
    found: dict[bytes, None], path: bytes, head: bytes, variables: dict[bytes, bytes], directory: bytes
) -> None:
    machine = int.from_bytes(head[18:20], _byte_order(head))
    own = _MACHINES.get(os.uname().machine)
    if own is not None and machine not in own:
        raise CommandError(
            EXIT_NOT_EXECUTABLE,
            f"{shown(path)} is a program for {_MACHINE_NAMES.get(machine, f'machine {machine}')};"
            f" this is {os.uname().machine}",
        )
    try:
        segments = _segments(head)
    except (IndexError, ValueError) as error:
        raise ImageError(f"{shown(path)} is no program that can be run: its header is damaged") from error
    _require_complete(path, segments)
    loader = _loader_of(path, segments)
    if loader is None:
        return
    if not os.path.isfile(loader):
        text = f"{shown(path)} needs the loader {shown(loader)}, which does not exist"
        raise CommandError(EXIT_NO_COMMAND, text)
    for library in _libraries(path, loader, variables, directory):
        found[library] = None
    found[plain(loader)] = None
    if _is_glibc(loader) and os.path.isfile(_LOADER_CACHE):
        # With it the loader finds on the node what it finds here.
        found[_LOADER_CACHE] = None


def _byte_order(head: bytes) -> Literal["big", "little"]:
    return "big" if head[5:6] == b"\x02" else "little"


class _Segment:
    """An entry of an ELF file's program header table."""

    __slots__ = ("end", "kind", "offset", "size")

    def __init__(self, kind: int, offset: int, size: int) -> None:
        self.kind = kind
        self.offset = offset
        self.size = size
        self.end = offset + size
        """So long the file has to be."""


def _segments(head: bytes) -> list[_Segment]:
    """Return the segments of an ELF file. Raises ValueError or IndexError if its header is damaged."""
    order = _byte_order(head)
    wide = head[4] == 2

    def number(at: int, size: int) -> int:
        if at + size > len(head):
            raise ValueError("beyond the header")
        return int.from_bytes(head[at : at + size], order)

    table = number(32, 8) if wide else number(28, 4)
    size, count = (number(54, 2), number(56, 2)) if wide else (number(42, 2), number(44, 2))
    segments: list[_Segment] = []
    for at in range(table, table + count * size, max(size, 1)):
        place = (number(at + 8, 8), number(at + 32, 8)) if wide else (number(at + 4, 4), number(at + 16, 4))
        segments.append(_Segment(number(at, 4), *place))
    return segments


def _loader_of(path: bytes, segments: list[_Segment]) -> bytes | None:
    """Return the path of the dynamic loader that an ELF file names; None: it is linked statically."""
    for segment in segments:
        if segment.kind == _PT_INTERP:
            fd, _ = open_file(path)
            try:
                return os.pread(fd, min(segment.size, 4096), segment.offset).rstrip(b"\0")
            finally:
                os.close(fd)
    return None


# ------------------------------------------------------------------ what the loader says


def _libraries(path: bytes, loader: bytes, variables: dict[bytes, bytes], directory: bytes) -> list[bytes]:
    """Return the shared libraries that the loader would load."""
    status, text = _ask_loader(path, [loader, b"--list", path], variables)
    if status != 0:
        raise _failure(path, loader, variables, status, text)
    libraries: list[bytes] = []
    for name, place in _listed(text):
        if (place and b"/" not in place) or place == loader:
            continue  # the kernel's own, or the loader
        library = os.path.join(directory, place)
        if not os.path.isfile(library):
            # A path may hold what the list is made of, and nothing tells where it ends then.
            raise ImageError(
                f"{shown(path)} cannot be sent: its loader {shown(loader)} finds {shown(name)} where there is no file"
                f" ({shown(place)}): rename a directory that has a line break and a tab, or let nodes run their own"
                " (--image path)"
            )
        libraries.append(plain(library))
    return libraries


def _listed(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return what the loader lists: names, and where they are; empty: nowhere, or it does not say.

    Each begins a line with a tab. A path may hold line breaks itself.
    """
    listed: list[tuple[bytes, bytes]] = []
    for item in (b"\n" + text).split(b"\n\t")[1:]:
        place, found, _address = item.rpartition(b" (0x")
        if found:
            name, arrow, where = place.partition(b" => ")
            listed.append((name, where if arrow else name))
        else:
            listed.append((item.partition(b" => ")[0], b""))
    return listed


def _failure(path: bytes, loader: bytes, variables: dict[bytes, bytes], status: int, text: bytes) -> ImageError:
    """Return why the loader cannot list the libraries."""
    if status < 0:
        from heorot.linux.signal_names import signal_name

        return ImageError(
            f"{shown(path)} cannot be loaded here: {signal_name(-status)} ended its loader {shown(loader)};"
            " the program or one of its libraries is damaged"
        )
    missing = _missing(path, loader, variables, text)
    if missing:
        return ImageError(f"{shown(path)} needs libraries that are missing here: {', '.join(map(shown, missing))}")
    said = text.strip().removeprefix(path + b": ").splitlines()
    reason = shown(said[-1]) if said else f"its loader {shown(loader)} ends with status {status}"
    return ImageError(f"{shown(path)} cannot be loaded here: {reason}")


def _require_complete(path: bytes, segments: list[_Segment]) -> None:
    size = os.stat(path).st_size
    wanted = max((segment.end for segment in segments), default=0)
    if wanted > size:
        raise ImageError(f"{shown(path)} is incomplete: it has {size} of {wanted} bytes; build or copy it again")


def _missing(path: bytes, loader: bytes, variables: dict[bytes, bytes], text: bytes) -> list[bytes]:
    """Return the names of all libraries that are missing, if any is."""
    if b"Error loading shared library " in text:  # musl names them all
        parts = text.split(b"Error loading shared library ")[1:]
        return list(dict.fromkeys(part.partition(b": ")[0] for part in parts))
    if not _is_glibc(loader) or b"cannot open shared object file" not in text:
        return []
    # To --list it names only the first. So it is asked as ldd(1) does: a loader that did not understand that would run
    # the program, if one of its libraries were not missing.
    status, text = _ask_loader(path, [loader, path], {**variables, b"LD_TRACE_LOADED_OBJECTS": b"1"})
    return [name for name, place in _listed(text) if not place] if status == 0 else []


def _is_glibc(loader: bytes) -> bool:
    return os.path.basename(loader).startswith((b"ld-linux", b"ld64"))


def _ask_loader(path: bytes, argv: list[bytes], variables: dict[bytes, bytes]) -> tuple[int, bytes]:
    """Return the exit status of the program's loader, negative if a signal ended it, and all that it says."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    text = b""
    try:
        try:
            pid = os.posix_spawn(
                argv[0],
                argv,
                variables,
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_DUP2, writer, 2),
                ],
            )
        except OSError as error:
            raise ImageError(
                f"{shown(path)} needs the loader {shown(argv[0])}, which cannot be run: {error.strerror or error}"
            ) from error
        finally:
            os.close(writer)
        while len(text) < MAX_LIST_BYTES and (part := os.read(reader, 65536)):
            text += part
    finally:
        os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if len(text) >= MAX_LIST_BYTES:
        loader = shown(argv[0])
        raise ImageError(f"{shown(path)} cannot be sent: its loader {loader} says more than {MAX_LIST_BYTES} bytes")
    return status, text
