"""Runs a command to which the kernel refuses mount(2), as containers and sandboxes do.

    python without_mount.py COMMAND...

This file imports nothing of the tests: it is run by itself.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, EPERM = 0x7FFF0000, 0x00050001
MOUNT = 165 if os.uname().machine == "x86_64" else 40


def without_mount() -> list[str]:
    """Return the words in front of a command that make it run so."""
    return [sys.executable, __file__]


def main() -> None:
    """Be the command."""
    steps = [(LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, MOUNT), (RETURN, 0, 0, EPERM), (RETURN, 0, 0, ALLOW)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    described = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(steps), ctypes.addressof(program)))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, described, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_SECCOMP)")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
