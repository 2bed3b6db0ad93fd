"""Runs a command in a plain chroot of the host's own directories, whose root is no mount point.

    python plain_chroot.py DIRECTORY EXTRA COMMAND...

The root lies on a file system in memory that is mounted on DIRECTORY, which must be empty, in mounts of this process's
own: nothing is left of it once the last process that was started there has ended. Several commands see equal roots, and
the same files below them. EXTRA, if it is not empty, is a directory that appears as `/extra` there. This file imports
nothing of the tests: it is run by itself.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18


def in_chroot(directory: Path, extra: Path | None = None) -> list[str]:
    """Return the words in front of a command that make it run in such a root."""
    return [sys.executable, __file__, str(directory), str(extra or "")]


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def main() -> None:
    """Be the command."""
    directory, extra, *argv = sys.argv[1:]
    here = os.getcwd()
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("none", "/", "none", MS_REC | MS_PRIVATE)
    _mount("tests", directory, "tmpfs", 0)
    root = f"{directory}/root"
    os.mkdir(root, 0o755)
    shown = {f"/{name}": f"{root}/{name}" for name in os.listdir("/")} | ({extra: f"{root}/extra"} if extra else {})
    for source, target in shown.items():
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        elif os.path.isdir(source):
            os.mkdir(target)
            _mount(source, target, "none", MS_BIND | MS_REC)
    os.chroot(root)
    os.chdir(here)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
