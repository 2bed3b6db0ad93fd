"""What a keeper says of itself, and how often."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from heorot.config.files import Address
from heorot.coord.local import LocalStore
from heorot.core.errors import HeorotError
from heorot.core.keeper.election import Term
from heorot.daemons.keeper import Keeper
from heorot.daemons.listed_heads import ListedHeads
from heorot.embedded import control
from heorot.linux.process import fork_daemon
from heorot.runtime.log import LogFile
from heorot.security.head_registry import HeadRegistry
from tests.support.waiting import await_that

HERE, ELSEWHERE = Address("10.0.0.1", 1), Address("10.0.0.2", 1)


def never(term: Term, news: int, pulse: int) -> int:
    raise AssertionError("no head is started here")


@contextmanager
def keeper(root: Path, registry: HeadRegistry) -> Iterator[Path]:
    """Run the keeper of h0; yield its directory."""
    directory = root / "heads" / "h0"
    directory.mkdir(parents=True, exist_ok=True)

    def run() -> None:
        log = LogFile(root / "log", "bphead h0", "info")
        store = LocalStore(root / "coord", "h0")
        Keeper("h0", directory, store, never, log, listed=ListedHeads(registry, log)).run()

    pid = fork_daemon("keeper", set(), run)
    try:
        yield directory
    finally:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def said(directory: Path, wanted: str) -> list[str]:
    """Wait until the keeper says that this is wrong with it, and has tried again; return what it has logged of that."""

    def known() -> dict[str, Any]:
        try:
            return control.ask_keeper(str(directory), {"do": "status"})
        except HeorotError:
            return {}

    await_that(lambda: wanted in known().get("problem", ""), f"it says '{wanted}'")
    # Whoever asks wakes it, and it tries again.
    for _ in range(5):
        assert known()["role"] == "standby"
    lines = (directory.parent.parent / "log").read_text().splitlines()
    return [line for line in lines if wanted in line]


def test_a_head_that_was_removed_stays_on_standby_and_says_so_once(tmp_path: Path) -> None:
    registry = HeadRegistry(tmp_path)
    registry.seed((HERE, ELSEWHERE), HERE, "h0")
    registry.remove("h0", 1)
    with keeper(tmp_path, registry) as directory:
        assert len(said(directory, "h0 was removed from the cluster")) == 1


def test_a_head_that_cannot_be_elected_says_so_once(tmp_path: Path) -> None:
    place = tmp_path / "heads" / "h0"
    place.mkdir(parents=True)
    (place / "epoch").write_text("nonsense")
    with keeper(tmp_path, HeadRegistry(tmp_path)) as directory:
        assert len(said(directory, "holds no epoch")) == 1
