"""Whatever a user makes slow, other users' processes are started meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from heorot.procs import calls, errands
from tests.images.samples import Sample
from tests.procs.space_rig import Agent, SpaceRig
from tests.procs.test_rooms import launch
from tests.support.other_user import own_uid
from tests.support.silent_files import silent_files

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a second user needs root")
USER, THIRD = own_uid(), own_uid()
JOBS = errands.MAX_UNREAPED + 4
"""So many that they are more than may wait for a file system."""


@pytest.fixture
def copying() -> bool:
    """Whether it is a machine for which there is no machine code."""
    return False


@pytest.fixture
def space(copying: bool, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpaceRig]:
    if copying:
        monkeypatch.setattr(calls, "_CODE", {})
    rig = SpaceRig("namespace")
    yield rig
    rig.end()


@pytest.fixture
def silent(space: SpaceRig) -> Path:
    """Where a test mounts a file system that does not answer."""
    path = Path(space.work, "silent")
    path.mkdir(mode=0o777)
    # Then bpinit has its own mounts.
    space.agent().run("0.1", b"true")
    return path


def script_here(space: SpaceRig, other: Path) -> dict[str, Any]:
    """Return a launch of a script without an interpreter that is found in the directory of the rank, and called by a
    name that leads to another path where bpinit is."""
    here = Path(space.work, "here")
    script = Path(f"{here}{other}")
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    return {"program": b"/proc/self/cwd" + os.fsencode(other), "directory": os.fsencode(here)}


def failure(agent: Agent, job: str) -> str:
    agent.until(partial(agent.failed, job), "the failure")
    return agent.failed(job)[0].text


def test_why_a_program_was_not_executed_is_looked_for_in_no_fifo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(errands, "PATIENCE_MS", 3_600_000)
    space = SpaceRig("namespace")
    try:
        fifo = Path(space.work, "fifo")
        os.mkfifo(fifo)
        fifo.chmod(0o666)
        agent = space.agent()
        for number, uid in enumerate((USER, 0)):
            job = f"1.{number + 1}"
            agent.send(space.launch(job, b"x", uid=uid, gid=uid, **script_here(space, fifo)))
            assert "its interpreter does not exist" in failure(agent, job)
    finally:
        space.end()


@pytest.mark.parametrize("uid", [USER, 0], ids=["user", "root"])
def test_what_is_asked_after_a_failed_start_keeps_nobody_waiting(space: SpaceRig, silent: Path, uid: int) -> None:
    agent = space.agents[0]
    fields = script_here(space, silent / "x")
    with silent_files(space.pid, str(silent)):
        for number in range(JOBS):
            agent.send(space.launch(f"1.{number}", b"x", ranks=20, uid=uid, gid=uid, **fields))
            assert agent.run(f"2.{number}", b"echo", b"others", uid=THIRD, gid=THIRD) == b"others\n"
        check_failures(agent, "No such file or directory (a file system does not answer")
        agent.until(lambda: unreaped(space) == errands.MAX_UNREAPED, "no more that wait than may")
        # What cannot end is nobody's, and so all of others' jobs are over.
        assert agent.run("3.1", b"sh", b"-c", b"sleep 1000 & echo left", uid=THIRD, gid=THIRD) == b"left\n"
    agent.until(lambda: not unreaped(space), "the end of what waited")
    assert agent.run("4.1", b"echo", b"again", uid=uid, gid=uid) == b"again\n"


def check_failures(agent: Agent, text: str) -> None:
    """Show that no rank has run, and all that are said to have failed did so with this text."""
    for number in range(JOBS):
        job = f"1.{number}"
        # Who has been waited for too long counts as started, and has ended when there was no program.
        assert set(agent.wait_over(job).values()) <= {127 << 8}
        assert all(text in failed.text for failed in agent.failed(job).values()), agent.failed(job)
    assert text in failure(agent, "1.0")


def unreaped(space: SpaceRig) -> int:
    children = Path(f"/proc/{space.pid}/task/{space.pid}/children").read_text().split()
    return len(children)


@pytest.mark.parametrize("uid", [USER, 0], ids=["user", "root"])
def test_files_of_an_image_that_cannot_be_shown_keep_nobody_waiting(space: SpaceRig, silent: Path, uid: int) -> None:
    agent = space.agents[0]
    program = os.fsencode(silent / "program")
    with silent_files(space.pid, str(silent)):
        for number in range(3):
            sample = Sample({program: (b"#!/bin/sh\n", 0o755)}, program)
            agent.send(launch(space, sample, f"1.{number}", ranks=20, uid=uid))
            assert agent.run(f"2.{number}", b"echo", b"others", uid=THIRD, gid=THIRD) == b"others\n"
        for number in range(3):
            assert "cannot show the program's files on this node" in failure(agent, f"1.{number}")


@pytest.mark.parametrize("copying", [False, True], ids=["shared", "copied"])
def test_streams_that_cannot_be_opened_keep_nobody_waiting(space: SpaceRig, silent: Path) -> None:
    agent = space.agents[0]
    with silent_files(space.pid, str(silent)):
        for number in range(JOBS):
            stream = os.fsencode(silent / "out")
            agent.send(space.launch(f"1.{number}", b"true", ranks=20, uid=USER, gid=USER, stdout=stream))
            assert agent.run(f"2.{number}", b"echo", b"others") == b"others\n"
        check_failures(agent, "cannot open the files of its streams: ")
        agent.until(lambda: unreaped(space) == errands.MAX_UNREAPED, "no more that wait than may")
    agent.until(lambda: not unreaped(space), "the end of what waited")
    assert agent.run("3.1", b"cat", uid=USER, gid=USER, stdin=b"/dev/null") == b""
