"""What a pseudo-terminal needs beyond a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import struct
import termios


def set_size(fd: int, rows: int, columns: int) -> None:
    """Tell a terminal its size; the kernel sends SIGWINCH to its foreground group if it has changed."""
    with contextlib.suppress(OSError):
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def end_of_file(fd: int, last_byte: bytes) -> bytes:
    """Return what makes the terminal's reader see the end, after input that ended with `last_byte`.

    The character hands over what was typed so far; only with nothing before it in its line it is an end of file.
    """
    try:
        character = termios.tcgetattr(fd)[6][termios.VEOF]
    except termios.error:
        character = b"\x04"
    assert isinstance(character, bytes)
    return character if last_byte in (b"", b"\n") else character * 2
