"""What a command that watches says to a head, and shows of what it hears."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heorot.core.client.messages import encode
from tests.cluster.harness import DEADLINE_S, Cluster, Running, await_that
from tests.support.fake_head import Answer, FakeHead, Staying


def node(number: int, state: str = "up") -> dict[str, Any]:
    """Return a row of a node."""
    return {
        "id": number, "name": f"n{number}", "state": state, "parent": -1, "agent_pid": 1, "init_pid": 1, "address": "",
        "mode": 0o111, "uid": 0, "gid": 0, "user": "root", "group": "root", "release": "", "ranks": 0, "silent": False,
        "seen": True,
    }  # fmt: skip


def changed(request: int, rows: list[dict[str, Any]], *, full: bool = False, named: tuple[int, ...] = ()) -> list[Any]:
    """Return an update of nodes."""
    return ["changed", request, "nodes", full, rows, [], False, [], list(named)]


@contextmanager
def updating(directory: Path, *words: str) -> Iterator[Running]:
    """Run ``bpstat --update`` into a pipe, and end it."""
    with Cluster(directory).start("bpstat", "--update", "--json", *words) as command:
        yield command
        command.terminate()
        assert command.wait(DEADLINE_S) == -signal.SIGTERM


def line(command: Running) -> Any:
    """Return the next picture."""
    assert command.stdout is not None
    return json.loads(command.stdout.readline())


def test_a_command_that_watches_asks_once_and_is_told(tmp_path: Path) -> None:
    seen = iter([changed(1, [node(0, "down")]), None, None])
    answers: dict[str, Answer] = {
        "watch": lambda message: changed(message[1], [node(0), node(1)], full=True),
        "seen": lambda _: next(seen),
    }
    with FakeHead(tmp_path, answers) as head, updating(tmp_path) as command:
        assert [row["state"] for row in line(command)] == ["up", "up"]
        assert [row["state"] for row in line(command)] == ["down", "up"]
        await_that(lambda: len(head.requests) == 4, "the second update to be acknowledged")
        assert [message[0] for message in head.requests] == ["hello", "watch", "seen", "seen"]
        assert head.requests[1][2:] == [["nodes"], 1000, "", None]


def test_nodes_stand_in_the_order_in_which_they_were_named_repeats_included(tmp_path: Path) -> None:
    def watched(message: list[Any]) -> list[Any]:
        assert message[4] == "n1,n0,n1"
        return changed(message[1], [node(1), node(0)], full=True, named=(1, 1, 0, 2))

    answers: dict[str, Answer] = {"watch": watched, "seen": lambda _: None}
    with FakeHead(tmp_path, answers), updating(tmp_path, "-O", "n1,n0,n1") as command:
        assert [row["id"] for row in line(command)] == [1, 0, 1]


def test_a_refusal_is_shown_and_the_watch_tried_again(tmp_path: Path) -> None:
    refused = iter([True])

    def watched(message: list[Any]) -> list[Any]:
        if next(refused, False):
            return ["error", message[1], "busy", "too many watches"]
        return changed(message[1], [node(0)], full=True)

    with FakeHead(tmp_path, {"watch": watched, "seen": lambda _: None}), updating(tmp_path) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == b"bpstat: too many watches\n"
        assert [row["id"] for row in line(command)] == [0]


def test_a_head_that_goes_is_replaced_by_the_next_and_its_picture_stays_meanwhile(tmp_path: Path) -> None:
    heads = iter([[node(0), node(1)], [node(0), node(1, "down")]])

    def watched(message: list[Any]) -> list[Any]:
        return changed(message[1], next(heads), full=True)

    gone = iter([b"", None])
    (tmp_path / "cluster.toml").touch()
    with FakeHead(tmp_path, {"watch": watched, "seen": lambda _: next(gone, None)}), updating(tmp_path) as command:
        assert [row["state"] for row in line(command)] == ["up", "up"]
        assert [row["state"] for row in line(command)] == ["up", "down"]


def test_a_head_that_breaks_the_protocol_is_said_and_asked_again(tmp_path: Path) -> None:
    broken = iter([Staying(encode(["changed", 1, "nodes", True, 7, [], False, [], []]))])

    def watched(message: list[Any]) -> Any:
        return next(broken, None) or changed(message[1], [node(0)], full=True)

    with FakeHead(tmp_path, {"watch": watched, "seen": lambda _: None}), updating(tmp_path) as command:
        assert command.stdout is not None
        assert b"malformed" in command.stdout.readline()
        assert [row["id"] for row in line(command)] == [0]
