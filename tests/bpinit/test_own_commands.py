"""Commands that bpinit carries out itself: with the user's rights and nothing of bpinit's."""

from __future__ import annotations

import errno
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from heorot.bpinit.own_commands import GET, PUT, STAGE, open_view
from heorot.core.wire import tree as m
from heorot.images.cache import Cache
from heorot.images.copy_stream import MAX_COMPLAINTS, Receiver
from heorot.images.identity import ImageError
from heorot.images.placing import Placer
from tests.bpinit.space_rig import DEADLINE_S, SpaceRig
from tests.core.launches import changed
from tests.images.samples import Sample
from tests.support.other_user import NOBODY

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="acts for other users")
LARGE = os.urandom(3_000_000)


@pytest.fixture
def space() -> Iterator[SpaceRig]:
    rig = SpaceRig("namespace")
    yield rig
    rig.end()


def put(rig: SpaceRig, sample: Sample, job: str, flags: bytes, destination: Path, uid: int) -> m.Launch:
    """Return the launch that an agent hands over when the image is in its cache."""
    cache = Cache(os.path.join(rig.work, "images"), 1 << 30, "n7")
    cache.keep_manifest(sample.image, sample.encoded)
    for number in range(sample.layout.chunks):
        cache.keep_chunks(sample.image, number, [sample.chunk(number)])
    view = os.fsencode(cache.make_view(sample.image))
    cache.close()
    made = rig.launch(
        job, PUT, flags, os.fsencode(destination), image=sample.image, program=b"/" + PUT, uid=uid, gid=uid
    )
    return replace(made, view=view)


def errors(rig: SpaceRig, job: str) -> bytes:
    return bytes(rig.agents[0].output.get((job, 0, 2), b""))


@needs_root
def test_a_copy_whose_view_is_gone_says_so(space: SpaceRig) -> None:
    agent = space.agent()
    made = put(space, Sample({b"/copy/a": b"x"}), "1.1", b"d", Path(space.work), 0)
    Path(os.fsdecode(made.view), "manifest").unlink()
    agent.send(made)
    agent.until(lambda: agent.failed("1.1"), "the failure")
    assert "changed this node's image cache while the program was started" in agent.failed("1.1")[0].text


@needs_root
@pytest.mark.parametrize("uid", [0, NOBODY])
def test_files_are_put_as_the_user(space: SpaceRig, uid: int) -> None:
    agent = space.agent()
    sample = Sample({b"/copy/large": (LARGE, 0o755), b"/copy/empty": b"", b"/elsewhere": b"not copied"})
    agent.send(put(space, sample, "1.1", b"d", Path(space.work), uid))
    assert agent.wait_over("1.1") == {0: 0}, errors(space, "1.1")
    large, empty = Path(space.work, "large"), Path(space.work, "empty")
    assert large.read_bytes() == LARGE
    assert empty.read_bytes() == b""
    status = large.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (uid, uid, 0o755)
    assert sorted(os.listdir(space.work)) == ["empty", "images", "large"]


@needs_root
def test_a_user_may_not_put_what_he_may_not_write(space: SpaceRig) -> None:
    agent = space.agent()
    closed = Path(space.work, "closed")
    closed.mkdir(mode=0o755)
    agent.send(put(space, Sample({b"/copy/x": b"x"}), "1.1", b"d", closed, NOBODY))
    assert agent.wait_over("1.1") == {0: 1 << 8}
    assert errors(space, "1.1") == f"cannot write {closed}/x: Permission denied\n".encode()
    assert os.listdir(closed) == []


def test_an_image_that_is_copied_from_stays_in_the_cache(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "images"), 100_000, "n7")
    samples = [Sample({b"/copy/x": os.urandom(70_000)}) for _ in range(2)]
    views: list[bytes] = []
    try:
        for sample in samples:
            cache.keep_manifest(sample.image, sample.encoded)
            if views:
                # Whoever holds it: bpinit before the start, and the copy after it.
                given = open_view(views[0])
                kept = os.dup(given[1])
                for fd in given:
                    os.close(fd)
                with pytest.raises(ImageError, match="is full: all 100000 bytes are in use"):
                    cache.keep_chunks(sample.image, 0, [sample.chunk(0)])
                assert os.path.exists(views[0] + b"/0")
                os.close(kept)
            for number in range(sample.layout.chunks):
                cache.keep_chunks(sample.image, number, [sample.chunk(number)])
            views.append(os.fsencode(cache.make_view(sample.image)))
            cache.forget(sample.image)
    finally:
        cache.close()
    assert not os.path.exists(views[0])


@needs_root
def test_a_file_that_was_evicted_meanwhile_is_named(space: SpaceRig) -> None:
    agent = space.agent()
    made = put(space, Sample({b"/copy/gone": b"x", b"/copy/there": b"y"}), "1.1", b"d", Path(space.work), NOBODY)
    os.unlink(made.view + b"/0")
    agent.send(made)
    assert agent.wait_over("1.1") == {0: 1 << 8}
    assert errors(space, "1.1").startswith(b"cannot write gone: it left this node's cache (No such file or directory)")
    assert sorted(os.listdir(space.work)) == ["images", "there"]


@needs_root
def test_a_limit_on_the_size_of_files_holds(space: SpaceRig) -> None:
    import resource

    agent = space.agent()
    made = put(space, Sample({b"/copy/x": LARGE}), "1.1", b"d", Path(space.work), NOBODY)
    ticket = m.decode_ticket(made.ticket)
    limited = changed(ticket, limits=[resource.RLIMIT_FSIZE, 1000, 1000])
    agent.send(replace(made, ticket=m.encode(limited)))
    assert agent.wait_over("1.1") == {0: 1 << 8}
    assert errors(space, "1.1") == f"cannot write {space.work}/x: {os.strerror(errno.EFBIG)}\n".encode()
    assert os.listdir(space.work) == ["images"]


@needs_root
def test_complaints_are_bounded(space: SpaceRig) -> None:
    agent = space.agent()
    Path(space.work, "there").mkdir()
    sample = Sample({b"/copy/there/%d" % number: b"x" for number in range(100)})
    agent.send(put(space, sample, "1.1", b"d", Path(space.work), NOBODY))
    assert agent.wait_over("1.1") == {0: 1 << 8}
    lines = errors(space, "1.1").splitlines()
    assert len(lines) == MAX_COMPLAINTS + 1
    assert lines[-1] == b"... and 80 more"


@needs_root
def test_a_directory_that_cannot_be_made_is_named_and_the_others_are_copied(space: SpaceRig) -> None:
    agent = space.agent()
    Path(space.work, "a").touch()
    directories = [b"/copy/a", b"/copy/a/in", b"/copy/b"]
    links = {b"/copy/a/x": b"x", b"/copy/a/in/x": b"x", b"/copy/b/x": b"x"}
    sample = Sample({b"/copy/z": b"z"}).with_others(directories, links)
    agent.send(put(space, sample, "1.1", b"d", Path(space.work), NOBODY))
    assert agent.wait_over("1.1") == {0: 1 << 8}
    assert errors(space, "1.1") == f"cannot write {space.work}/a: File exists\n".encode()
    assert os.readlink(Path(space.work, "b", "x")) == "x"


def test_the_child_keeps_nothing_of_bpinit(rig: SpaceRig) -> None:
    agent = rig.agent()
    # More than fits into the pipe and the window: it waits for somebody to read.
    path = Path(rig.work, "large")
    path.write_bytes(LARGE)
    path.chmod(0o644)
    agent.acknowledge = False
    uid = NOBODY if os.getuid() == 0 else rig.uid
    agent.send(rig.launch("1.1", GET, b"", os.fsencode(path), uid=uid, gid=uid))
    pid = agent.wait_started("1.1")[0]
    agent.until(lambda: ("1.1", 0, 1) in agent.output, "output")
    shown = host_status(rig, pid)
    fields = dict(line.split(":\t", 1) for line in shown.splitlines())
    # Real, effective and saved: there is no way back.
    assert set(fields["Uid"].split()) == set(fields["Gid"].split()) == {str(uid)}
    assert {int(fields[name], 16) for name in ("CapEff", "CapPrm")} == {0}
    # What it holds of bpinit's memory is not for the user: the kernel gives root what must not be traced.
    assert os.stat(f"/proc/{host_pid(rig, pid)}/mem").st_uid == 0
    assert fields["Name"] == "bpcp"
    found = sorted(int(name) for name in os.listdir(f"/proc/{host_pid(rig, pid)}/fd"))
    # The streams, and the file that it reads.
    assert len(found) <= 4
    assert found[:3] == [0, 1, 2]
    # And it ends as any other process that is killed; what it had written arrives.
    os.kill(host_pid(rig, pid), signal.SIGKILL)
    agent.acknowledge = True
    agent.send(m.Ack("1.1", 0, 1, len(agent.output["1.1", 0, 1])))
    assert agent.wait_over("1.1") == {0: signal.SIGKILL}


def host_pid(rig: SpaceRig, pid: int) -> int:
    """Return a process's PID as the host counts, from the one that the space gave it."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                status = Path(f"/proc/{name}/status").read_text()
            except OSError:
                continue
            spaces = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if spaces[-1] == str(pid) and f"\nPPid:\t{rig.pid}\n" in status:
                return int(name)
    raise AssertionError(f"no process {pid} of the space within {DEADLINE_S} s")


def host_status(rig: SpaceRig, pid: int) -> str:
    return Path(f"/proc/{host_pid(rig, pid)}/status").read_text()


def test_files_are_read_as_the_user(rig: SpaceRig, tmp_path: Path) -> None:
    agent = rig.agent()
    Path(rig.work, "mine").write_text("mine")
    secret = Path(rig.work, "secret")
    secret.write_text("secret")
    secret.chmod(0o600)
    for path in (Path(rig.work, "mine"), secret):
        os.chown(path, rig.uid if path.name == "mine" else os.getuid(), -1)
    argv = [os.fsencode(rig.work) + b"/mine", os.fsencode(secret)]
    uid = NOBODY if os.getuid() == 0 else rig.uid
    agent.send(rig.launch("1.1", GET, b"", *argv, uid=uid, gid=uid))
    expected = 1 if os.getuid() == 0 else 0
    assert agent.wait_over("1.1") == {0: expected << 8}
    said: list[str] = []
    taken = Receiver(Placer(os.fsencode(tmp_path), True), lambda first: b"copy." + first, False, said.append)
    taken.feed(bytes(agent.output["1.1", 0, 1]))
    assert taken.ended
    assert (tmp_path / "copy.0").read_text() == "mine"
    if expected:
        assert os.listdir(tmp_path) == ["copy.0"]
        assert errors(rig, "1.1") == f"cannot read {secret}: Permission denied\n".encode()


@needs_root
@pytest.mark.parametrize("uid", [0, NOBODY])
def test_of_a_program_that_is_sent_ahead_nothing_is_started(space: SpaceRig, uid: int) -> None:
    agent = space.agent()
    program = os.fsencode(space.work) + b"/program"
    sample = Sample({program: (b"#!/bin/sh\necho started; touch %s/witness" % os.fsencode(space.work), 0o755)})
    made = put(space, sample, "1.1", b"", Path(space.work), uid)
    ticket = changed(m.decode_ticket(made.ticket), argv=[STAGE, program], program=b"/" + STAGE)
    agent.send(replace(made, ticket=m.encode(ticket)))
    assert agent.wait_over("1.1") == {0: 0}
    assert agent.output == {}
    assert os.listdir(space.work) == ["images"]


def test_where_nothing_can_be_shown_nothing_is_sent_ahead() -> None:
    rig = SpaceRig("rootless")
    agent = rig.agent()
    agent.send(rig.launch("1.1", STAGE, b"/bin/true", uid=rig.uid, image=b"i" * 32, program=b"/" + STAGE))
    agent.until(lambda: agent.failed("1.1"), "the failure")
    assert agent.failed("1.1")[0].text.startswith(
        "this node cannot show processes the head's /bin/true: that needs root"
    )
    rig.end()
