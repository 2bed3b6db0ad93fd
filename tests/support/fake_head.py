"""A head that says what a test wants: for answers and faults that a real head cannot be brought to give at will."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import msgpack

ACCEPT_POLL_S = 0.05
Answer = Callable[[list[Any]], "list[Any] | bytes | None"]


class Staying(bytes):
    """Raw bytes after which the connection stays."""


def result(value: Any) -> Answer:
    """Answer every request with this value."""
    return lambda message: ["result", message[1], value]


class FakeHead:
    """Serves ``head.sock`` in a directory.

    Parameters
    ----------
    answers:
        For each tag what to answer: a message, raw bytes to send as they are before the connection is closed, or stays
        (`Staying`), or None to say nothing.
    """

    def __init__(self, directory: Path, answers: dict[str, Answer]) -> None:
        self.directory = directory
        self.answers = answers
        self.requests: list[list[Any]] = []
        self._stopping = False
        self._socket = socket.socket(socket.AF_UNIX)
        descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            self._socket.bind(f"/proc/self/fd/{descriptor}/head.sock")
        finally:
            os.close(descriptor)
        self._socket.listen(8)
        self._socket.settimeout(ACCEPT_POLL_S)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> FakeHead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join(10)
        self._socket.close()
        (self.directory / "head.sock").unlink()

    def _serve(self) -> None:
        while not self._stopping:
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                continue
            with connection:
                connection.settimeout(ACCEPT_POLL_S)
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        buffer = b""
        while not self._stopping:
            try:
                data = connection.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                return
            if not data:
                return
            buffer += data
            while len(buffer) >= 4 and len(buffer) >= 4 + int.from_bytes(buffer[:4], "big"):
                end = 4 + int.from_bytes(buffer[:4], "big")
                message = msgpack.unpackb(buffer[4:end])
                buffer = buffer[end:]
                self.requests.append(message)
                answer = self.answers.get(message[0], _welcome)(message)
                if isinstance(answer, bytes):
                    connection.sendall(answer)
                    if not isinstance(answer, Staying):
                        return
                    continue
                if answer is not None:
                    payload = msgpack.packb(answer)
                    connection.sendall(len(payload).to_bytes(4, "big") + payload)


def _welcome(message: list[Any]) -> list[Any] | None:
    return ["welcome", 1, "0", "fake", 1] if message[0] == "hello" else None
