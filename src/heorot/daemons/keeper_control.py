"""The socket on which a keeper is asked how it is, and told to hand over (`heorot head switch`) or to read its settings
again (`heorot config reload`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heorot.core.errors import HeorotError
from heorot.linux.slot_file import with_room
from heorot.runtime.loop import boot_time
from heorot.runtime.sockets import listen_unix, peer_credentials

SOCKET_NAME = "keeper.sock"
CONTROL_TIMEOUT_S = 0.25
"""A slow one must not keep the lease waiting."""
MAX_REQUEST_BYTES = 4096


class KeeperControl:
    """Takes one request after the other: ``{"do": "status"}``, ``{"do": "switch", "name": ...}``, ``{"do": "reload"}``.
    Each is JSON behind four bytes with its length, big-endian; the answer likewise.
    """

    def __init__(self, directory: Path, make_room: Callable[[], bool]) -> None:
        self._path = directory / SOCKET_NAME
        # A name needs room, too, where files are counted.
        self._listener = with_room(lambda: listen_unix(self._path, 0o600), make_room)
        self._listener.setblocking(False)
        self._asking: socket.socket | None = None

    def fileno(self) -> int:
        """Return what becomes readable when somebody asks."""
        return self._listener.fileno()

    def request(self) -> dict[str, Any] | None:
        """Return a request, which wants an `answer`; None: there is none, or it was refused."""
        try:
            asking, _ = self._listener.accept()
        except OSError:
            return None
        self._hang_up()
        self._asking = asking
        # Only root and the owner can reach the socket; it is asked all the same.
        try:
            if peer_credentials(asking)[1] not in (0, os.geteuid()):
                raise HeorotError("only root and the cluster's owner may do that")
            request = json.loads(_receive(asking))
            if not isinstance(request, dict):
                raise HeorotError("not a command: not an object of JSON")
        except (ValueError, RecursionError) as error:
            self.answer({"error": f"not a command: {error}"})
        except HeorotError as error:
            self.answer({"error": str(error)})
        except OSError:
            self._hang_up()
        else:
            return request
        return None

    def answer(self, value: dict[str, Any]) -> None:
        """Answer the last request."""
        if self._asking is not None:
            payload = json.dumps(value).encode()
            self._asking.settimeout(CONTROL_TIMEOUT_S)
            with contextlib.suppress(OSError):
                self._asking.sendall(len(payload).to_bytes(4, "big") + payload)
            self._hang_up()

    def _hang_up(self) -> None:
        if self._asking is not None:
            self._asking.close()
            self._asking = None

    def close(self) -> None:
        """Ask no more; the socket is gone afterwards."""
        self._hang_up()
        self._listener.close()
        self._path.unlink(missing_ok=True)


def _receive(sock: socket.socket) -> bytes:
    """Return a request that comes whole within `CONTROL_TIMEOUT_S`. Raises OSError, HeorotError."""
    data = b""
    until_s = boot_time() + CONTROL_TIMEOUT_S
    while len(data) < 4 or len(data) < 4 + int.from_bytes(data[:4], "big"):
        if len(data) > MAX_REQUEST_BYTES:
            raise HeorotError("the command is too long")
        left_s = until_s - boot_time()
        if left_s <= 0:
            raise TimeoutError("the command does not come")
        sock.settimeout(left_s)
        part = sock.recv(MAX_REQUEST_BYTES)
        if not part:
            raise OSError("closed")
        data += part
    return data[4:]
