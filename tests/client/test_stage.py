"""A program that is sent ahead by a program, in both forms of the library."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from heorot.images.identity import CommandError
from tests.client.conftest import Connect
from tests.support.local_cluster import LocalCluster


def test_a_program_is_sent_ahead_and_not_started(
    connect: Connect, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    witness = tmp_path / "witness"
    (tmp_path / "program").write_text(f"#!/bin/sh\necho > {witness}\n")
    (tmp_path / "program").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    with connect(cluster.directory) as library:
        staged = library.stage("./program", "n[0-1]", ["program"])
        # Without root, a node cannot show what it has got.
        assert [status.code for status in staged.statuses] == [126 if os.getuid() else 0] * 2
        assert not witness.exists()
        with pytest.raises(CommandError, match="no such command here: nosuch"):
            library.stage("nosuch")
    cluster.await_idle()
