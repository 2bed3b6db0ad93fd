"""A cluster starts where it can, and says at once, with the reason, where it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heorot.linux import cgroups
from tests.support.embedded import DEADLINE_S, Embedded
from tests.support.plain_chroot import in_chroot
from tests.support.without_mount import without_mount


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the chroot's file system is mounted, by each command for itself."""
    made = tmp_path / "chroot"
    made.mkdir()
    return made


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Embedded]:
    made = Embedded(tmp_path / "c")
    yield made
    made.close()


def test_a_cluster_works_in_a_plain_chroot(embedded: Embedded, place: Path) -> None:
    inside = in_chroot(place)
    embedded.run("heorot", "up", "--nodes", "2", prefix=inside)
    mounts = embedded.run("bpsh", "n0", "cat", "/proc/self/mountinfo", prefix=inside).stdout.splitlines()
    roots = [line.split() for line in mounts if line.split()[4] == "/"]
    # One root, the chroot's directory, which shares no mount with another namespace; nothing of it is seen outside.
    assert len(roots) == 1
    assert (roots[0][3], roots[0][6]) == ("/root", "-")
    assert str(place) not in Path("/proc/self/mountinfo").read_text()
    pids = embedded.run("bpsh", "-a", "sh", "-c", "echo $$", prefix=inside).stdout.split()
    assert len({int(pid) // 65536 for pid in pids}) == 2
    assert len(pids) == 2


def test_a_program_is_sent_into_a_plain_chroot_that_has_no_such_directory(embedded: Embedded, place: Path) -> None:
    extra = place.parent / "extra"
    extra.mkdir()
    (extra / "prog").write_text("#!/bin/sh\necho $0\nls -d /extra /usr\n")
    (extra / "prog").chmod(0o755)
    embedded.run("heorot", "up", "--nodes", "2", prefix=in_chroot(place))
    # On the nodes the root directory has to be covered for that, and to be left again.
    for _ in range(2):
        done = embedded.run("bpsh", "--image", "send", "n1", "/extra/prog", prefix=in_chroot(place, extra))
        assert done.stdout == "/extra/prog\n/extra\n/usr\n"
    embedded.run("bpsh", "n[0-1]", "ls", "-d", "/extra", status=2, prefix=in_chroot(place))


def test_a_bpinit_that_cannot_start_says_why_and_the_logs_are_kept(embedded: Embedded) -> None:
    kept = embedded.directory / "failed-start"
    reason = "cannot set up the namespaces of node"
    for _ in range(2):
        failed = embedded.run("heorot", "up", "--nodes", "3", status=125, prefix=without_mount())
        assert f"{reason} " in failed.stderr
        assert "Operation not permitted" in failed.stderr
        assert "is it running?" not in failed.stderr
        assert failed.stderr.rstrip().endswith(f"; the logs are kept in {kept}")
        assert reason in (kept / "warden.log").read_text()
        assert os.listdir(embedded.directory) == ["failed-start"]
    # They stand in nobody's way, and go with the next start that succeeds.
    embedded.up("--nodes", "1")
    assert not kept.exists()
    embedded.run("heorot", "down")
    assert not embedded.directory.exists()


def test_down_removes_the_logs_of_a_failed_start(embedded: Embedded) -> None:
    embedded.run("heorot", "up", status=125, prefix=without_mount())
    assert "failed start" in embedded.run("heorot", "down").stdout
    assert not embedded.directory.exists()


def test_somebody_elses_directory_is_not_taken_for_the_logs_of_a_failed_start(embedded: Embedded) -> None:
    precious = embedded.directory / "failed-start" / "file"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    failed = embedded.run("heorot", "up", status=125, prefix=without_mount())
    assert "the logs are kept" not in failed.stderr
    embedded.run("heorot", "down", status=125)
    embedded.up("--nodes", "1")
    embedded.run("heorot", "down")
    assert precious.read_text() == "precious"


def test_a_head_that_cannot_start_says_why(embedded: Embedded) -> None:
    """Of a head's process that cannot open its socket the keeper knows the reason; so does heorot up."""
    embedded.directory.mkdir()
    blocker = (
        "import os, sys, time\n"
        "d = sys.argv[1]\n"
        "print('ready', flush=True)\n"
        "while not os.path.exists(d + '/log'): time.sleep(0.001)\n"
        "os.mkdir(d + '/head.sock')\n"
        "open(d + '/head.sock/in-the-way', 'w').close()\n"
    )
    command = [sys.executable, "-c", blocker, str(embedded.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as blocking:
        assert blocking.stdout is not None
        assert blocking.stdout.readline() == b"ready\n"
        with embedded.start("heorot", "up", "--nodes", "2") as up:
            _, said = up.communicate(timeout=DEADLINE_S)
        assert blocking.wait(DEADLINE_S) == 0
    (embedded.directory / "head.sock" / "in-the-way").unlink()
    (embedded.directory / "head.sock").rmdir()
    assert up.returncode == 125
    assert "head.sock" in said
    assert "Is a directory" in said or "Directory not empty" in said


# ------------------------------------------------------------------ heorot doctor


def checks_of(embedded: Embedded, *prefix: str) -> dict[str, dict[str, object]]:
    done = embedded.run("heorot", "doctor", "--nodes", "4", "--json", status=None, prefix=prefix)
    assert done.stderr == ""
    return {row["check"]: row for row in json.loads(done.stdout)}


def test_doctor_tries_what_it_vouches_for(embedded: Embedded, place: Path) -> None:
    for prefix in ([], in_chroot(place)):
        found = checks_of(embedded, *prefix)
        tried = ("pid namespaces", "process spaces", "mounts", "pidfds", "sockets", "terminals")
        assert [found[name]["ok"] for name in tried] == [True] * len(tried), found


def test_doctor_finds_what_stops_a_cluster(embedded: Embedded) -> None:
    found = checks_of(embedded, *without_mount())
    assert found["pid namespaces"]["ok"]
    for name in ("process spaces", "mounts", "pid ranges"):
        assert not found[name]["ok"]
        assert "Operation not permitted" in str(found[name]["text"])
    assert embedded.run("heorot", "doctor", status=1, prefix=without_mount()).stdout.count("MISSING") == 1


def test_doctor_finds_a_loopback_that_is_down(embedded: Embedded) -> None:
    assert "is the interface 'lo' up?" in str(checks_of(embedded, "unshare", "--net")["sockets"]["text"])


def test_doctor_tries_as_another_user_what_that_user_needs(tmp_path: Path) -> None:
    rootless = Embedded(tmp_path / "c", rootless=True)
    try:
        found = checks_of(rootless)
        assert found["subreaper"]["ok"]
        assert "process spaces" not in found
        assert found["sockets"]["ok"] is os.access(tmp_path, os.W_OK) is True, found
    finally:
        rootless.close()
    assert os.listdir(tmp_path) == []


def test_limits_of_control_groups_count(tmp_path: Path) -> None:
    two, one = tmp_path / "two", tmp_path / "one"
    for group, pids, memory in (("a", "500", "max"), ("a/b", "max", "1000000")):
        (two / group).mkdir(parents=True)
        (two / group / "pids.max").write_text(f"{pids}\n")
        (two / group / "pids.current").write_text("100\n")
        (two / group / "memory.max").write_text(f"{memory}\n")
        (two / group / "memory.current").write_text("600000\n")
        (two / group / "memory.stat").write_text("anon 1\ninactive_file 50000\n")
    for controller, limit, used in (("memory", "limit_in_bytes", "usage_in_bytes"), ("pids", "max", "current")):
        (one / controller / "x").mkdir(parents=True)
        (one / controller / "x" / f"{controller}.{limit}").write_text("5000\n")
        (one / controller / "x" / f"{controller}.{used}").write_text("4000\n")
    membership = tmp_path / "membership"
    membership.write_text("0::/a/b\n")
    assert cgroups.process_room(str(two), str(membership)) == 400
    assert cgroups.memory_room_bytes(str(two), str(membership)) == 450_000
    membership.write_text("4:memory:/x\n3:cpu,pids:/x\n0::/\n")
    assert cgroups.process_room(str(one), str(membership)) == 1000
    assert cgroups.memory_room_bytes(str(one), str(membership)) == 1000
    membership.write_text("")
    assert cgroups.process_room(str(one), str(membership)) == cgroups.UNLIMITED
