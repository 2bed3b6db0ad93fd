"""``heorot hosts``: what it prints, and what it does to a hosts file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from heorot.cli.admin import hosts
from heorot.config.hosts import BEGIN, END
from heorot.core.errors import HeorotError

OWN = "127.0.0.1 localhost\n10.0.0.9 c2\n"
LINES = [("10.0.0.1", ["c1", "n0"]), ("10.0.0.2", ["c2", "n1"])]
STATUS: dict[str, Any] = {
    "heads": [
        {"name": "h0", "role": "active", "address": "10.0.0.7:7733"},
        {"name": "h1", "role": "standby", "address": "10.0.0.8:7733"},
    ],
    "nodes": [
        {"id": 0, "name": "n0", "address": "10.0.0.1:7734", "host_name": "c1.site"},
        {"id": 1, "name": "n1", "address": "[fd00::1]:7734", "host_name": "c1"},
        {"id": 2, "name": "n2", "address": "", "host_name": "c2"},
        {"id": 3, "name": "n3", "address": "0.0.0.0:7734", "host_name": ""},
        {"id": 4, "name": "n4", "address": "10.0.0.4:7734"},
    ],
}


class FakeHead:
    """Answers as a head does."""

    def __init__(self, directory: str | None) -> None:
        self.directory = directory

    def ask(self, tag: str) -> dict[str, Any]:
        assert tag == "status"
        return STATUS

    def close(self) -> None:
        """Nothing is open."""


@pytest.fixture(autouse=True)
def head(monkeypatch: pytest.MonkeyPatch) -> None:
    """A head that knows some nodes."""
    monkeypatch.setattr(hosts, "Head", FakeHead)


def test_it_prints_a_line_for_the_head_and_for_each_node_with_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.main([]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "10.0.0.7 master",
        "10.0.0.1 c1.site n0",
        "fd00::1 c1 n1",
        "10.0.0.4 n4",
    ]
    assert hosts.main(["--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[2] == {"node": 1, "address": "fd00::1", "names": ["c1", "n1"]}


@pytest.mark.parametrize("words", [["x"], ["--file", "/tmp/x"], ["--json", "--install"]])
def test_what_makes_no_sense_is_said(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert hosts.main(words) == 2
    assert capsys.readouterr().err.startswith("heorot hosts: ")


def test_a_file_gets_a_part_and_keeps_everything_else(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    file.write_text(OWN)
    file.chmod(0o604)
    hosts.install(file, LINES)
    assert file.read_text() == f"{OWN}{BEGIN}\n10.0.0.1 c1 n0\n10.0.0.2 n1\n{END}\n"
    assert file.stat().st_mode & 0o777 == 0o604
    # What is right already is not written again; what is not, is replaced as a whole.
    before = file.stat()
    hosts.install(file, LINES)
    assert file.stat().st_ino == before.st_ino
    hosts.install(file, LINES[1:])
    assert file.read_text() == f"{OWN}{BEGIN}\n10.0.0.2 n1\n{END}\n"
    assert file.stat().st_ino != before.st_ino
    assert os.listdir(tmp_path) == ["hosts"]


def test_a_large_file_loses_nothing(tmp_path: Path) -> None:
    file = tmp_path / "hosts"
    own = "0.0.0.0 somebody.example\n" * 100_000
    file.write_text(own)
    hosts.install(file, LINES)
    assert file.read_text().startswith(own + BEGIN)


def test_a_host_without_such_a_file_gets_one(tmp_path: Path) -> None:
    hosts.install(tmp_path / "hosts", LINES)
    assert (tmp_path / "hosts").read_text().startswith("127.0.0.1 localhost\n")


def test_no_link_is_followed_and_nothing_written_where_others_may(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text(OWN)
    link = tmp_path / "hosts"
    link.symlink_to(victim)
    with pytest.raises(HeorotError, match="is a link"):
        hosts.install(link, LINES)
    assert victim.read_text() == OWN
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    with pytest.raises(HeorotError, match="open"):
        hosts.install(open_to_all / "hosts", LINES)
    assert os.listdir(open_to_all) == []
