"""The hosts file that ranks see: changed in place, so that every reader finds whole lines at their places."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from heorot.config.hosts import BEGIN, END, without_part
from heorot.core.wire.names import NamedHost
from heorot.runtime.hosts_file import LINE_BYTES, PAGE_BYTES, HostsFile, content_of
from heorot.runtime.loop import EpollLoop

OWN = "127.0.0.1 localhost\n10.0.0.9 data\n"
MASTER = NamedHost(-1, "10.0.0.7", ["master"])


def node(number: int, *names: str, address: str = "") -> NamedHost:
    return NamedHost(number, address or f"10.0.1.{number}", [*names, f"n{number}"])


def said(content: bytes) -> list[str]:
    """Return the lines of Heorot's part that say something."""
    lines = content.decode().splitlines()
    return [line.rstrip() for line in lines[lines.index(BEGIN) + 1 : lines.index(END)] if line.strip()]


class Rig:
    """A hosts file, and the host's own beside it."""

    def __init__(self, directory: Path, loop: EpollLoop) -> None:
        self.own = directory / "own"
        self.own.write_text(OWN)
        self.path = directory / "hosts"
        self.path.write_text(OWN)
        self.log: list[str] = []
        self.file = HostsFile(self.path, lambda level, text: self.log.append(text), loop, str(self.own))


@pytest.fixture
def rig(tmp_path: Path, loop: EpollLoop) -> Iterator[Rig]:
    made = Rig(tmp_path, loop)
    yield made
    made.file.close()


def test_the_nodes_come_behind_what_the_host_says_in_the_same_file(rig: Rig) -> None:
    before = rig.path.stat()
    rig.file.show([MASTER, node(0, "c0"), node(2, "data")])
    content = rig.path.read_bytes()
    assert content.decode().startswith(OWN)
    # What the host's own file calls data is another host.
    assert said(content) == ["10.0.0.7 master", "10.0.1.0 c0 n0", "10.0.1.2 n2"]
    assert (rig.path.stat().st_ino, rig.path.stat().st_mode) == (before.st_ino, before.st_mode)
    rig.file.show([MASTER])
    assert said(rig.path.read_bytes()) == ["10.0.0.7 master"]
    assert without_part(rig.path.read_text()).split() == OWN.split()


def test_a_node_has_its_line_at_the_same_place_whoever_comes_and_goes(rig: Rig) -> None:
    places = []
    for hosts in ([node(5)], [node(number) for number in range(40)], [MASTER, node(3), node(5, "c5"), node(39)]):
        rig.file.show(hosts)
        content = rig.path.read_bytes()
        start = content.index(BEGIN.encode()) + len(BEGIN) + 1
        assert start % PAGE_BYTES == 0
        place = content.index(b"10.0.1.5 ")
        places.append(place)
        assert (place - start) % LINE_BYTES == 0
    assert len(set(places)) == 1


def test_every_line_fits_its_place_whatever_names_it_has() -> None:
    long = node(7, f"{'x' * 60}.y", "x" * 60, address="fd00:1111:2222:3333:4444:5555:6666:7777")
    (line,) = said(content_of(OWN, [long]))
    assert line == f"{long.address} {'x' * 60}.y n7"
    assert said(content_of(OWN, [node(1, "c1", "c1")])) == ["10.0.1.1 c1 n1"]
    assert all(len(row) < LINE_BYTES for row in content_of(OWN, [long, node(9)]).decode().split("\n"))


def test_only_pages_that_change_are_written(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [node(number) for number in range(200)]
    rig.file.show(hosts)
    written: list[int] = []
    pwrite = os.pwrite

    def noted(fd: int, data: bytes, offset: int) -> int:
        written.append(offset)
        return pwrite(fd, data, offset)

    monkeypatch.setattr(os, "pwrite", noted)
    rig.file.show(hosts)
    assert written == []
    hosts[100] = node(100, "c100")
    rig.file.show(hosts)
    assert len(written) == 1
    assert "10.0.1.100 c100 n100" in said(rig.path.read_bytes())


def test_what_the_host_changes_in_its_own_file_is_seen(rig: Rig, until: Callable[[Callable[[], object]], None]) -> None:
    rig.own.write_text(OWN)
    rig.file.show([node(0, "c0")])
    new = rig.own.with_name("new")
    new.write_text(f"{OWN}10.0.0.8 more c0\n")
    new.rename(rig.own)
    until(lambda: b"10.0.0.8 more" in rig.path.read_bytes())
    assert said(rig.path.read_bytes()) == ["10.0.1.0 n0"]


def test_a_node_that_shows_no_names_has_no_file(rig: Rig) -> None:
    rig.path.unlink()
    rig.file.show([node(0)])
    assert (rig.path.exists(), rig.log) == (False, [])


def test_nothing_but_a_file_of_its_own_is_written(rig: Rig, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine\n")
    rig.path.unlink()
    rig.path.symlink_to(victim)
    rig.file.show([node(0)])
    rig.path.unlink()
    os.link(victim, rig.path)
    rig.file.show([node(0)])
    rig.file.show([node(1)])
    assert victim.read_text() == "mine\n"
    assert len(rig.log) == 2, "each once"
    assert "cannot be written" in rig.log[0]


def test_before_anybody_has_said_which_nodes_there_are_nothing_is_written(rig: Rig) -> None:
    rig.file.write()
    assert rig.path.read_text() == OWN
