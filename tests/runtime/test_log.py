"""Logs and remembered values."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heorot.runtime import state
from heorot.runtime.journal import Journal
from heorot.runtime.log import LogFile
from tests.support.disks import fill, small_disk

MakeLog = Callable[..., LogFile]


@pytest.fixture
def make_log() -> Iterator[MakeLog]:
    """Make logs that are closed in the end."""
    made: list[LogFile] = []

    def make(path: Path, name: str = "head", limit_bytes: int = 1 << 20) -> LogFile:
        made.append(LogFile(path, name, limit_bytes=limit_bytes))
        return made[-1]

    yield make
    for log in made:
        log.close()


def test_a_line_says_when_how_bad_who_and_what(tmp_path: Path, make_log: MakeLog) -> None:
    log = make_log(tmp_path / "x.log", "bpnode n7")
    log("warning", "something happened")
    log("debug", "nobody asked for this")
    (line,) = (tmp_path / "x.log").read_text().splitlines()
    assert line.endswith("Z warning bpnode n7: something happened")
    assert line[:2] == "20"


def test_a_line_of_json_has_what_is_searched_for(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "x.log", "bpnode n7", in_json=True)
    log.epoch = 3
    log("warning", 'job 2.14: rank 0 says "no"\n')
    log("info", "nothing of a job")
    log.close()
    first, second = (json.loads(line) for line in (tmp_path / "x.log").read_text().splitlines())
    assert first.pop("time")[:2] == "20"
    text = 'job 2.14: rank 0 says "no"\\n'
    assert first == {"level": "warning", "daemon": "bpnode n7", "node": 7, "epoch": 3, "job": "2.14", "text": text}
    assert set(second) == {"time", "level", "daemon", "node", "epoch", "text"}


def test_the_journal_gets_the_same_with_fields_and_a_full_one_stops_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "journal"))
        server.settimeout(30)
        log = LogFile(tmp_path / "x.log", "bphead h0", journal=Journal(str(tmp_path / "journal")))
        log("error", "job 1.2 is odd")
        assert server.recv(65536) == b"MESSAGE=job 1.2 is odd\nPRIORITY=3\nHEOROT_JOB=1.2\n"
        for _ in range(5_000):
            log("info", "more than anybody reads")
        log.close()
    (tmp_path / "journal").unlink()
    assert (tmp_path / "x.log").read_text().count("\n") == 5_001


def test_what_a_terminal_would_obey_is_escaped(tmp_path: Path, make_log: MakeLog) -> None:
    make_log(tmp_path / "x.log", "head")("info", "a\x1b[2J\nforged line\udcff")
    data = (tmp_path / "x.log").read_bytes()
    assert data.count(b"\n") == 1
    assert b"a\\x1b[2J\\nforged line\\udcff" in data


def test_a_log_is_bounded(tmp_path: Path, make_log: MakeLog) -> None:
    log = make_log(tmp_path / "x.log", "head", limit_bytes=10_000)
    for number in range(2_000):
        log("info", f"line {number}")
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"x.log", "x.log.1"}
    assert all(0 < size <= 10_000 for size in sizes.values())
    assert "line 1999" in (tmp_path / "x.log").read_text()


def test_on_a_disk_that_is_full_for_a_while_lines_are_lost_and_the_next_one_stands_alone(
    tmp_path: Path, make_log: MakeLog
) -> None:
    with small_disk(tmp_path / "disk", "64k") as disk:
        log = make_log(disk / "x.log", "head")
        log("info", "before")
        fill(disk)
        for _ in range(100):
            log("info", "lost " * 20)
        (disk / "filler").unlink()
        log("info", "after")
        lines = (disk / "x.log").read_text().splitlines()
        log.close()
    assert lines[0].endswith("info head: before")
    assert lines[-1].endswith("info head: after")
    assert len(lines[-1]) == len(lines[0]) - 1


def test_a_log_that_cannot_be_written_stops_nobody(tmp_path: Path, make_log: MakeLog) -> None:
    make_log(tmp_path / "nosuch" / "x.log", "head")("error", "lost")


def test_values_are_kept_privately_and_replaced_as_a_whole(tmp_path: Path) -> None:
    said: list[str] = []
    state.remember(tmp_path, "epoch", b"7", lambda level, text: said.append(text))
    state.remember(tmp_path, "epoch", b"12", lambda level, text: said.append(text))
    assert state.recall_epoch(tmp_path) == 12
    assert (tmp_path / "epoch").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["epoch"]
    assert state.recall(tmp_path, "nosuch") == b""
    assert state.recall_epoch(tmp_path / "nosuch") == 0
    assert not said
    state.remember(tmp_path / "nosuch", "epoch", b"1", lambda level, text: said.append(text))
    assert "cannot keep" in said[0]
