"""Runs a command on a host whose /etc/heorot is a directory of the test.

    python own_etc.py ETC CONFIGURATION COMMAND...

ETC is an empty directory, on which a small /etc is made in mounts of this process's own: nothing is left of it when the
command has ended. CONFIGURATION appears as `/etc/heorot` there. This file imports nothing of the tests: it is run by
itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
COPIED = ("passwd", "group", "nsswitch.conf", "hosts", "ld.so.cache")


def with_configuration(etc: Path, configuration: Path) -> list[str]:
    """Return the words in front of a command that make it run so."""
    return [sys.executable, __file__, str(etc), str(configuration)]


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)


def main() -> None:
    """Be the command."""
    etc, configuration, *argv = sys.argv[1:]
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    _mount("none", "/", "none", MS_REC | MS_PRIVATE)
    _mount("tests", etc, "tmpfs", 0)
    os.chmod(etc, 0o755)
    for name in COPIED:
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"/etc/{name}", f"{etc}/{name}")
    os.mkdir(f"{etc}/heorot", 0o755)
    _mount(configuration, f"{etc}/heorot", "none", MS_BIND)
    _mount(etc, "/etc", "none", MS_BIND | MS_REC)
    os.execvp(argv[0], argv)


if __name__ == "__main__":
    main()
