"""What a backup holds, and which ones are refused."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from heorot.core.errors import SecurityError
from heorot.security.authority import Authority
from heorot.security.backup import Backup, collect_files, read_backup
from heorot.security.registry import NodeRecord, Registry
from heorot.security.tokens import FINGERPRINT_BYTES, TokenStore


@pytest.fixture
def den(tmp_path: Path) -> Path:
    """A cluster's directory with a head, a node's record, and what is no part of a backup."""
    directory = tmp_path / "den"
    authority = Authority.create(directory / "ca", "den")
    authority.issue_head("h0").write(directory / "heads" / "h0")
    authority.issue_head("h1").write(directory / "heads" / "h1")
    Registry(directory).put(NodeRecord(3, "ford", "00", "t", 1))
    TokenStore(directory).create(bytes(FINGERPRINT_BYTES), 1)
    (directory / "log").mkdir()
    (directory / "log" / "h0.log").write_text("a line\n")
    (directory / "heads" / "h0" / "keeper.json").write_text("{}")
    return directory


def backup_of(directory: Path) -> Backup:
    return Backup("den", "h0", 7, 1_800_000_000_000, "/etc/heorot/head.toml", b"[head]", collect_files(directory, "h0"))


def test_it_reads_back_and_makes_the_same_files(den: Path, tmp_path: Path) -> None:
    backup = backup_of(den)
    backup.write(tmp_path / "kept")
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600
    read = read_backup(tmp_path / "kept")
    assert read == backup
    assert {name.rpartition("/")[0] for name in read.files} == {"", "ca", "heads/h0", "tokens"}
    anew = tmp_path / "anew"
    anew.mkdir()
    read.restore(anew)
    for name in read.files:
        assert (anew / name).read_bytes() == (den / name).read_bytes()
        assert stat.S_IMODE((anew / name).stat().st_mode) == 0o600
    assert (anew / "heads" / "h0" / "epoch").read_text() == "1000007\n"
    assert not (anew / "heads" / "h0" / "keeper.json").exists()
    with pytest.raises(FileExistsError):
        backup.write(tmp_path / "kept")


def _elsewhere(value: dict[str, Any]) -> None:
    value["files"]["../../etc/cron.d/x"] = ""


def _other_head(value: dict[str, Any]) -> None:
    value["files"]["heads/h1/key.pem"] = ""


def _hidden(value: dict[str, Any]) -> None:
    value["files"]["ca/.ca.key"] = ""


def _no_base64(value: dict[str, Any]) -> None:
    value["files"]["ca/ca.key"] = "???"


def _wrong_head(value: dict[str, Any]) -> None:
    value["head"] = "../h0"


def _negative(value: dict[str, Any]) -> None:
    value["epoch"] = -1


def _truth(value: dict[str, Any]) -> None:
    value["epoch"] = True


def _list(value: dict[str, Any]) -> None:
    value["files"] = []


def _other_format(value: dict[str, Any]) -> None:
    value["format"] = "heorot-head"


@pytest.mark.parametrize(
    "spoil",
    [_elsewhere, _other_head, _hidden, _no_base64, _wrong_head, _negative, _truth, _list, _other_format],
)
def test_what_was_tampered_with_is_refused(den: Path, tmp_path: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    path = tmp_path / "kept"
    backup_of(den).write(path)
    value = json.loads(path.read_text())
    spoil(value)
    path.write_text(json.dumps(value))
    with pytest.raises(SecurityError) as refusal:
        read_backup(path)
    assert "BEGIN" not in str(refusal.value)


def test_one_that_others_may_read_is_refused(den: Path, tmp_path: Path) -> None:
    path = tmp_path / "kept"
    backup_of(den).write(path)
    path.chmod(0o640)
    with pytest.raises(SecurityError, match="others may read"):
        read_backup(path)
