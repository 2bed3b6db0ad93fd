"""Programs that the node does not have: shown where the process expects them, to it alone, and gone afterwards."""

from __future__ import annotations

import importlib
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from msgspec.structs import replace

from heorot.bpinit.as_user import UserIds
from heorot.bpinit.plan import Plan, Steps
from heorot.bpinit.starter import Starter
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.images.manifest import Entry, encode_manifest, image_id
from heorot.core.wire import tree as m
from heorot.images.cache import Cache
from tests.bpinit.space_rig import Agent, SpaceRig
from tests.core.launches import changed
from tests.images.samples import Sample
from tests.support.other_user import NOBODY

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="showing files needs root; without it that is refused")

ECHO = Path("/bin/echo").read_bytes()
SCRIPT = b"#!/bin/sh\n"


@pytest.fixture
def space() -> Iterator[SpaceRig]:
    rig = SpaceRig("namespace")
    mounts = Path("/proc/self/mounts").read_text()
    yield rig
    rig.end()
    assert Path("/proc/self/mounts").read_text() == mounts


@pytest.fixture
def without_the_first_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process that is forked from now on refuses an image that has something below a link."""
    monkeypatch.setattr("heorot.core.images.manifest._check_ancestors", lambda entries, leaves: None)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that root owns and others may only look into."""
    with tempfile.TemporaryDirectory(prefix="heorot-place-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def launch(rig: SpaceRig, sample: Sample, job: str, *arguments: bytes, ranks: int = 1, uid: int = 0) -> m.Launch:
    """Return the launch that an agent hands over when the image is in its cache."""
    cache = Cache(os.path.join(rig.work, "images"), 1 << 30, "n7")
    cache.keep_manifest(sample.image, sample.encoded)
    for number in range(sample.layout.chunks):
        cache.keep_chunks(sample.image, number, [sample.chunk(number)])
    view = os.fsencode(cache.make_view(sample.image))
    cache.close()
    program = sample.manifest.program
    made = rig.launch(
        job, os.path.basename(program), *arguments, image=sample.image, program=program, uid=uid, gid=uid, ranks=ranks,
        directory=os.fsencode(rig.work),
    )  # fmt: skip
    return replace(made, view=view)


def output(agent: Agent, job: str, rank: int = 0, stream: int = 1) -> bytes:
    return bytes(agent.output.get((job, rank, stream), b""))


def release(agent: Agent, job: str) -> None:
    agent.send(m.Release(job))
    agent.ask(m.Query(abs(hash(job)), None, None, None, 0, False))


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_a_file_of_the_node_is_covered_for_the_job_alone(space: SpaceRig, uid: int) -> None:
    agent = space.agent()
    sample = Sample({b"/usr/bin/true": (ECHO, 0o755)}, b"/usr/bin/true")
    agent.send(launch(space, sample, "1.1", b"hello", uid=uid))
    assert agent.wait_over("1.1") == {0: 0}
    assert output(agent, "1.1") == b"hello\n"
    assert agent.run("1.2", b"/usr/bin/true", b"hello") == b""


@pytest.mark.parametrize("uid", [0, NOBODY])
def test_a_path_that_the_node_does_not_have_is_there_for_the_job_alone(space: SpaceRig, place: Path, uid: int) -> None:
    agent = space.agent()
    path = os.fsencode(place / "deep" / "er" / "pro\ngram")
    sample = Sample(
        {
            path: (SCRIPT + b'cat "$0"; cat "$(dirname "$0")/../data"', 0o755),
            os.fsencode(place / "deep/data"): b"data\n",
        },
        path,
    )
    agent.send(launch(space, sample, "1.1", uid=uid, ranks=20))
    assert agent.wait_over("1.1") == dict.fromkeys(range(20), 0), agent.output
    assert output(agent, "1.1", 19) == sample.contents[0] + b"data\n"
    release(agent, "1.1")
    assert list(place.iterdir()) == []


def test_a_user_goes_on_writing_where_the_program_seems_to_be(space: SpaceRig) -> None:
    agent = space.agent()
    work = Path(space.work)
    path = os.fsencode(work / "bin" / "prog")
    sample = Sample({path: (SCRIPT + b"echo written > result; echo more > bin/result", 0o755)}, path)
    agent.send(launch(space, sample, "1.1", uid=NOBODY))
    assert agent.wait_over("1.1") == {0: 0}, agent.output
    release(agent, "1.1")
    assert (work / "result").read_text() == "written\n"
    # What it has put beside its program keeps that directory; the program's own name is gone.
    assert [item.name for item in (work / "bin").iterdir()] == ["result"]
    assert (work / "bin" / "result").stat().st_uid == NOBODY


@pytest.fixture
def mine() -> Iterator[Path]:
    """A file system of its own that the user may write, and beside it one of root's, `victim`."""
    with tempfile.TemporaryDirectory(prefix="heorot-mounts-") as base:
        os.chmod(base, 0o755)
        for name in ("mine", "victim"):
            os.mkdir(f"{base}/{name}")
            subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "heorot-test", f"{base}/{name}"], check=True)
        os.chown(f"{base}/mine", NOBODY, NOBODY)
        try:
            yield Path(base, "mine")
        finally:
            for name in ("mine", "victim"):
                subprocess.run(["umount", f"{base}/{name}"], check=True)


def link_with_inode(path: Path, inode: int) -> None:
    """Make a symbolic link of root's with this inode number, which tmpfs counts up."""
    for _ in range(10_000):
        path.symlink_to("precious")
        if path.lstat().st_ino == inode:
            return
        path.unlink()
    raise AssertionError(f"the inode number {inode} did not come")


@pytest.mark.parametrize("was_there", [True, False])
def test_what_was_made_is_removed_where_it_was_made(mine: Path, space: SpaceRig, was_there: bool) -> None:
    agent = space.agent()
    victim = mine.parent / "victim"
    if was_there:
        (mine / "d").mkdir()
        os.chown(mine / "d", NOBODY, NOBODY)
    path = os.fsencode(space.work) + b"/x.sh"
    exchange = f'cd "{mine}"; mv d d.old; ln -s "{victim}" d; echo exchanged; read line'
    sample = Sample({path: (SCRIPT + exchange.encode(), 0o755)}, path)
    sample.with_others([], {os.fsencode(mine / "d" / "bin"): b"nowhere"})
    made = launch(space, sample, "1.1", uid=NOBODY)
    agent.send(replace(made, ticket=m.encode(changed(m.decode_ticket(made.ticket), stdin=b""))))
    agent.until(lambda: output(agent, "1.1"), "the exchange")
    moved = mine / "d.old" / "bin"
    assert os.path.lexists(moved)
    assert moved.lstat().st_uid == NOBODY
    link_with_inode(victim / "bin", moved.lstat().st_ino)
    agent.send(m.Stdin("1.1", None, 0, b"", True))
    agent.wait_over("1.1")
    release(agent, "1.1")
    assert os.path.lexists(victim / "bin")
    # Through the descriptor it is found where it is now; below a directory that was made, too, it is nobody else's.
    assert os.path.lexists(moved) is not was_there


def test_a_name_is_removed_only_with_the_user_s_rights(mine: Path, space: SpaceRig) -> None:
    agent = space.agent()
    path = os.fsencode(space.work) + b"/x.sh"
    sample = Sample({path: (SCRIPT + b"read line", 0o755)}, path)
    sample.with_others([], {os.fsencode(mine / "bin"): b"nowhere", os.fsencode(mine / "other"): b"nowhere"})
    made = launch(space, sample, "1.1", uid=NOBODY)
    agent.send(replace(made, ticket=m.encode(changed(m.decode_ticket(made.ticket), stdin=b""))))
    agent.wait_started("1.1")
    # What comes to belong to root meanwhile is root's.
    os.chown(mine, 0, 0)
    agent.send(m.Stdin("1.1", None, 0, b"", True))
    agent.wait_over("1.1")
    release(agent, "1.1")
    assert sorted(item.name for item in mine.iterdir()) == ["bin", "other"]


def test_names_in_many_directories_are_made_and_removed(mine: Path, space: SpaceRig) -> None:
    """More than descriptors are kept for: the others are known by device and inode."""
    agent = space.agent()
    other = mine.parent / "victim"
    path = os.fsencode(space.work) + b"/x.sh"
    files: dict[bytes, bytes | tuple[bytes, int]] = {path: (SCRIPT + b"read line", 0o755)}
    for number in range(100):
        for folder in (mine / str(number), other / str(number)):
            folder.mkdir()
            os.chown(folder, NOBODY, NOBODY)
        files[os.fsencode(mine / str(number) / "new" / "file")] = b"content"
    agent.run("1.9", b"true")
    before = space.file_descriptors()
    made = launch(space, Sample(files, path), "1.1", uid=NOBODY)
    agent.send(replace(made, ticket=m.encode(changed(m.decode_ticket(made.ticket), stdin=b""))))
    agent.wait_started("1.1")
    for number in range(100):
        (other / str(number) / "new").mkdir()
        (other / str(number) / "new" / "file").touch()
        for name in ("new", "new/file"):
            os.chown(other / str(number) / name, NOBODY, NOBODY)
            assert (other / str(number) / name).stat().st_ino == (mine / str(number) / name).stat().st_ino
    (mine / "99").rename(mine / "99.old")
    (mine / "99").symlink_to(other / "99")
    agent.send(m.Stdin("1.1", None, 0, b"", True))
    agent.wait_over("1.1")
    release(agent, "1.1")
    assert [str(item.relative_to(mine)) for item in mine.glob("[0-9]*/*/*")] == ["99/new/file", "99.old/new/file"]
    assert len(list(other.glob("*/new/file"))) == 100
    assert space.file_descriptors() == before


def test_jobs_that_share_a_path_do_not_take_it_from_each_other(space: SpaceRig) -> None:
    agent = space.agent()
    path = os.fsencode(Path(space.work) / "prog")
    sample = Sample({path: (SCRIPT + b'read line; cat "$0"', 0o755)}, path)
    first, second = (launch(space, sample, job, uid=NOBODY) for job in ("1.1", "1.2"))
    agent.send(replace(second, ticket=m.encode(changed(m.decode_ticket(second.ticket), stdin=b""))))
    agent.wait_started("1.2")
    agent.send(first)
    agent.wait_over("1.1")
    release(agent, "1.1")
    assert os.path.exists(path)
    agent.send(m.Stdin("1.2", None, 0, b"go\n", True))
    assert agent.wait_over("1.2") == {0: 0}
    assert output(agent, "1.2") == sample.contents[0]
    release(agent, "1.2")
    assert not os.path.exists(path)


def test_a_directory_that_is_covered_keeps_what_is_below_it(space: SpaceRig, place: Path) -> None:
    agent = space.agent()
    (place / "own").write_text("own\n")
    (place / "open").mkdir()
    (place / "open").chmod(0o777)
    path = os.fsencode(place / "prog")
    sample = Sample(
        {path: (SCRIPT + b'cd "$(dirname "$0")"; cat own; echo kept > open/file; echo no > file', 0o755)}, path
    )
    agent.send(launch(space, sample, "1.1", uid=NOBODY))
    agent.wait_over("1.1")
    assert output(agent, "1.1") == b"own\n"
    assert (place / "open" / "file").read_text() == "kept\n"
    assert sorted(item.name for item in place.iterdir()) == ["open", "own"]


@pytest.mark.parametrize("inside", ["newname", "deep/newname", "file", "below/newname", "below/file"])
@pytest.mark.parametrize("shut", ["a user's", "root's"])
def test_an_image_opens_no_directory_that_is_shut(space: SpaceRig, place: Path, inside: str, shut: str) -> None:
    agent = space.agent()
    secret = place / "secret"
    (secret / "below").mkdir(parents=True)
    for file in (secret / "file", secret / "below" / "file"):
        file.write_text("readable")
    secret.chmod(0o700)
    if shut == "a user's":
        os.chown(secret, NOBODY - 1, NOBODY - 1)
    path = b"/usr/bin/true"
    script = SCRIPT + f"ls {secret}; cat {secret}/file {secret}/below/file".encode()
    sample = Sample({path: (script, 0o755), os.fsencode(secret / inside): b"mine"}, path)
    agent.send(launch(space, sample, "1.1", uid=NOBODY))
    agent.until(lambda: agent.failed("1.1"), "the failure")
    # Whether it is there is nobody's business, either.
    assert agent.failed("1.1")[0].text == (
        f"cannot show the program's files on this node: {secret / inside}: Permission denied"
    )
    assert agent.run("1.2", b"echo", b"still here") == b"still here\n"


def test_a_directory_that_is_covered_keeps_its_mode_and_owner(space: SpaceRig, place: Path) -> None:
    agent = space.agent()
    closed = place / "closed"
    (closed / "inner").mkdir(parents=True)
    (closed / "known").write_text("known\n")
    os.chown(closed, NOBODY - 1, NOBODY)
    closed.chmod(0o2710)
    # Both are covered, and the one is within the other.
    path = os.fsencode(closed / "inner" / "deep" / "prog")
    script = f"cd {closed}; ls -d new; ls . inner; cat known; stat -c '%a %u %g' . inner; ls inner/deep"
    sample = Sample({path: (SCRIPT + script.encode(), 0o755), os.fsencode(closed / "new"): b"mine"}, path)
    agent.send(launch(space, sample, "1.1", uid=NOBODY))
    agent.wait_over("1.1")
    assert output(agent, "1.1").decode().split("\n")[:-1] == [
        "new", "inner:", "deep", "known", f"2710 {NOBODY - 1} {NOBODY}", "755 0 0", "prog",
    ]  # fmt: skip
    assert b"ls: cannot open directory '.': Permission denied" in output(agent, "1.1", stream=2)


def test_two_ways_to_one_covered_directory_are_one(space: SpaceRig, place: Path) -> None:
    agent = space.agent()
    (place / "real").mkdir()
    (place / "link").symlink_to("real")
    path = os.fsencode(place / "real" / "prog")
    sample = Sample({path: (SCRIPT + f"ls {place}/real".encode(), 0o755)}, path)
    sample.with_others([os.fsencode(place / "link" / "empty")], {})
    agent.send(launch(space, sample, "1.1", uid=NOBODY))
    assert agent.wait_over("1.1") == {0: 0}
    assert output(agent, "1.1") == b"empty\nprog\n"


def test_nothing_in_an_image_makes_a_user_root(space: SpaceRig, place: Path) -> None:
    agent = space.agent()
    helper = place / "become-root"
    helper.write_bytes(Path("/usr/bin/id").read_bytes())
    helper.chmod(0o4755)
    path = b"/usr/bin/true"
    sample = Sample({path: (SCRIPT + b"%s -u" % os.fsencode(helper), 0o755)}, path)
    agent.send(launch(space, sample, "1.1", uid=NOBODY))
    assert agent.wait_over("1.1") == {0: 0}
    assert output(agent, "1.1") == b"%d\n" % NOBODY
    # The same program, started from the node's own files, does.
    agent.send(space.launch("1.2", os.fsencode(helper), b"-u", uid=NOBODY, gid=NOBODY))
    agent.wait_over("1.2")
    assert output(agent, "1.2") == b"0\n"


def test_links_and_directories_of_an_image_are_there(space: SpaceRig, place: Path) -> None:
    agent = space.agent()
    base = os.fsencode(place)
    path = base + b"/a/prog"
    sample = Sample({path: (SCRIPT + b'cd "$(dirname "$0")"; ls -d ../empty; cat link', 0o755)}, path)
    sample.with_others([base + b"/empty"], {base + b"/a/link": b"prog"})
    agent.send(launch(space, sample, "1.1", uid=NOBODY))
    assert agent.wait_over("1.1") == {0: 0}, output(agent, "1.1", stream=2)
    assert output(agent, "1.1") == b"../empty\n" + sample.contents[0]


def test_what_is_laid_out_follows_no_link_of_the_image(
    without_the_first_lock: None, space: SpaceRig, place: Path
) -> None:
    agent = space.agent()
    victim = place / "victim"
    victim.mkdir()
    zone = os.fsencode(place) + b"/zz"
    path = os.fsencode(space.work) + b"/x.sh"
    for number, entry in enumerate(
        [
            Entry(zone + b"/planted", SYMLINK, 0o777, target=b"/evil.so"),
            Entry(zone + b"/f", FILE, 0o755),
            Entry(zone + b"/d/sub", DIRECTORY, 0o755),
        ]
    ):
        sample = Sample({path: (SCRIPT, 0o755)}, path).with_others([], {zone: os.fsencode(victim)})
        sample.manifest.entries.append(entry)
        sample.encoded = encode_manifest(sample.manifest)
        sample.image = image_id(sample.encoded)
        job = f"1.{number + 1}"
        agent.send(launch(space, sample, job, uid=NOBODY))
        agent.until(partial(agent.failed, job), "the failure")
        assert "cannot show the program's files on this node" in agent.failed(job)[0].text
        release(agent, job)
    assert [item.name for item in place.iterdir()] == ["victim"]
    assert list(victim.iterdir()) == []
    assert agent.run("1.9", b"echo", b"still here") == b"still here\n"


@pytest.fixture
def that_imports(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    """A bpinit that looks for a module wherever a user's image may have put one, while it starts something."""
    work_out = Starter._work_out

    def importing(self: Starter, plan: Plan, identity: UserIds | None) -> Steps:
        with suppress(ImportError):
            importlib.import_module("heorot_planted")
        return work_out(self, plan, identity)

    monkeypatch.setattr(Starter, "_work_out", importing)
    monkeypatch.syspath_prepend(str(place))


def test_no_code_of_an_image_is_run_by_bpinit(that_imports: None, space: SpaceRig, place: Path) -> None:
    agent = space.agent()
    witness = os.path.join(space.work, "witness")
    path = os.fsencode(space.work) + b"/x.sh"
    planted = f"open({witness!r}, 'w').close()\n".encode()
    sample = Sample({path: (SCRIPT + b"exit 0", 0o755), os.fsencode(place) + b"/heorot_planted.py": planted}, path)
    agent.send(launch(space, sample, "1.1", uid=NOBODY, ranks=10))
    assert agent.wait_over("1.1") == dict.fromkeys(range(10), 0)
    assert not os.path.exists(witness)
    # Elsewhere it imports as ever.
    (place / "heorot_planted.py").write_bytes(planted)
    agent.run("1.2", b"true")
    assert os.path.exists(witness)


def test_what_stands_in_the_way_is_said(space: SpaceRig, place: Path) -> None:
    agent = space.agent()
    (place / "prog").mkdir()
    path = os.fsencode(place / "prog")
    sample = Sample({path: (SCRIPT, 0o755)}, path)
    agent.send(launch(space, sample, "1.1"))
    agent.until(lambda: agent.failed("1.1"), "the failure")
    assert "cannot show the program's files on this node" in agent.failed("1.1")[0].text
    assert str(place / "prog") in agent.failed("1.1")[0].text
    assert agent.run("1.2", b"echo", b"still here") == b"still here\n"


@pytest.mark.parametrize("lost", ["manifest", "junk"])
def test_a_view_that_goes_at_the_last_moment_is_said_in_words(space: SpaceRig, lost: str) -> None:
    agent = space.agent()
    made = launch(space, Sample({b"/usr/bin/true": (ECHO, 0o755)}, b"/usr/bin/true"), "1.1")
    manifest = Path(os.fsdecode(made.view), "manifest")
    manifest.unlink()
    if lost == "junk":
        manifest.write_text("junk")
    agent.send(made)
    agent.until(lambda: agent.failed("1.1"), "the failure")
    text = agent.failed("1.1")[0].text
    why = "not a valid manifest" if lost == "junk" else "No such file or directory"
    told = f"somebody changed this node's image cache while the program was started ({manifest}: {why}"
    assert text.startswith(told)
    assert text.endswith("run it again, and what lacks there is made anew")
    agent.send(launch(space, Sample({b"/usr/bin/true": (ECHO, 0o755)}, b"/usr/bin/true"), "1.2", b"hello"))
    assert agent.wait_over("1.2") == {0: 0}


def test_a_program_for_another_machine_is_no_shell_script(space: SpaceRig) -> None:
    agent = space.agent()
    foreign = bytearray(ECHO)
    foreign[18:20] = (243).to_bytes(2, "little")  # RISC-V
    path = b"/usr/bin/true"
    agent.send(launch(space, Sample({path: (bytes(foreign), 0o755)}, path), "1.1"))
    agent.until(lambda: agent.failed("1.1"), "the failure")
    assert (
        agent.failed("1.1")[0].text == "cannot execute /usr/bin/true: it is for another kind of machine than this node"
    )


def test_nothing_of_a_room_is_left_in_the_daemon(space: SpaceRig, place: Path) -> None:
    agent = space.agent()
    path = os.fsencode(place / "prog")
    sample = Sample({path: (SCRIPT, 0o755)}, path)
    agent.run("1.1", b"true")
    release(agent, "1.1")
    before = space.file_descriptors()
    namespace = os.readlink(f"/proc/{space.pid}/ns/mnt")
    for number in range(5):
        agent.send(launch(space, sample, f"1.{number + 2}", uid=NOBODY, ranks=10))
        agent.wait_over(f"1.{number + 2}")
        release(agent, f"1.{number + 2}")
    assert space.file_descriptors() == before
    assert os.readlink(f"/proc/{space.pid}/ns/mnt") == namespace
    assert os.readlink(f"/proc/{space.pid}/root") == "/"
    assert stat.S_IMODE(os.stat(place).st_mode) == 0o755


def test_without_root_a_program_cannot_be_shown() -> None:
    rig = SpaceRig("rootless")
    agent = rig.agent()
    sample = Sample({b"/usr/bin/true": (ECHO, 0o755)}, b"/usr/bin/true")
    agent.send(launch(rig, sample, "1.1", uid=rig.uid))
    agent.until(lambda: agent.failed("1.1"), "the failure")
    assert "that needs root" in agent.failed("1.1")[0].text
    rig.end()


@pytest.fixture
def with_mounts() -> Iterator[Path]:
    """A file system of root's on which no program may be executed; a file and two directories in it hide others."""
    with tempfile.TemporaryDirectory(prefix="heorot-mounts-") as base:
        os.chmod(base, 0o755)
        below = Path(base, "below")
        below.mkdir()
        options = "mode=755,noexec,nosuid,nodev"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "heorot-test", below], check=True)
        mounted = [below]
        try:
            Path(base, "above").write_text("above\n")
            for name in ("a b", "c", "d", "e", "z"):
                (below / name).mkdir()
            for path in (below / "set\\tings", below / "z" / "settings", below / "a b" / "inner"):
                path.write_text("beneath\n")
            shutil.copy("/bin/true", below / "program")
            for source, place in (("above", "set\\tings"), ("above", "a b/inner"), (None, "z")):
                if source:
                    subprocess.run(["mount", "--bind", f"{base}/{source}", below / place], check=True)
                else:
                    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "heorot-test", below / place], check=True)
                mounted.append(below / place)
            yield below
        finally:
            for path in reversed(mounted):
                subprocess.run(["umount", path], check=True)


SHOWN = rb"""cat 'set\tings' 'a b/inner'; ls z; ./program 2>/dev/null; echo $?; cat new/data
grep -o ' [^ ]*/below ro[^ ]*' /proc/self/mountinfo | grep -o 'nosuid,nodev,noexec'; test -w set'\'tings"""


def covering(rig: SpaceRig, place: Path, job: str) -> m.Launch:
    """Return the launch of a program with a file in a directory of root's, which is covered by that."""
    path = os.fsencode(rig.work) + b"/x.sh"
    script = SCRIPT + b"cd '" + os.fsencode(place) + b"'\n" + SHOWN
    sample = Sample({path: (script, 0o755), os.fsencode(place / "new" / "data"): b"data\n"}, path)
    return launch(rig, sample, job, uid=NOBODY)


def test_what_mounts_hide_and_forbid_in_a_covered_directory_stays_so(
    with_mounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Names with mounts come before directories that would be writable only.
    monkeypatch.setattr("heorot.bpinit.rooms.MAX_SHOWN_DIRECTORIES", 4)
    rig = SpaceRig("namespace")
    agent = rig.agent()
    agent.send(covering(rig, with_mounts, "1.1"))
    agent.wait_over("1.1")
    assert output(agent, "1.1") == b"above\nabove\n126\ndata\nnosuid,nodev,noexec\n", agent.answers[-3:]
    rig.end()


def test_more_mounts_in_a_directory_than_can_be_shown_again_are_refused(
    with_mounts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("heorot.bpinit.rooms.MAX_SHOWN_DIRECTORIES", 2)
    rig = SpaceRig("namespace")
    agent = rig.agent()
    agent.send(covering(rig, with_mounts, "1.1"))
    agent.wait_over("1.1")
    text = agent.failed("1.1")[0].text
    assert text.endswith(f"{with_mounts}: more than 2 of the names in it have mounts, and would show what these hide")
    rig.end()
