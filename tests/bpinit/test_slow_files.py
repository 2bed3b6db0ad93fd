"""Whatever a user makes slow, other users' processes are started meanwhile."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from heorot.bpinit import calls, errands
from heorot.core.space.endings import UNSEEN
from heorot.core.wire import tree as m
from tests.bpinit.space_rig import Agent, SpaceRig
from tests.bpinit.test_rooms import launch
from tests.images.samples import Sample
from tests.support.other_user import own_uid
from tests.support.silent_files import silent_files

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a second user needs root")
USER, THIRD = own_uid(), own_uid()
JOBS = 10 * errands.MAX_UNREAPED
"""At most so many are started until as many children as may wait for a file system: one that ends before it has asked
does not wait."""
MORE = 4


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
    fields = {"ranks": 20, "uid": uid, "gid": uid, **script_here(space, silent / "x")}
    with silent_files(space.pid, str(silent)):
        jobs = start_until_no_more_wait(space, lambda job: space.launch(job, b"x", **fields))
        check_failures(agent, jobs, "No such file or directory (a file system does not answer")
        # What cannot end is nobody's, and so all of others' jobs are over.
        assert agent.run("3.1", b"sh", b"-c", b"sleep 1000 & echo left", uid=THIRD, gid=THIRD) == b"left\n"
    agent.until(lambda: not unreaped(space), "the end of what waited")
    assert agent.run("4.1", b"echo", b"again", uid=uid, gid=uid) == b"again\n"


def test_a_start_that_nobody_saw_the_end_of_says_so(space: SpaceRig, silent: Path) -> None:
    agent = space.agents[0]
    with silent_files(space.pid, str(silent)):
        agent.send(space.launch("1.1", os.fsencode(silent / "program"), uid=USER, gid=USER))
        assert agent.run("2.1", b"echo", b"others", uid=THIRD, gid=THIRD) == b"others\n"
    assert agent.wait_over("1.1") == {0: 127 << 8}
    assert [note.text for report in agent.reports("1.1") for note in report.notes] == [UNSEEN]


def start_until_no_more_wait(space: SpaceRig, launch: Callable[[str], m.Launch]) -> list[str]:
    """Start jobs until as many children wait for a file system as may, and some more; show that others' jobs run
    meanwhile, and that no more wait then; return the jobs.
    """
    agent, jobs, more = space.agents[0], list[str](), MORE
    while more:
        assert len(jobs) < JOBS, f"{unreaped(space)} wait"
        jobs.append(f"1.{len(jobs)}")
        agent.send(launch(jobs[-1]))
        assert agent.run(f"2.{len(jobs)}", b"echo", b"others", uid=THIRD, gid=THIRD) == b"others\n"
        agent.wait_over(jobs[-1])
        more -= unreaped(space) >= errands.MAX_UNREAPED
    agent.until(lambda: unreaped(space) == errands.MAX_UNREAPED, "no more that wait than may")
    return jobs


def check_failures(agent: Agent, jobs: list[str], text: str) -> None:
    """Show that no rank has run, and all that are said to have failed did so with this text."""
    for job in jobs:
        # Who has been waited for too long counts as started, and has ended when there was no program.
        assert set(agent.wait_over(job).values()) <= {127 << 8}
        assert all(text in failed.text for failed in agent.failed(job).values()), agent.failed(job)
    assert text in failure(agent, jobs[0])


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
    streams: dict[str, Any] = {"ranks": 20, "uid": USER, "gid": USER, "stdout": os.fsencode(silent / "out")}
    with silent_files(space.pid, str(silent)):
        jobs = start_until_no_more_wait(space, lambda job: space.launch(job, b"true", **streams))
        check_failures(agent, jobs, "cannot open the files of its streams: ")
    agent.until(lambda: not unreaped(space), "the end of what waited")
    assert agent.run("3.1", b"cat", uid=USER, gid=USER, stdin=b"/dev/null") == b""
