"""The links of an image, as a node has them: each that is to lead to a program of the image leads to it.

A name that a node lacks is made, or laid out, as the link that it is. One that it has may lead elsewhere: then what it
leads to is covered with the program's file, for the job alone, as a file of the image is. That is found out with the
user's rights, by descriptors, and through no link of /proc to what a process has open.
"""

from __future__ import annotations

import os
import stat

from heorot.core.images.chunks import FILE, SYMLINK
from heorot.core.images.manifest import Manifest
from heorot.linux import system

MAX_FOLLOWED = 40
"""So many links lead one to the next at most, as for the kernel."""
MAX_LOOKED = 4_096
"""So many links to programs are looked at for a job."""
MAX_DIVERTED = 256
"""So many that lead elsewhere are seen to."""


def find_diverted(manifest: Manifest) -> list[tuple[int, int]]:
    """Return what the links to programs lead to on this node, where that is another place than the program's.

    To be called with the rights of the user.

    Returns
    -------
    The number of the program's entry, and a descriptor (O_PATH) of the regular file that is found in its place.
    """
    links = {entry.path: entry.target for entry in manifest.entries if entry.kind == SYMLINK}
    diverted: list[tuple[int, int]] = []
    if not links:
        return diverted
    files = {entry.path: number for number, entry in enumerate(manifest.entries) if entry.kind == FILE}
    places: dict[int, bytes] = {}
    looked = 0
    for path in links:
        number = _end_of(path, links, files)
        if number is None or not manifest.entries[number].mode & 0o111:
            continue
        looked += 1
        if looked > MAX_LOOKED or len(diverted) >= MAX_DIVERTED:
            break
        if number not in places:
            places[number] = _place(manifest.entries[number].path)
        fd = _open_other(path, places[number])
        if fd >= 0:
            diverted.append((number, fd))
    return diverted


def _end_of(path: bytes, links: dict[bytes, bytes], files: dict[bytes, int]) -> int | None:
    """Return the number of the file of the image to which a link of it leads; None: to none."""
    for _ in range(MAX_FOLLOWED):
        target = links.get(path)
        if target is None:
            return files.get(path)
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return None


def _open_other(path: bytes, place: bytes) -> int:
    """Open the regular file to which a path leads, unless that is at this place; -1: there is none."""
    try:
        fd = system.open_without_magic(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return -1
    if stat.S_ISREG(os.fstat(fd).st_mode) and _place_of(fd) != place:
        return fd
    os.close(fd)
    return -1


def cover_diverted(view: bytes, diverted: list[tuple[int, int]]) -> None:
    """Cover what `find_diverted` has found with the programs, in a mount namespace of our own. Raises OSError.

    The descriptors are closed. A place where the image has a file of its own is left alone.
    """
    own = set()
    if diverted:
        for name in os.listdir(view):
            status = os.lstat(view + b"/" + name)
            own.add((status.st_dev, status.st_ino))
    for number, fd in diverted:
        try:
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) not in own:
                system.bind_mount(b"%s/%d" % (view, number), b"/proc/self/fd/%d" % fd)
        finally:
            os.close(fd)


def path_to_run(program: bytes, file: bytes) -> bytes:
    """Return the path by which a program is executed: the one that was asked for, if it leads to its file, else that.

    To be called with the rights of the user, where the image is shown.
    """
    if not file or program == file:
        return program
    wanted = _place(file)
    return program if wanted and _place(program) == wanted else file


def _place(path: bytes) -> bytes:
    """Return the only name of what a path leads to, in which no link is; empty: nowhere."""
    try:
        fd = system.open_without_magic(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return _place_of(fd)
    finally:
        os.close(fd)


def _place_of(fd: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % fd)
