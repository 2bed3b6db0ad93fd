"""``heorot head start`` and ``stop``: when they return, and what they say of a head that does not list the change."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from heorot.cli.admin import head_control
from tests.support.fake_head import Answer, FakeHead, result


def head(name: str, leader: str, problem: str = "") -> dict[str, Any]:
    """Return what the warden says of a head that stands by."""
    return {"name": name, "role": "standby", "keeper_pid": 7, "leader": leader, "problem": problem}


@contextlib.contextmanager
def warden(*told: list[dict[str, Any]]) -> Iterator[None]:
    """Obey one command; when it asks how the heads are, say these one after the other, and the last again."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("warden.sock")
        listener.listen()
        listener.settimeout(10)

        def obey() -> None:
            connection, _ = listener.accept()
            left = list(told)
            with connection, connection.makefile("rb") as asked:
                while length := asked.read(4):
                    request = json.loads(asked.read(int.from_bytes(length, "big")))
                    known = {"heads": left.pop(0) if len(left) > 1 else left[0]} if request["do"] == "status" else {}
                    answer = json.dumps(known).encode()
                    connection.sendall(len(answer).to_bytes(4, "big") + answer)

        thread = threading.Thread(target=obey)
        thread.start()
        yield
        thread.join()
        Path("warden.sock").unlink()


@pytest.fixture
def _warden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Obey one command, and say that h1 stands by as long as that is asked."""
    monkeypatch.chdir(tmp_path)  # a short path
    with warden([head("h1", "h0")]):
        yield


def lists(*names: str) -> Answer:
    """Answer a question for the status with these heads."""
    return result({"heads": [{"name": name} for name in names]})


def said(capsys: pytest.CaptureFixture[str], directory: Path, what: str) -> str:
    assert head_control.main([what, "h1", "--dir", str(directory)]) == 0
    return capsys.readouterr().err


@pytest.mark.usefixtures("_warden")
@pytest.mark.parametrize(("what", "listed"), [("start", ["h0"]), ("stop", ["h0", "h1"])])
def test_a_head_that_does_not_list_the_change_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str, listed: list[str]
) -> None:
    monkeypatch.setattr(head_control, "LISTING_TIMEOUT_S", 0.1)
    with FakeHead(tmp_path, {"status": lists(*listed)}):
        text = said(capsys, tmp_path, what)
    assert text.startswith(f"heorot head {what}: the active head does not list that yet: see 'heorot status --dir ")


@pytest.mark.usefixtures("_warden")
@pytest.mark.parametrize(("what", "before", "after"), [("start", ["h0"], ["h0", "h1"]), ("stop", ["h1"], ["h0"])])
def test_it_returns_when_the_change_is_listed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    what: str,
    before: list[str],
    after: list[str],
) -> None:
    monkeypatch.setattr(head_control, "LISTING_TIMEOUT_S", 60.0)
    answers: list[Answer] = [
        lists(*before),
        lambda message: b"",
        lists(*after),
    ]  # one that dies says nothing of the next
    with FakeHead(tmp_path, {"status": lambda message: answers.pop(0)(message)}) as active:
        assert said(capsys, tmp_path, what) == ""
    assert answers == []
    assert len([request for request in active.requests if request[0] == "status"]) == 3


@pytest.mark.usefixtures("_warden")
def test_without_a_head_nobody_lists_one_that_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, tmp_path, "stop") == ""


def test_behind_one_that_was_only_elected_nobody_stands_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(head_control, "PROBLEM_S", 0.0)
    elected = [head("h0", "h0"), head("h1", "h0")]
    with warden(
        elected, [head("h0", "", "no epoch"), head("h1", "h1")], [head("h0", "h1"), head("h1", "", "no epoch")]
    ):
        assert head_control.main(["start", "h0", "h1", "--dir", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"heorot head start: {name} cannot lead: no epoch" for name in ("h0", "h1")]
