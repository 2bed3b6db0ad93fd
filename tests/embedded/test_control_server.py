"""Nobody shuts root and the owner out of a control socket, and whoever is refused is told which limit it was."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from heorot.config.layout import Layout
from heorot.core.errors import HeorotError
from heorot.embedded import control
from heorot.embedded.control_server import MAX_CONNECTIONS, ControlServer
from heorot.runtime.loop import EpollLoop
from heorot.runtime.sockets import listen_unix
from tests.support.other_user import OTHER, as_other, open_to_all, other_holding

SILENCE_S = 1.0
PATIENCE_S = 600.0
"""What is silent on purpose must outlast the forks of a test, however slow the machine is."""
FLOOD = 200
KEPT = 4
"""Connections that no users but root and the owner may have."""


class Served:
    """A control socket that a thread serves."""

    def __init__(self, directory: Path, silence_s: float = PATIENCE_S) -> None:
        self.layout = Layout(str(directory))
        self.path = str(directory / "warden.sock")
        self.log: list[str] = []
        self._loop = EpollLoop()
        sock = listen_unix(directory / "warden.sock", 0o666)
        self._ended, ending = socket.socketpair()
        self._loop.add_reader(ending.fileno(), self._loop.stop)
        self._ending = ending
        self._server = ControlServer(self._loop, sock, "the warden", self._obey, self._note, silence_s)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def _note(self, level: str, text: str) -> None:
        if level != "debug":
            self.log.append(text)

    def _obey(self, request: dict[str, Any], master: bool) -> dict[str, Any]:
        return {"long": "x" * 4_000_000} if request["do"] == "long" else {"master": master}

    def connected(self) -> socket.socket:
        """Return a new connection, which has not said anything."""
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(150)
        sock.connect(self.path)
        return sock

    def ask(self, what: str = "status") -> dict[str, Any]:
        """Give a command on a connection of its own."""
        with self.connected() as sock:
            return control.ask(sock, what)

    def close(self) -> None:
        """End it."""
        self._ended.close()
        self._thread.join(60)
        self._ending.close()
        self._server.close()
        os.unlink(self.path)
        self._loop.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A control socket that everybody can reach."""
    open_to_all(tmp_path)
    made = Served(tmp_path)
    yield made
    made.close()


def told(sock: socket.socket) -> str:
    """Return the error that a connection is closed with; everything that was sent is read."""
    data = b""
    while piece := sock.recv(65536):
        data += piece
    return str(json.loads(data[4:])["error"])


def test_a_flood_of_one_user_shuts_nobody_else_out(served: Served) -> None:
    with other_holding(lambda: [served.connected() for _ in range(FLOOD)]) as count:
        assert count == FLOOD
        assert served.ask() == {"master": True}
        assert as_other(served.ask, OTHER + 1) == {"master": False}

        def one_more() -> str:
            with served.connected() as sock:
                try:
                    control.ask(sock, "status")
                except HeorotError as error:
                    return str(error)
            return ""

        said = as_other(one_more)
    assert said.startswith(f"of at most {MAX_CONNECTIONS} connections to the warden, {OTHER} has 30 and others have 0")
    # One line for the whole flood.
    assert len(served.log) == 1
    assert f"refused a connection of {OTHER}: " in served.log[0]


def test_all_other_users_together_leave_room_for_root(served: Served) -> None:
    with ExitStack() as holders:
        # Each has half of what the one before has left.
        for number in range(8):
            holders.enter_context(other_holding(lambda: [served.connected() for _ in range(40)], OTHER + number))
        said = as_other(lambda: told(served.connected()), OTHER + 99)
        assert "nobody but root may hold more of them than are left for others (0 now)" in said
        kept = [holders.enter_context(served.connected()) for _ in range(KEPT)]
        assert [control.ask(sock, "status") for sock in kept] == [{"master": True}] * KEPT
        with served.connected() as too_many:
            assert told(too_many).startswith(f"of at most {MAX_CONNECTIONS} connections to the warden, root has {KEPT}")


@pytest.mark.parametrize("begun", [b"", b"\0\0\0\x10{"], ids=["silent", "begun"])
def test_a_connection_on_which_no_command_comes_is_closed_and_told_why(tmp_path: Path, begun: bytes) -> None:
    served = Served(tmp_path, SILENCE_S)
    with contextlib.closing(served), served.connected() as sock:
        sock.sendall(begun)
        assert told(sock) == f"no command has come to the warden for {SILENCE_S:g} s"


def test_answers_that_nobody_reads_are_not_kept(served: Served) -> None:
    request = b'{"do": "long"}'
    with served.connected() as sock:
        for _ in range(3):
            sock.sendall(len(request).to_bytes(4, "big") + request)
        data = b""
        while piece := sock.recv(1 << 20):
            data += piece
    answers = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        answers.append(json.loads(data[4:end]))
        data = data[end:]
    assert ["error" in answer for answer in answers] == [False, True]
    assert "one command at a time" in answers[1]["error"]


@pytest.mark.parametrize("payload", [b"[]", b"nonsense", b"[" * 60_000, b'{"do": 1}x'])
def test_what_is_no_command_is_answered(served: Served, payload: bytes) -> None:
    with served.connected() as sock:
        sock.sendall(len(payload).to_bytes(4, "big") + payload)
        length = int.from_bytes(sock.recv(4), "big")
        assert json.loads(sock.recv(length))["error"].startswith("not a command")
