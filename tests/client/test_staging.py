"""Detached jobs of the library whose program a head was to keep, when heads are lost on the way."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import heorot
from heorot import aio
from heorot.core.client import messages
from tests.support.fake_head import FakeHead


def launch(directory: Path) -> str:
    with heorot.connect(directory) as library:
        return library.spawn(["/bin/true"], 3, detached=True, image="send").id


def launch_asynchronously(directory: Path) -> str:
    async def spawn() -> str:
        async with aio.connect(directory) as library:
            return (await library.spawn(["/bin/true"], 3, detached=True, image="send")).id

    return asyncio.run(spawn())


@pytest.fixture(autouse=True)
def no_offer_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a client has found out about programs is kept below this directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path / "cache"))


@pytest.mark.parametrize("spawn", [launch, launch_asynchronously])
def test_the_next_head_is_to_keep_the_program(tmp_path: Path, spawn: Callable[[Path], str]) -> None:
    """The first head dies before it has the program, the second before it acknowledges the launch."""
    kept = 0

    def stage(message: list[Any]) -> Any:
        nonlocal kept
        kept += 1
        return b"" if kept == 1 else ["result", message[1], None]

    def spawned(message: list[Any]) -> Any:
        return ["spawned", message[1], "7.1", [3, 1], 65536] if message[messages.SPAWN_AGAIN] else b""

    with FakeHead(tmp_path, {"stage": stage, "spawn": spawned}) as head:
        assert spawn(tmp_path) == "7.1"
    assert [request[0] for request in head.requests] == ["hello", "stage", *["hello", "stage", "spawn"] * 2]


@pytest.mark.parametrize("spawn", [launch, launch_asynchronously])
def test_an_acknowledged_job_is_not_left_before_the_head_has_its_program(
    tmp_path: Path, spawn: Callable[[Path], str]
) -> None:
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
        assert spawn(tmp_path) == "7.1"
    assert [request[0] for request in head.requests] == [*["hello", "stage", "spawn"] * 2, "hello", "stage"]
