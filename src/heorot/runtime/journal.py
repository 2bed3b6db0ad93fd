"""Lines for the journal of systemd, with fields to search by, in its own protocol (systemd.journal-fields(7), "Native
Journal Protocol"): one datagram a line, dropped if the journal does not take it at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

PATH = "/run/systemd/journal/socket"
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}
"""As of syslog(3)."""
_LENGTH_BYTES = 8


class Journal:
    """Sends to the journal at `path`."""

    def __init__(self, path: str = PATH) -> None:
        self._path = path
        self._sock: socket.socket | None = None

    @classmethod
    def of_service(cls) -> Journal | None:
        """Return the journal if this process is a service of systemd (``JOURNAL_STREAM``, systemd.exec(5))."""
        if "JOURNAL_STREAM" not in os.environ or not os.path.exists(PATH):
            return None
        return cls()

    def __call__(self, level: str, text: str, fields: Mapping[str, str | int]) -> None:
        """Send one line. `fields` become ``HEOROT_NODE`` and so on."""
        entry = _field("MESSAGE", text) + _field("PRIORITY", str(PRIORITIES.get(level, 3)))
        entry += b"".join(_field(f"HEOROT_{name.upper()}", str(value)) for name, value in fields.items())
        with contextlib.suppress(OSError):
            if self._sock is None:
                self._sock = socket.socket(
                    socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
                )
            self._sock.sendto(entry, self._path)

    def forget(self) -> None:
        """Make another socket for the next line: after a fork, the descriptor is the parent's."""
        if self._sock is not None:
            self._sock.detach()
            self._sock = None

    def close(self) -> None:
        """Close the socket; the next line opens another."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def _field(name: str, value: str) -> bytes:
    data = value.encode("utf-8", "backslashreplace")
    if b"\n" in data:
        # Its length stands in front, little-endian.
        return name.encode() + b"\n" + len(data).to_bytes(_LENGTH_BYTES, "little") + data + b"\n"
    return name.encode() + b"=" + data + b"\n"
