"""A client of etcd's JSON gateway (etcd v3, ``/v3/...``): one call at a time, each with one deadline for all of it.

On any error the next member is asked, whatever the error was: a member that refuses may only be behind, or cut off from
the others. Why not a library: docs/decisions/etcd-client.md.

The gateway: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/. Keys and values are base64, 64-bit numbers
are texts.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import socket
import ssl
import time
import urllib.parse
from typing import Any

from msgspec import Struct

from heorot.core.keeper.election import StoreRefused, StoreUnavailable

MAX_ANSWER_BYTES = 1024 * 1024
UNAUTHENTICATED = 16
"""The gRPC status of a token that has run out."""
UNAVAILABLE_CODES = (1, 2, 4, 8, 10, 13, 14)
"""gRPC statuses that time may heal: cancelled, unknown, deadline exceeded, exhausted, aborted, internal,
unavailable."""


class EtcdSettings(Struct, frozen=True):
    """How to reach etcd.

    `endpoints` are URLs such as ``https://10.0.0.1:2379``; `ca`, `certificate` and `key` are paths of PEM files, empty
    if not used; `password` is not shown by `repr`.
    """

    endpoints: tuple[str, ...]
    ca: str = ""
    certificate: str = ""
    key: str = ""
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"EtcdSettings({', '.join(self.endpoints)})"


class _Refusal(Exception):
    """A member has answered, but not with what was asked for."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Stream(io.RawIOBase):
    """A socket as `http.client` wants it, with a deadline for everything: drops of bytes do not move it."""

    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        self.socket = sock
        self.deadline_s = deadline_s

    def _arm(self) -> None:
        left_s = self.deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        self.socket.settimeout(left_s)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._arm()
        return self.socket.recv_into(buffer)

    def sendall(self, data: Any) -> None:
        view = memoryview(data)
        while view:
            self._arm()
            view = view[self.socket.send(view) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        """Nothing: `http.client` closes too early for our purpose, and `_Member` closes the socket itself."""


class _Member:
    """One member of the etcd cluster, and the connection to it."""

    def __init__(self, url: str, context: ssl.SSLContext | None) -> None:
        parts = urllib.parse.urlsplit(url)
        self.url = url
        self.host = parts.hostname or ""
        self.port = parts.port or 2379
        self._context = context if parts.scheme == "https" else None
        self._stream: _Stream | None = None

    def request(self, path: str, body: bytes, token: str, deadline_s: float) -> http.client.HTTPResponse:
        """Send a request and return the head of its answer. Raises OSError or HTTPException."""
        if self._stream is None:
            self._stream = self._connect(deadline_s)
        self._stream.deadline_s = deadline_s
        connection = http.client.HTTPConnection(self.host, self.port)
        connection.sock = self._stream
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = token
        connection.request("POST", path, body, headers)
        return connection.getresponse()

    def _connect(self, deadline_s: float) -> _Stream:
        sock = socket.create_connection((self.host, self.port), max(0.001, deadline_s - time.monotonic()))
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                sock.settimeout(max(0.001, deadline_s - time.monotonic()))
                sock = self._context.wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise
        return _Stream(sock, deadline_s)

    def take_socket(self) -> socket.socket:
        """Give the connection away."""
        assert self._stream is not None
        stream, self._stream = self._stream, None
        return stream.socket

    def close(self) -> None:
        """Close the connection; the next request makes a new one."""
        if self._stream is not None:
            self._stream.socket.close()
            self._stream = None


class EtcdClient:
    """Speaks to one member at a time. Raises StoreRefused if the settings cannot be used."""

    def __init__(self, settings: EtcdSettings) -> None:
        self._settings = settings
        context = None
        if any(url.startswith("https:") for url in settings.endpoints):
            try:
                context = ssl.create_default_context(cafile=settings.ca or None)
                if settings.certificate:
                    context.load_cert_chain(settings.certificate, settings.key or None, password="")
            except (OSError, ValueError) as error:
                raise StoreRefused(f"cannot use the TLS files for etcd: {error}") from error
        self._members = [_Member(url, context) for url in settings.endpoints]
        self._current = 0
        self._token = ""

    def call(self, path: str, body: dict[str, Any], budget_s: float) -> dict[str, Any]:
        """Ask for something, of each member in turn if need be, and return the answer, within `budget_s`.

        Raises
        ------
        StoreUnavailable
            If no member could do it now; it may have been done all the same.
        StoreRefused
            If every member refused, or answered what cannot be understood.
        """
        deadline_s = time.monotonic() + budget_s
        problems: list[str] = []
        final = True
        for tries_left in range(len(self._members), 0, -1):
            now_s = time.monotonic()
            member = self._members[self._current]
            try:
                return self._ask(member, path, body, now_s + max(0.0, deadline_s - now_s) / tries_left)
            except _Refusal as refusal:
                problems.append(f"{member.url}: {refusal}")
                final = final and refusal.code not in UNAVAILABLE_CODES
            except (OSError, ValueError, http.client.HTTPException) as error:
                problems.append(f"{member.url}: {str(error) or type(error).__name__}")
                # Something that speaks, but not HTTP, is no etcd; one that ends while it speaks may be.
                final = final and not isinstance(error, OSError | http.client.IncompleteRead)
            member.close()
            self._current = (self._current + 1) % len(self._members)
        text = "; ".join(problems)[:1000]
        if final:
            raise StoreRefused(f"etcd refuses {path}: {text}")
        raise StoreUnavailable(f"etcd does not answer: {text}")

    def _ask(self, member: _Member, path: str, body: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        if self._settings.user and not self._token:
            self._authenticate(member, deadline_s)
        try:
            return self._exchange(member, path, body, deadline_s)
        except _Refusal as refusal:
            expired = refusal.code == UNAUTHENTICATED or "invalid auth token" in str(refusal)
            if not self._settings.user or not (expired or "revision of auth store is old" in str(refusal)):
                raise
        self._authenticate(member, deadline_s)
        return self._exchange(member, path, body, deadline_s)

    def _authenticate(self, member: _Member, deadline_s: float) -> None:
        self._token = ""
        body = {"name": self._settings.user, "password": self._settings.password}
        token = self._exchange(member, "/v3/auth/authenticate", body, deadline_s).get("token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise _Refusal(0, "the answer to the authentication holds no token")
        self._token = token

    def _exchange(self, member: _Member, path: str, body: dict[str, Any], deadline_s: float) -> dict[str, Any]:
        response = member.request(path, json.dumps(body).encode(), self._token, deadline_s)
        data = response.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            raise _Refusal(0, f"an answer of more than {MAX_ANSWER_BYTES} bytes")
        if response.will_close:
            member.close()
        answer = decode(data)
        # What streams puts its messages, and its errors, below a key of their own.
        if isinstance(answer.get("result"), dict) and "header" not in answer:
            answer = answer["result"]
        _check(response.status, answer)
        return answer

    def watch(self, key: bytes, end: bytes, budget_s: float) -> socket.socket:
        """Watch a range of keys; return a socket that becomes readable when one of them changes, or it breaks.

        It is only a hint: read the keys again, after this has returned. Raises StoreUnavailable.
        """
        member = self._members[self._current]
        member.close()
        body = {"create_request": {"key": encode64(key), "range_end": encode64(end)}}
        try:
            response = member.request("/v3/watch", json.dumps(body).encode(), self._token, time.monotonic() + budget_s)
            # The first message says that the watch stands.
            _check(response.status, decode(response.readline(MAX_ANSWER_BYTES)))
            return member.take_socket()
        except (OSError, ValueError, http.client.HTTPException, _Refusal) as error:
            member.close()
            raise StoreUnavailable(f"{member.url}: cannot watch: {error}") from error

    def close(self) -> None:
        """Close all connections."""
        for member in self._members:
            member.close()


def decode(data: bytes) -> dict[str, Any]:
    """Return an object of JSON. Raises _Refusal."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _Refusal(0, f"the answer is not what etcd says: {data[:160]!r}") from error
    if not isinstance(value, dict):
        raise _Refusal(0, f"the answer is not what etcd says: {data[:60]!r}")
    return value


def _check(status: int, answer: dict[str, Any]) -> None:
    """Raise _Refusal if the answer is an error."""
    error = answer.get("error")
    if status == 200 and error is None:
        return
    code = answer.get("code", 0)
    if isinstance(error, dict):
        # As in a stream.
        code, error = error.get("grpc_code", 0), error.get("message")
    if not isinstance(code, int):
        code = 0
    if status >= 500 and code == 0:
        code = 14
    raise _Refusal(code, f"{error or answer.get('message') or 'HTTP status'} ({status}, code {code})")


def encode64(data: bytes) -> str:
    """Return bytes as the gateway wants them."""
    return base64.b64encode(data).decode("ascii")


def decode64(text: Any) -> bytes:
    """Return the bytes that the gateway gave; a missing value is empty. Raises StoreRefused."""
    with contextlib.suppress(ValueError, TypeError):
        return base64.b64decode(text or "", validate=True)
    raise StoreRefused(f"etcd gave a value that is not base64: {str(text)[:60]!r}")


def number(value: Any) -> int:
    """Return a number that the gateway gave as text; a missing one is 0. Raises StoreRefused."""
    if value is None:
        return 0
    with contextlib.suppress(ValueError, TypeError):
        if not isinstance(value, bool | float):
            return int(value)
    raise StoreRefused(f"etcd gave what is no number: {str(value)[:60]!r}")
