"""TLS between memory buffers; `heorot.runtime.channel` says why."""

from __future__ import annotations

import contextlib
import ssl
from typing import cast


class TlsCodec:
    """One TLS connection between memory buffers."""

    def __init__(self, context: ssl.SSLContext, *, server_side: bool) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_side=server_side)
        self.established = False

    def handshake(self) -> bool:
        """Go on with the handshake; return whether it is complete. Raises ssl.SSLError."""
        try:
            self.object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.established = True
        return True

    def feed(self, data: memoryview) -> None:
        """Take what the socket delivered."""
        self._incoming.write(data)

    def decrypt_into(self, buffer: memoryview) -> int | None:
        """Put plain bytes of at most one record into `buffer`, and return how many: 0 if none are there yet, None if
        the peer has ended the connection. Raises ssl.SSLError.
        """
        if not self._incoming.pending and not self.object.pending():
            return 0
        try:
            # With a buffer it returns a number, whatever its stub says.
            return cast("int", self.object.read(len(buffer), buffer)) or None
        except ssl.SSLWantReadError:
            return 0
        except ssl.SSLZeroReturnError:
            return None

    def encrypt(self, parts: list[bytes | memoryview]) -> bytes:
        """Return what to send for `parts`, one after the other."""
        for part in parts:
            self.object.write(part)
        return self._outgoing.read()

    def pending(self) -> bytes:
        """Return what TLS itself has to send: handshake messages and alerts."""
        return self._outgoing.read()

    def end(self) -> bytes:
        """Return what tells the peer that nothing more follows."""
        with contextlib.suppress(ssl.SSLError):
            self.object.unwrap()
        return self._outgoing.read()
