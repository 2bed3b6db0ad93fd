"""``heorot head start`` and ``stop``: when they return, and what they say of a head that does not list the change."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.cli.admin import head_control
from tests.support.fake_head import Answer, FakeHead, result


@pytest.fixture
def _warden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Obey one command, and say that h1 stands by as long as that is asked."""
    monkeypatch.chdir(tmp_path)  # a short path
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("warden.sock")
        listener.listen()
        listener.settimeout(10)

        def obey() -> None:
            connection, _ = listener.accept()
            known = {"heads": [{"name": "h1", "role": "standby", "keeper_pid": 7, "leader": "h0", "problem": ""}]}
            with connection, connection.makefile("rb") as asked:
                while length := asked.read(4):
                    request = json.loads(asked.read(int.from_bytes(length, "big")))
                    answer = json.dumps(known if request["do"] == "status" else {}).encode()
                    connection.sendall(len(answer).to_bytes(4, "big") + answer)

        thread = threading.Thread(target=obey)
        thread.start()
        yield
        thread.join()
        (tmp_path / "warden.sock").unlink()


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
    with FakeHead(tmp_path, {"status": lambda message: answers.pop(0)(message)}) as head:
        assert said(capsys, tmp_path, what) == ""
    assert answers == []
    assert len([request for request in head.requests if request[0] == "status"]) == 3


@pytest.mark.usefixtures("_warden")
def test_without_a_head_nobody_lists_one_that_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, tmp_path, "stop") == ""
