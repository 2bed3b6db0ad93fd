"""Joins a cluster, or renews a certificate, over a socket: the blocking shell of `heorot.security.join_host`."""

from __future__ import annotations

import socket
import ssl
import time

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.core.wire.joining import MAX_JOIN_FRAME_BYTES, JoinAccepted
from heorot.security.authority import Identity
from heorot.security.join_host import HostSide, JoinClient, JoinRefusedError, RenewalClient
from heorot.security.tls import explain, joining_context
from heorot.security.tokens import Token

ATTEMPTS = 5
TIMEOUT_SECONDS = 15.0


def join(
    host: str,
    port: int,
    token: Token,
    *,
    node: int = -1,
    name: str = "",
    head: Identity | None = None,
    attempts: int = ATTEMPTS,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> tuple[Identity, JoinAccepted, str]:
    """Make this host a node.

    A lost connection is tried again with the same key, to which the head gives the same number: no token use is lost.

    Parameters
    ----------
    host, port
        Where the head accepts links.
    token
        From ``heorot token create``.
    node
        The number to ask for; -1: the next free one.
    name
        What the host calls itself, for people.
    head
        Of the head on this very host.
    attempts
        How often to try.
    timeout_seconds
        For one attempt to connect, and for each answer.

    Returns
    -------
    tuple
        The identity (not written yet), the head's answer, and the address by which this host reached the head.

    Raises
    ------
    SecurityError
        If the head cannot be reached or trusted, or refuses; says why.
    """
    client = JoinClient(token, node=node, host=name, head=head)
    return _ask(host, port, client, "join", attempts, timeout_seconds)


def renew(
    host: str, port: int, identity: Identity, *, attempts: int = ATTEMPTS, timeout_seconds: float = TIMEOUT_SECONDS
) -> Identity:
    """Return this node's identity with a newer certificate, for the same key. Raises SecurityError like `join`."""
    return _ask(host, port, RenewalClient(identity), "renew", attempts, timeout_seconds)[0]


def _ask(
    host: str, port: int, client: HostSide, verb: str, attempts: int, timeout_seconds: float
) -> tuple[Identity, JoinAccepted, str]:
    context = joining_context()
    failure = ""
    for attempt in range(attempts):
        if attempt:
            time.sleep(0.2 * 2**attempt)
        try:
            with socket.create_connection((host, port), timeout_seconds) as raw:
                address = str(raw.getsockname()[0])
                with context.wrap_socket(raw) as connection:
                    identity, accepted = _converse(connection, client)
                return identity, accepted, address
        except JoinRefusedError as error:
            if error.code != "busy":
                raise
            failure = str(error)
        except OSError as error:
            failure = "no answer in time" if isinstance(error, TimeoutError) else explain(error)
            if isinstance(error, ConnectionError):
                # A head on standby passes us on, and has nobody to pass us on to.
                failure += "; is a head active? 'heorot status' on a head's host says it"
        except ProtocolError as error:
            raise SecurityError(f"{host}:{port} does not speak Heorot's join protocol: {error}") from error
    raise SecurityError(f"cannot {verb} through the head {host}:{port}: {failure}")


def _converse(connection: ssl.SSLSocket, client: HostSide) -> tuple[Identity, JoinAccepted]:
    decoder = FrameDecoder(MAX_JOIN_FRAME_BYTES)
    greeting = _receive(connection, decoder)
    request = client.request(greeting, connection.getpeercert(binary_form=True))
    connection.sendall(encode_frame(request))
    return client.accepted(_receive(connection, decoder))


def _receive(connection: ssl.SSLSocket, decoder: FrameDecoder) -> bytes:
    while True:
        data = connection.recv(16384)
        if not data:
            raise ConnectionResetError("the head closed the connection without an answer")
        frames = decoder.feed(data)
        if len(frames) > 1:
            raise ProtocolError("more than one frame in place of an answer")
        if frames:
            return frames[0]
