"""What bpinit has open, and what /proc says of it, is no way for a user to anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from heorot.bpinit import calls
from heorot.bpinit.own_commands import GET, LOOK, PUT
from heorot.core.wire import tree as m
from tests.bpinit.space_rig import Agent, SpaceRig
from tests.bpinit.test_rooms import launch
from tests.core.launches import changed
from tests.images.samples import Sample
from tests.support.other_user import NOBODY

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a second user needs root")
OTHER = NOBODY - 1


@pytest.fixture(params=["shared", "copied"])
def space(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[SpaceRig]:
    if request.param == "copied":
        monkeypatch.setattr(calls, "_CODE", {})
    rig = SpaceRig("namespace")
    yield rig
    rig.end()


@pytest.fixture
def held(space: SpaceRig) -> int:
    """The number of a descriptor that bpinit has of a directory in another user's private one."""
    agent = space.agent()
    private = Path(space.work, "private")
    inside = private / "inside"
    inside.mkdir(parents=True)
    (inside / "secret").write_text("secret\n")
    (inside / "program").write_text("#!/bin/sh\necho secret\n")
    (inside / "program").chmod(0o755)
    for path in (private, inside):
        os.chown(path, OTHER, OTHER)
    inside.chmod(0o777)
    private.chmod(0o700)
    program = os.fsencode(inside / "made")
    made = launch(space, Sample({program: (b"#!/bin/sh\nread line", 0o755)}, program), "9.1", uid=OTHER)
    agent.send(replace(made, ticket=m.encode(changed(m.decode_ticket(made.ticket), stdin=b""))))
    agent.wait_started("9.1")
    found = [
        int(name)
        for name in os.listdir(f"/proc/{space.pid}/fd")
        if os.readlink(f"/proc/{space.pid}/fd/{name}") == str(inside)
    ]
    assert found, "nothing is tried"
    return found[0]


def failure(agent: Agent, job: str, made: m.Launch) -> str:
    """Return why this was not started."""
    agent.send(made)
    agent.until(partial(agent.failed, job), "the failure")
    return agent.failed(job)[0].text


def test_no_path_leads_through_what_bpinit_has_open(space: SpaceRig, held: int) -> None:
    agent = space.agents[0]
    way = b"/proc/self/fd/%d" % held
    link = Path(space.work, "link")
    link.symlink_to(os.fsdecode(way))
    tried: list[dict[str, Any]] = [
        {"stdin": way + b"/secret"},
        {"stdin": os.fsencode(link) + b"/secret"},
        {"stdin": b"/proc/thread-self/fd/%d/secret" % held},
        {"stdin": b"secret", "directory": way},
        {"stdout": way + b"/planted"},
        {"stderr": way + b"/planted"},
        {"directory": way},
        {"directory": os.fsencode(link)},
        {"argv": [way + b"/program"]},
        {"argv": [b"program"], "environment": [b"PATH=" + way]},
        {"argv": [PUT, b"d", way]},
        {"argv": [GET, b"", b"secret"], "directory": way},
    ]
    for number, fields in enumerate(tried):
        job = f"1.{number + 1}"
        made = space.launch(job, b"ls", uid=NOBODY, gid=NOBODY, **({"stdin": None} | fields))
        if fields.get("argv", [b""])[0] == PUT:
            agent.send(made)
            assert agent.wait_over(job) == {0: 1 << 8}, fields
        else:
            assert re.match("cannot (read|write to|enter|execute)|no such command", failure(agent, job, made)), fields
    inside = Path(space.work, "private", "inside")
    assert sorted(item.name for item in inside.iterdir()) == ["made", "program", "secret"]
    agent.send(space.launch("2.1", LOOK, way, uid=NOBODY, gid=NOBODY))
    assert agent.wait_over("2.1") == {0: 1 << 8}
    # Nor is it said what is there.
    missing, there = (
        failure(agent, job, space.launch(job, way + name, uid=NOBODY, gid=NOBODY))
        for job, name in (("2.2", b"/none"), ("2.3", b"/secret"))
    )
    assert missing.replace("none", "") == there.replace("secret", "")


def test_no_name_of_an_image_goes_there(space: SpaceRig, held: int) -> None:
    agent = space.agents[0]
    link = Path(space.work, "link")
    link.symlink_to(f"/proc/self/fd/{held}")
    for number, name in enumerate(("new", "secret", "new/deep")):
        path = b"/usr/bin/true"
        sample = Sample({path: (b"#!/bin/sh\n", 0o755), os.fsencode(link / name): b"mine"}, path)
        text = failure(agent, f"1.{number + 1}", launch(space, sample, f"1.{number + 1}", uid=NOBODY))
        # The link leads nowhere in the child that looks there, and is in the way.
        assert text == f"cannot show the program's files on this node: {link / name}: File exists"
    inside = Path(space.work, "private", "inside")
    assert sorted(item.name for item in inside.iterdir()) == ["made", "program", "secret"]


ABOUT_BPINIT = [
    "maps",
    "environ",
    "status",
    "auxv",
    "fd/5",
    "fd/6",
    "ns/mnt",
    "root/etc/passwd",
    "exe",
    "cwd/etc/passwd",
]


def test_what_proc_says_of_bpinit_or_a_copy_of_it_is_read_by_nobody(space: SpaceRig) -> None:
    agent = space.agent()
    for number, name in enumerate(ABOUT_BPINIT):
        for self_, job in (("self", f"1.{number + 1}"), ("thread-self", f"2.{number + 1}")):
            path = f"/proc/{self_}/{name}"
            made = space.launch(job, b"cat", uid=NOBODY, gid=NOBODY, stdin=path.encode())
            assert failure(agent, job, made).startswith(f"cannot read {path}: "), path
    for number, name in enumerate(("maps", "environ", "map_files", "fd", "task")):
        job = f"3.{number + 1}"
        entry = f"/proc/self/{name}".encode()
        agent.send(space.launch(job, GET, b"r", entry, uid=NOBODY, gid=NOBODY))
        assert agent.wait_over(job) == {0: 1 << 8}
        # Nothing but the end.
        assert bytes(agent.output[(job, 0, 1)]) == bytes(4)
        assert agent.output[(job, 0, 2)] == b"cannot read %s: Permission denied\n" % entry
    # What tells of the node is read as ever.
    assert (
        agent.run("4.1", b"cat", uid=NOBODY, gid=NOBODY, stdin=b"/proc/version") == Path("/proc/version").read_bytes()
    )


@pytest.mark.parametrize("argv", [[PUT], [PUT, b"d"], [PUT, b"d", b"/", b"x"], [LOOK], [LOOK, b"/", b"/"], [GET]])
def test_a_built_in_command_that_is_called_wrongly_says_how(space: SpaceRig, argv: list[bytes]) -> None:
    agent = space.agent()
    agent.send(space.launch("1.1", *argv, uid=NOBODY, gid=NOBODY))
    assert agent.wait_over("1.1") == {0: 1 << 8}
    assert bytes(agent.output[("1.1", 0, 2)]).startswith(b"this command is bpcp's own, and called with ")
