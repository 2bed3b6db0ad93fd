"""Groups of nodes from files: read while the head runs, and whatever is wrong costs only itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.config.files import Address
from heorot.config.text import render_head
from heorot.core.machine import GroupsKnown
from heorot.daemons import group_files
from heorot.daemons.group_files import GroupFiles, read_groups
from heorot.daemons.group_reading import MAX_FILE_BYTES, MAX_FILES, GroupReading
from heorot.runtime.loop import EpollLoop
from tests.support.waiting import DEADLINE_S


class Rig:
    """A head's configuration and what is beside it."""

    def __init__(self, directory: Path) -> None:
        self.head = directory / "head.toml"
        here = Address("127.0.0.1", 1)
        self.head.write_text(
            render_head(cluster="x", directory=str(directory), name="h0", listen=here, addresses=[here])
            + 'rack1 = "n0"\n'
        )
        self.directory = directory / "groups.d"
        self.directory.mkdir()

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def read(self) -> tuple[dict[str, str], list[str]]:
        reading = GroupReading()
        return read_groups(reading, self.head, self.directory), reading.problems


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def test_groups_come_from_all_files_and_the_first_of_a_name_counts(rig: Rig) -> None:
    rig.write("a.toml", 'rack1 = "n1"\nrack2 = "n2"\n')
    rig.write("b.cfg", "# of ClusterShell\nrack2: n[3-4]\n\n@rack3 c[0-7]\n@site:rack4 c9,c10\nodd/one: n1 n2,  n3\n")
    rig.write("c.yaml", "rack5: n5\n")
    rig.write(".d.cfg", "rack6: n6\n")
    groups, problems = rig.read()
    assert problems == []
    assert groups == {
        "rack1": "n0", "rack2": "n2", "rack3": "c[0-7]", "rack4": "c9,c10", "odd/one": "n1,n2,  n3",
        "a:rack1": "n1", "a:rack2": "n2",
        "b:rack2": "n[3-4]", "b:rack3": "c[0-7]", "b:rack4": "c9,c10", "b:odd/one": "n1,n2,  n3",
    }  # fmt: skip


def test_what_is_wrong_is_told_and_the_rest_holds(rig: Rig) -> None:
    rig.write("a.toml", 'good = "n1"\nbad = 3\n"a b" = "n2"\n')
    rig.write("b.toml", "no toml\n")
    rig.write("deep.toml", "x = " + "[" * 50_000)
    rig.write("c.cfg", "nothing\nright: n1\n")
    rig.write("state.cfg", "up: n1\n")
    (rig.directory / "d.cfg").write_bytes(b"x: \xff\n")
    rig.write("e.cfg", f"long: {'n1,' * (MAX_FILE_BYTES // 3)}\n")
    (rig.directory / "f.cfg").mkdir()
    groups, problems = rig.read()
    assert set(groups) == {"rack1", "good", "a:good", "right", "c:right"}
    assert [text.partition(": ")[0].rpartition("/")[2] for text in problems] == [
        "a.toml", "a.toml", "b.toml", "c.cfg:1", "d.cfg", "deep.toml", "e.cfg", "f.cfg", "state.cfg",
    ]  # fmt: skip


def test_a_file_that_others_may_change_is_not_read(rig: Rig) -> None:
    rig.write("a.cfg", "mine: n1\n")
    (rig.directory / "a.cfg").chmod(0o666)
    groups, (problem,) = rig.read()
    assert "mine" not in groups
    assert "a.cfg" in problem


def test_a_configuration_of_clustershells_is_read_by_a_link_and_counts_as_a_file_of_its_name(rig: Rig) -> None:
    theirs = rig.head.parent / "clustershell"
    theirs.mkdir()
    (theirs / "groups.conf").write_text(
        "[Main]\ndefault: racks\n[racks]\nmap: sed -n 's/^$GROUP:\\(.*\\)/\\1/p' $CFGDIR/racks.txt\n"
    )
    (theirs / "racks.txt").write_text("rack1: n8\nrack2: n9\nrack3: @rack2\n")
    (rig.directory / "b.conf").symlink_to(theirs / "groups.conf")
    rig.write("a.cfg", "rack2: n1\n")
    groups, problems = rig.read()
    assert problems == []
    assert groups == {
        "rack1": "n0", "rack2": "n1", "a:rack2": "n1", "rack3": "@racks:rack2",
        "racks:rack1": "n8", "racks:rack2": "n9", "racks:rack3": "@racks:rack2",
    }  # fmt: skip


def test_more_files_than_a_bound_are_not_read(rig: Rig) -> None:
    for number in range(MAX_FILES + 1):
        rig.write(f"f{number:03}.cfg", f"g{number:03}: n1\n")
    groups, (problem,) = rig.read()
    assert len(groups) == 1 + 2 * MAX_FILES
    assert f"f{MAX_FILES:03}.cfg: there are more than {MAX_FILES} files of groups" in problem


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[EpollLoop]:
    monkeypatch.setattr(group_files, "LOOK_EVERY_S", 0.02)
    made = EpollLoop()
    yield made
    made.close()


def test_a_change_is_seen_while_the_head_runs_and_a_broken_configuration_changes_nothing(
    rig: Rig, loop: EpollLoop
) -> None:
    fed: list[GroupsKnown] = []
    log: list[str] = []
    files = GroupFiles(loop, rig.head, fed.append, lambda level, text: log.append(text))
    assert fed == [GroupsKnown({"rack1": "n0"})]

    def until(count: int) -> None:
        deadline = loop.time() + DEADLINE_S
        while len(fed) + len(log) < count:
            assert loop.time() < deadline, "it is not seen"
            loop.run_once(0.05)

    rig.write("a.cfg", "new: n1\n")
    until(2)
    assert fed[-1] == GroupsKnown({"rack1": "n0", "new": "n1", "a:new": "n1"})
    whole = rig.head.read_text()
    rig.head.write_text("broken")
    until(3)
    assert (len(fed), len(log)) == (2, 1)
    assert log[0].startswith("groups stay as they were: ")
    (rig.directory / "a.cfg").unlink()
    rig.head.write_text(whole)
    until(4)
    assert fed[-1] == GroupsKnown({"rack1": "n0"})
    files.close()
