"""The spool on a real file system, with and without room."""

from __future__ import annotations

import os
import resource
from pathlib import Path

from heorot.bpinit.spool import FileSpool


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_streams_are_kept_apart_and_leave_no_file(tmp_path: Path) -> None:
    before = descriptors()
    spool = FileSpool(str(tmp_path))
    assert spool.append(1, b"hello ") == 6
    assert spool.append(2, b"other") == 5
    assert spool.append(1, b"world") == 5
    assert spool.read(1, 3, 100) == b"lo world"
    assert spool.read(2, 0, 2) == b"ot"
    assert os.listdir(tmp_path) == []
    spool.drop(1)
    spool.drop(1)
    assert spool.append(1, b"anew") == 4
    assert spool.read(1, 0, 100) == b"anew"
    spool.drop(1)
    spool.drop(2)
    assert descriptors() == before


def test_without_room_nothing_is_stored_and_nothing_held(tmp_path: Path) -> None:
    before = descriptors()
    assert FileSpool("").append(1, b"x") == 0
    assert FileSpool("/no/where").append(1, b"x") == 0
    spool = FileSpool(str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        assert spool.append(1, b"x" * 100) == 0
        assert descriptors() == before
        resource.setrlimit(resource.RLIMIT_FSIZE, (60, hard))
        assert spool.append(1, b"x" * 100) == 60
        assert spool.append(1, b"x" * 100) == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert spool.append(1, b"y" * 40) == 40
    assert spool.read(1, 0, 200) == b"x" * 60 + b"y" * 40
    spool.drop(1)
