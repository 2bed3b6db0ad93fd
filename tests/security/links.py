"""One TLS handshake over a loopback socket, with real clients and servers in threads."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

TIMEOUT_SECONDS = 10.0

Outcome = ssl.SSLSocket | Exception


def shake_hands(
    server: ssl.SSLContext, client: ssl.SSLContext, inspect: Callable[[ssl.SSLSocket], object]
) -> tuple[object, object]:
    """Connect, exchange one byte in both directions, and return what `inspect` gave or the error, (server, client)."""
    results: dict[str, object] = {}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(TIMEOUT_SECONDS)

        def serve() -> None:
            raw, _ = listener.accept()
            results["server"] = _converse(raw, server, inspect, server_side=True)

        thread = threading.Thread(target=serve)
        thread.start()
        raw = socket.create_connection(listener.getsockname(), TIMEOUT_SECONDS)
        results["client"] = _converse(raw, client, inspect, server_side=False)
        thread.join()
    return results["server"], results["client"]


def _converse(
    raw: socket.socket, context: ssl.SSLContext, inspect: Callable[[ssl.SSLSocket], object], *, server_side: bool
) -> object:
    raw.settimeout(TIMEOUT_SECONDS)
    try:
        with raw, context.wrap_socket(raw, server_side=server_side) as connection:
            result = inspect(connection)
            if server_side:
                connection.sendall(b"x")
            # In TLS 1.3 the client learns only now whether the server accepts its certificate. It has sent nothing more
            # until then: unread bytes at the server would turn the server's last word into a reset.
            if connection.recv(1) != b"x":
                raise ConnectionResetError("closed by the peer")
            if not server_side:
                connection.sendall(b"x")
            return result
    except Exception as error:  # whatever it is, the test looks at it
        with suppress(OSError):
            raw.close()
        return error
