"""The site's node_up as a process: what it is given, what becomes of what it writes, and that it always ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from heorot.core.wire.wishes import Prepare, Prepared
from heorot.daemons.node_up import NodeUps, NodeUpSettings
from heorot.runtime.loop import EpollLoop
from tests.support.waiting import await_that

OF_THE_C_LIBRARY = 1 << 32 - 1 | 1 << 33 - 1
"""As the kernel shows sets of signals: 32 and 33, which nobody else can set."""


class Rig:
    """Runs a script of the test's."""

    def __init__(self, directory: Path) -> None:
        self.loop = EpollLoop()
        self.told: list[Prepared] = []
        self.script = directory / "node_up"
        self.settings = NodeUpSettings(self.script, directory / "logs", directory / "run", at_once=2)
        self.ups = self.new()

    def new(self, **changes: int) -> NodeUps:
        """Return one with other limits."""
        self.ups = NodeUps(self.loop, replace(self.settings, **changes), self.told.append)
        return self.ups

    def write(self, text: str) -> None:
        self.script.write_text(f"#!/bin/sh\n{text}\n")
        self.script.chmod(0o755)

    def until(self, count: int) -> list[Prepared]:
        """Wait until it has told so much; return that, by node."""

        def looked() -> bool:
            self.loop.run_once(0.05)
            return len(self.told) >= count

        await_that(looked, f"{count} scripts to end")
        return sorted(self.told, key=lambda one: one.node)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.ups.close()
    made.loop.close()


def test_it_is_given_the_node_and_where_the_cluster_is_and_its_output_is_kept(rig: Rig, tmp_path: Path) -> None:
    rig.write('echo "$1 $HEOROT_NODE $HEOROT_NODE_ADDRESS $HEOROT_DIR $PWD"; echo err >&2; cat')
    rig.ups.prepare(Prepare(3, 7, "10.0.0.3"))
    assert rig.until(1) == [Prepared(3, 7, "")]
    log = tmp_path / "logs" / "n3.log"
    assert log.read_text() == f"3 3 10.0.0.3 {tmp_path}/run /\nerr\n"
    assert os.stat(log).st_mode & 0o777 == 0o600
    assert os.stat(log.parent).st_mode & 0o777 == 0o700
    # It begins anew each time.
    rig.write("echo second")
    rig.ups.prepare(Prepare(3, 8, "10.0.0.3"))
    rig.until(2)
    assert log.read_text() == "second\n"


@pytest.mark.parametrize("word", ["$(reboot)", "-oProxyCommand=reboot", "10.0.0.3\nPATH=/tmp", "a\0b", "n" * 200_000])
def test_what_a_node_says_is_its_address_and_is_none_reaches_no_script(rig: Rig, tmp_path: Path, word: str) -> None:
    rig.write('echo "[$HEOROT_NODE_ADDRESS]"')
    rig.ups.prepare(Prepare(3, 7, word))
    assert rig.until(1) == [Prepared(3, 7, "")]
    assert (tmp_path / "logs" / "n3.log").read_text() == "[]\n"


def test_its_failure_is_told_with_its_last_line(rig: Rig) -> None:
    rig.write('echo first; echo "no scratch disk"; echo; exit 3')
    rig.ups.prepare(Prepare(0, 7, ""))
    assert rig.until(1) == [Prepared(0, 7, "it ended with status 3: no scratch disk")]


def test_one_that_cannot_be_executed_says_so(rig: Rig) -> None:
    rig.ups.prepare(Prepare(0, 7, ""))
    (told,) = rig.until(1)
    assert told.error.startswith(f"it ended with status 127: cannot execute {rig.script}: No such file")


def test_a_few_run_at_once_and_each_is_told(rig: Rig, tmp_path: Path) -> None:
    rig.write(f"touch {tmp_path}/n$1; while [ ! -e {tmp_path}/go ]; do sleep 0.01; done")
    for node in range(4):
        rig.ups.prepare(Prepare(node, 7, ""))
    await_that(lambda: len(list(tmp_path.glob("n[0-9]"))) == 2, "two scripts to run")
    (tmp_path / "go").touch()
    assert [told.node for told in rig.until(4)] == [0, 1, 2, 3]


def test_one_that_does_not_end_is_killed_with_what_it_has_started(rig: Rig, tmp_path: Path) -> None:
    rig.write(f"sleep 1000 & echo $! > {tmp_path}/pid; wait")
    rig.new(limit_ms=300).prepare(Prepare(0, 7, ""))
    assert rig.until(1) == [Prepared(0, 7, "it has not ended within 0.3 s")]
    pid = int((tmp_path / "pid").read_text())
    await_that(lambda: not _lives(pid), "its child to end")


def test_what_it_writes_has_a_limit(rig: Rig, tmp_path: Path) -> None:
    rig.write("exec cat /dev/zero")
    rig.ups.prepare(Prepare(0, 7, ""))
    assert rig.until(1)[0].error.startswith("it ")
    assert (tmp_path / "logs" / "n0.log").stat().st_size <= 1024 * 1024


def test_a_newer_incarnation_takes_its_place_and_the_end_ends_all(rig: Rig, tmp_path: Path) -> None:
    rig.write(f"echo $$ >> {tmp_path}/pids; [ -e {tmp_path}/go ] || exec sleep 1000")
    rig.ups.prepare(Prepare(0, 7, ""))
    await_that(lambda: (tmp_path / "pids").exists(), "the first to run")
    (tmp_path / "go").touch()
    rig.ups.prepare(Prepare(0, 8, ""))
    assert rig.until(1) == [Prepared(0, 8, "")]
    (tmp_path / "go").unlink()
    rig.ups.prepare(Prepare(1, 7, ""))
    await_that(lambda: len((tmp_path / "pids").read_text().split()) == 3, "the last to run")
    rig.ups.close()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    await_that(lambda: not any(map(_lives, pids)), "all to have ended")


def test_it_begins_with_nothing_of_the_head_but_what_it_is_given(rig: Rig, tmp_path: Path) -> None:
    def said(command: str) -> list[str]:
        rig.write(f"exec {command}")
        rig.told.clear()
        rig.ups.prepare(Prepare(3, 7, "10.0.0.3"))
        assert rig.until(1) == [Prepared(3, 7, "")]
        return (tmp_path / "logs" / "n3.log").read_text().split()

    assert said("grep SigBlk /proc/self/status")[1:] == ["0" * 16]
    # What is started by posix_spawn(3), as by make, ignores the two signals that the C library has for itself.
    assert int(said("grep SigIgn /proc/self/status")[1], 16) & ~OF_THE_C_LIBRARY == 0
    assert said("ls /proc/self/fd") == ["0", "1", "2", "3"], "and the directory that it reads"
    names = {line.partition("=")[0] for line in said("env")}
    assert names <= {"PATH", "PWD", "SHLVL", "_", "HEOROT_DIR", "HEOROT_NODE", "HEOROT_NODE_ADDRESS"}


def test_a_loop_that_writes_ends_at_the_limit_of_its_log(rig: Rig, tmp_path: Path) -> None:
    rig.write("while :; do echo a line of a loop that does not look at what becomes of what it writes; done")
    rig.ups.prepare(Prepare(0, 7, ""))
    assert rig.until(1)[0].error.startswith(f"it was killed by signal {signal.SIGXFSZ.value}")


def test_a_head_that_is_killed_takes_it_along_with_what_it_has_started(rig: Rig, tmp_path: Path) -> None:
    rig.write(f"sleep 1000 & echo $! $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pids; wait")
    head = os.fork()
    if not head:
        NodeUps(EpollLoop(), rig.settings, rig.told.append).prepare(Prepare(0, 7, ""))
        signal.pause()
    await_that((tmp_path / "pids").exists, "it to run")
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(_lives, pids))
    os.kill(head, signal.SIGKILL)
    os.waitpid(head, 0)
    await_that(lambda: not any(map(_lives, pids)), "it to end with its head")


def _lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
