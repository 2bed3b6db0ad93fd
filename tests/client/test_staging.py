"""Detached jobs of the library whose program a head was to keep, when heads are lost on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from heorot.core.client import messages
from tests.client.conftest import Connect
from tests.support.fake_head import FakeHead


def launch(connect: Connect, directory: Path) -> str:
    with connect(directory) as library:
        return library.spawn(["/bin/true"], 3, detached=True, image="send").id


@pytest.fixture(autouse=True)
def no_offer_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client has found out about programs is kept below this directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))


def test_the_next_head_is_to_keep_the_program(connect: Connect, tmp_path: Path) -> None:
    """The first head dies before it has the program, the second before it acknowledges the launch."""
    kept = 0

    def stage(message: list[Any]) -> Any:
        nonlocal kept
        kept += 1
        return b"" if kept == 1 else ["result", message[1], None]

    def spawned(message: list[Any]) -> Any:
        return ["spawned", message[1], "7.1", [3, 1], 65536] if message[messages.SPAWN_AGAIN] else b""

    with FakeHead(tmp_path, {"stage": stage, "spawn": spawned}) as head:
        assert launch(connect, tmp_path) == "7.1"
    assert [request[0] for request in head.requests] == ["hello", "stage", *["hello", "stage", "spawn"] * 2]


def test_an_acknowledged_job_is_not_left_before_the_head_has_its_program(connect: Connect, tmp_path: Path) -> None:
    """The last head is lost, too, after it has acknowledged the launch and before it has the program."""
    kept = 0

    def stage(message: list[Any]) -> Any:
        nonlocal kept
        kept += 1
        return None if kept == 2 else ["result", message[1], None]

    def spawned(message: list[Any]) -> Any:
        if not message[messages.SPAWN_AGAIN]:
            return b""
        return bytes(messages.encode(["spawned", message[1], "7.1", [3, 1], 65536]))

    with FakeHead(tmp_path, {"stage": stage, "spawn": spawned}) as head:
        assert launch(connect, tmp_path) == "7.1"
    assert [request[0] for request in head.requests] == [*["hello", "stage", "spawn"] * 2, "hello", "stage"]
