"""A store that lies: between the heads and a real etcd it passes all on, until a test has it answer otherwise."""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from tests.support.etcd import free_ports

ROOT = Path(__file__).resolve().parents[2]
POLL_S = 0.05
MAX_REQUEST_BYTES = 65536

Lie = tuple[bytes, bytes, bool]
"""What to answer to every request: this at once, then this again and again, and whether to close afterwards."""


def http(body: bytes, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """Return an answer of HTTP."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Liar:
    """A process that listens at `url` in front of the member of etcd at `behind` (both ``http://127.0.0.1:PORT``)."""

    def __init__(self, behind: str) -> None:
        (port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.liar", str(port), behind.rpartition(":")[2]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    def __enter__(self) -> Liar:
        self._await_word()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, lie: Lie | None) -> None:
        """Have it answer so from now on (None: the truth); every connection that stands is closed."""
        words = None if lie is None else [lie[0].hex(), lie[1].hex(), lie[2]]
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()
        self._await_word()

    def _await_word(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"so be it\n"


class _Server:
    """What runs in the process. `turn` counts what it was told."""

    def __init__(self, port: int, behind: int) -> None:
        self._behind = behind
        self._lie: Lie | None = None
        self._turn = 0
        self._socket = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def tell(self, lie: Lie | None) -> None:
        self._lie = lie
        self._turn += 1

    def _serve(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            threading.Thread(target=self._converse, args=(connection, self._turn), daemon=True).start()

    def _converse(self, connection: socket.socket, turn: int) -> None:
        lie = self._lie
        with connection, suppress(OSError):
            connection.settimeout(POLL_S)
            if lie is None:
                with socket.create_connection(("127.0.0.1", self._behind)) as behind:
                    self._pass_on(connection, behind, turn)
            else:
                for _ in self._requests(connection, turn):
                    self._answer(connection, lie, turn)
                    if lie[2]:
                        return

    def _is_over(self, turn: int) -> bool:
        return self._turn != turn

    def _pass_on(self, here: socket.socket, there: socket.socket, turn: int) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(here, selectors.EVENT_READ, there)
            selector.register(there, selectors.EVENT_READ, here)
            while not self._is_over(turn):
                for key, _ in selector.select(POLL_S):
                    source, target = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    data = source.recv(MAX_REQUEST_BYTES)
                    if not data:
                        return
                    target.sendall(data)

    def _requests(self, connection: socket.socket, turn: int) -> Iterator[bytes]:
        """Give each request when all of it has come."""
        buffer = b""
        while not self._is_over(turn):
            try:
                data = connection.recv(MAX_REQUEST_BYTES)
            except TimeoutError:
                continue
            if not data:
                return
            buffer += data
            head, end, body = buffer.partition(b"\r\n\r\n")
            length = [int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length:" in line]
            if end and len(body) >= sum(length):
                yield buffer
                buffer = b""

    def _answer(self, connection: socket.socket, lie: Lie, turn: int) -> None:
        first, again, _ = lie
        connection.sendall(first)
        # One byte again and again is a drip, more is a flood.
        pause = threading.Event()
        while again and not self._is_over(turn):
            with suppress(TimeoutError):
                connection.sendall(again)
            if len(again) == 1:
                pause.wait(POLL_S)


def main(port: str, behind: str) -> None:
    """Serve, and do as the lines of stdin say."""
    server = _Server(int(port), int(behind))
    print("so be it", flush=True)
    for line in sys.stdin:
        words = json.loads(line)
        server.tell(words and (bytes.fromhex(words[0]), bytes.fromhex(words[1]), words[2]))
        print("so be it", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
