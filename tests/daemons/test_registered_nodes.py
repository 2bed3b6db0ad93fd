"""The active head's look at the registry of nodes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from heorot.core.machine import NodesJoined, NodesRemoved
from heorot.daemons import registered_nodes
from heorot.daemons.registered_nodes import RegisteredNodes
from heorot.runtime.loop import EpollLoop
from heorot.security.registry import NodeRecord, Registry, RegistryContent
from heorot.security.tls import holder_of
from tests.support.waiting import DEADLINE_S


def test_a_registry_that_cannot_be_read_is_said_once_and_read_as_soon_as_it_can(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.take(RegistryContent({5: NodeRecord(5, "five", "", "", 1)}, {3: 1}))
    good = registry.path.read_bytes()
    before = registry.path.stat()
    registry.path.write_bytes(bytes(len(good)))
    os.utime(registry.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    log: list[str] = []
    fed: list[NodesJoined | NodesRemoved] = []
    looks = 0
    loop = EpollLoop()

    class Counted(Registry):
        def content(self) -> RegistryContent:
            nonlocal looks
            looks += 1
            return super().content()

    registered = RegisteredNodes(loop, Counted(tmp_path), fed.append, lambda level, text: log.append(text))
    until_s = loop.time() + DEADLINE_S
    while looks < 3:
        assert loop.time() < until_s, "it does not look again"
        loop.run_once(0.05)
    assert (len(log), fed) == (1, [])
    assert log[0].startswith("cannot tell which nodes have joined and which were removed: the registry of nodes ")
    # By its inode, time and size it is the same file.
    registry.path.write_bytes(good)
    os.utime(registry.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    while not fed:
        assert loop.time() < until_s, "it does not read what can be read now"
        loop.run_once(0.05)
    assert (len(log), fed) == (1, [NodesRemoved((3,)), NodesJoined((5,), ((5, "five"),))])
    registered.close()
    loop.close()


@pytest.mark.parametrize("is_watched", [True, False])
def test_what_is_removed_is_told_though_nobody_looks_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_watched: bool
) -> None:
    if is_watched:
        monkeypatch.setattr(registered_nodes, "LOOK_EVERY_S", 3_600.0)
        monkeypatch.setattr(registered_nodes, "UNWATCHED_S", 3_600.0)
    else:
        monkeypatch.setattr(registered_nodes, "FileWatch", none_left)
    registry = Registry(tmp_path)
    fed: list[NodesJoined | NodesRemoved] = []
    log: list[str] = []
    loop = EpollLoop()
    registered = RegisteredNodes(loop, registry, fed.append, lambda level, text: log.append(level))
    assert (fed, log) == ([], [] if is_watched else ["info"])
    until_s = loop.time() + DEADLINE_S
    for number in range(3):
        registry.take(RegistryContent({}, dict.fromkeys(range(number + 1), 1)))
        while len(fed) < 2 * number + 2:
            assert loop.time() < until_s, "it does not see the change"
            loop.run_once(0.05)
        assert fed[2 * number] == NodesRemoved(tuple(range(number + 1)))
    registered.close()
    loop.close()


def none_left(*arguments: object) -> NoReturn:
    """Stand in for a kernel that has no more watches."""
    raise OSError(errno.EMFILE, "inotify_init1")


def test_who_has_which_number_and_who_had_it_before_is_told(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    old, new = bytes(32), bytes(31) + b"1"
    registry.put(NodeRecord(4, "old", old.hex(), "t", 1))
    registry.put(NodeRecord(5, "by hand", "no key", "t", 1))
    registry.remove(4, 2)
    registry.put(NodeRecord(4, "new", new.hex(), "t", 3))
    fed: list[NodesJoined | NodesRemoved] = []
    loop = EpollLoop()
    RegisteredNodes(loop, registry, fed.append, lambda level, text: None).close()
    assert fed[0] == NodesRemoved((), ((4, holder_of(new)),), ((4, holder_of(old)),))
    # Who joined first comes first: of two hosts with one name it is known by it.
    assert fed[1] == NodesJoined((4, 5), ((5, "by hand"), (4, "new")))
    loop.close()
