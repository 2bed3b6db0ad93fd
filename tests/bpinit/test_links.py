"""Programs that are links: started by the name that was asked for, and where their file is, whatever the node has."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from heorot.bpinit.links import find_diverted
from heorot.core.wire import tree as m
from tests.bpinit.space_rig import Agent, SpaceRig
from tests.bpinit.test_rooms import launch, output, release
from tests.core.launches import changed
from tests.images.samples import Sample
from tests.support.other_user import NOBODY

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="showing files needs root; without it that is refused")

ECHO, CAT, READLINK = (Path("/bin", name).read_bytes() for name in ("echo", "cat", "readlink"))
EXE = b"/proc/self/exe"


@pytest.fixture(scope="module")
def space() -> Iterator[SpaceRig]:
    rig = SpaceRig("namespace")
    yield rig
    rig.end()


@pytest.fixture(scope="module")
def agent(space: SpaceRig) -> Agent:
    return space.agent()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that root owns and others may only look into."""
    with tempfile.TemporaryDirectory(prefix="heorot-place-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def linked(place: Path, content: bytes, others: dict[bytes, bytes] | None = None) -> Sample:
    """An image whose program is at ``home/bin/prog``, with the links ``prog`` and ``way`` that lead there."""
    file = os.fsencode(place / "home" / "bin" / "prog")
    links = {os.fsencode(place / "prog"): b"way", os.fsencode(place / "way"): file, **(others or {})}
    return Sample({file: (content, 0o755)}, file).with_others([], links)


def run(space: SpaceRig, agent: Agent, job: str, sample: Sample, by: Path, *words: bytes, uid: int = 0) -> bytes:
    """Run the program of an image by this name; return its output."""
    made = launch(space, sample, job, *words, uid=uid)
    ticket = changed(m.decode_ticket(made.ticket), program=os.fsencode(by))
    agent.send(replace(made, ticket=m.encode(ticket)))
    assert agent.wait_over(job) == {0: 0}, (output(agent, job, stream=2), agent.answers[-3:])
    release(agent, job)
    return output(agent, job)


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_a_program_is_where_its_file_is_and_is_called_as_it_was_asked_for(
    space: SpaceRig, agent: Agent, place: Path, uid: int
) -> None:
    file = os.fsencode(place / "home" / "bin" / "prog")
    sample = linked(place, READLINK)
    assert run(space, agent, f"1.{uid}1", sample, place / "prog", b"-n", EXE, uid=uid) == file
    link = os.fsencode(place / "prog")
    assert run(space, agent, f"1.{uid}2", sample, place / "prog", b"-n", link, uid=uid) == b"way"
    sample = linked(place, CAT)
    assert run(space, agent, f"1.{uid}3", sample, place / "way", b"/proc/self/comm", uid=uid) == b"way\n"
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("uid", [0, NOBODY])
@pytest.mark.parametrize("there", ["file", "link", "dangling", "folder", "shut", "magic"])
def test_a_name_that_the_node_has_for_something_else_leads_to_no_other_program(
    space: SpaceRig, agent: Agent, place: Path, uid: int, there: str
) -> None:
    other = place / "other"
    other.write_bytes(ECHO)
    other.chmod(0o755)
    (place / "closed").mkdir(0o700)
    (place / "closed" / "other").write_bytes(ECHO)
    targets: dict[str, str | Path] = {
        "link": other,
        "dangling": "nowhere",
        "shut": place / "closed" / "other",
        "magic": EXE.decode(),
    }
    if there == "file":
        (place / "prog").write_bytes(ECHO)
        (place / "prog").chmod(0o755)
    elif there == "folder":
        (place / "prog").mkdir()
    else:
        (place / "prog").symlink_to(targets[there])
    sample = linked(place, READLINK)
    file = os.fsencode(place / "home" / "bin" / "prog")
    job = f"2.{uid}{['file', 'link', 'dangling', 'folder', 'shut', 'magic'].index(there)}"
    assert run(space, agent, job, sample, place / "prog", b"-n", EXE, uid=uid) == file
    assert other.read_bytes() == ECHO


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_an_interpreter_that_is_a_link_is_the_one_that_was_sent(
    space: SpaceRig, agent: Agent, place: Path, uid: int
) -> None:
    """The kernel finds it by the name in the script, which leads to another program on this node."""
    (place / "way").symlink_to("other")
    (place / "other").write_bytes(CAT)
    (place / "other").chmod(0o755)
    script = os.fsencode(place / "script")
    sample = linked(place, ECHO)
    text = b"#!%s/way\n" % os.fsencode(place)
    whole = Sample({script: (text, 0o755), os.fsencode(place / "home" / "bin" / "prog"): (ECHO, 0o755)}, script)
    whole.with_others([], {entry.path: entry.target for entry in sample.manifest.entries if entry.target})
    assert run(space, agent, f"3.{uid}", whole, place / "script", b"x", uid=uid) == script + b" x\n"
    # For others it is as it was.
    os.symlink(place / "way", place / "cat")
    agent.send(space.launch(f"3.{uid}1", os.fsencode(place / "cat"), b"/proc/self/comm", uid=uid, gid=uid))
    assert agent.wait_over(f"3.{uid}1") == {0: 0}
    assert output(agent, f"3.{uid}1") == b"cat\n"


def test_what_the_image_has_itself_is_covered_by_nothing_else(space: SpaceRig, agent: Agent, place: Path) -> None:
    """The node's link leads to a second program of the image."""
    (place / "way").symlink_to("second")
    (place / "second").touch()
    file, second = os.fsencode(place / "home" / "bin" / "prog"), os.fsencode(place / "second")
    sample = Sample({file: (READLINK, 0o755), second: (ECHO, 0o755)}, file)
    sample.with_others([], {os.fsencode(place / "way"): file})
    assert run(space, agent, "4.1", sample, place / "way", b"-n", EXE) == file
    both = Sample({file: (CAT, 0o755), second: (ECHO, 0o755)}, second).with_others(
        [], {os.fsencode(place / "way"): file}
    )
    assert run(space, agent, "4.2", both, place / "second", b"second") == b"second\n"


def test_links_that_lead_nowhere_or_in_a_ring_hold_up_nobody(space: SpaceRig, agent: Agent, place: Path) -> None:
    base = os.fsencode(place)
    others = {base + b"/a": b"b", base + b"/b": b"a", base + b"/c": b"/no/such", base + b"/d": b"../../../.."}
    sample = linked(place, READLINK, others)
    assert find_diverted(sample.manifest) == []
    assert run(space, agent, "5.1", sample, place / "prog", b"-n", base + b"/a") == b"b"


def test_a_user_s_link_leads_root_nowhere(space: SpaceRig, agent: Agent, place: Path) -> None:
    """Made by a user whose image has the same name: what the user may not reach is neither covered nor told of."""
    secret = place / "secret"
    secret.mkdir(0o700)
    (secret / "file").write_text("secret")
    work = Path(space.work, "mine")
    work.mkdir()
    os.chown(work, NOBODY, NOBODY)
    (work / "prog").symlink_to(secret / "file")
    file = os.fsencode(work / "real")
    sample = Sample({file: (CAT, 0o755)}, file).with_others([], {os.fsencode(work / "prog"): b"real"})
    inside = b"/proc/self/mountinfo"
    mounts = run(space, agent, "6.1", sample, work / "prog", inside, uid=NOBODY)
    assert b"real" in mounts
    assert os.fsencode(secret) not in mounts
