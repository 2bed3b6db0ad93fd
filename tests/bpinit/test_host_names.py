"""A process space that is a host of its own: its name, what meets in shared memory, and its hosts file."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bpinit.space_rig import SpaceRig
from tests.support.other_user import NOBODY

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="namespaces need root; without it nothing changes")

Make = Callable[..., SpaceRig]


@pytest.fixture
def make() -> Iterator[Make]:
    """Make process spaces that end with the test."""
    rigs: list[SpaceRig] = []

    def make_one(**config: Any) -> SpaceRig:
        rigs.append(SpaceRig("namespace", **config))
        return rigs[-1]

    yield make_one
    for rig in rigs:
        rig.end()


def kinds(rig: SpaceRig) -> dict[str, bool]:
    """Return, for each kind of namespace, whether the space has one of its own."""
    return {
        kind: os.readlink(f"/proc/{rig.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")
        for kind in ("uts", "ipc", "net")
    }


def test_a_space_has_the_name_that_it_was_given_and_the_host_keeps_its_own(make: Make) -> None:
    before = os.uname().nodename
    one, other, host = make(host_name="n3"), make(host_name="n4"), make()
    assert one.agent().run("1.1", b"uname", b"-n") == b"n3\n"
    assert other.agent().run("1.1", b"uname", b"-n", uid=NOBODY, gid=NOBODY) == b"n4\n"
    assert host.agent().run("1.1", b"uname", b"-n").decode() == f"{before}\n"
    assert os.uname().nodename == before
    assert kinds(one) == {"uts": True, "ipc": True, "net": False}
    assert kinds(host) == {"uts": False, "ipc": False, "net": False}


def test_shared_memory_is_of_one_space_and_of_all_users_in_it(make: Make) -> None:
    one, other = make(host_name="n3"), make(host_name="n4")
    name = f"/dev/shm/heorot-{os.getpid()}"
    first, second = one.agent(), other.agent()
    first.run("1.1", b"sh", b"-c", b"umask 077; echo mine > $0", name.encode(), uid=NOBODY, gid=NOBODY)
    assert second.run("1.1", b"sh", b"-c", b"ls -A /dev/shm") == b""
    assert not os.path.exists(name)
    assert first.run("1.2", b"stat", b"-c", b"%a %u", b"/dev/shm", name.encode()) == b"1777 0\n600 65534\n"
    # As on the host: no programs with other users' rights, and nobody takes away what is another's.
    first.run("1.3", b"sh", b"-c", b"echo root > /dev/shm/of-root")
    script = b"rm -f /dev/shm/of-root 2>&-; cat /dev/shm/of-root; grep -c ' /dev/shm .*nosuid,nodev' /proc/self/mounts"
    assert first.run("1.4", b"sh", b"-c", script, uid=NOBODY, gid=NOBODY) == b"root\n1\n"


def test_shared_memory_has_the_size_of_the_hosts(make: Make) -> None:
    host = os.statvfs("/dev/shm")
    shown = make(host_name="n3").agent().run("1.1", b"stat", b"-f", b"-c", b"%b %S", b"/dev/shm").split()
    assert int(shown[0]) * int(shown[1]) == host.f_blocks * host.f_frsize


def test_system_v_shared_memory_is_of_one_space(make: Make) -> None:
    one, other = make(host_name="n3"), make(host_name="n4")
    first, second = one.agent(), other.agent()
    first.run("1.1", b"sh", b"-c", b"ipcmk -M 4096 >/dev/null")
    count = b"tail -n +2 /proc/sysvipc/shm | wc -l"
    assert first.run("1.2", b"sh", b"-c", count) == b"1\n"
    assert second.run("1.1", b"sh", b"-c", count) == b"0\n"


def test_a_cluster_that_is_in_shared_memory_keeps_its_files(make: Make) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        space = make(host_name="n3", cluster_dir=directory)
        Path(directory, "file").write_text("here\n")
        agent = space.agent()
        assert agent.run("1.1", b"cat", f"{directory}/file".encode()) == b"here\n"
        assert agent.run("1.2", b"uname", b"-n") == b"n3\n"


@pytest.fixture
def hosts() -> Iterator[Path]:
    """A hosts file in a directory that is root's alone."""
    with tempfile.TemporaryDirectory(prefix="heorot-hosts-") as directory:
        file = Path(directory, "hosts")
        file.write_text("127.0.0.1 localhost\n198.18.0.7 n7 c7\n")
        file.chmod(0o644)
        yield file


def test_the_hosts_file_of_the_cluster_is_what_all_users_see_and_nobody_can_change(make: Make, hosts: Path) -> None:
    before = Path("/etc/hosts").read_bytes()
    agent = make(hosts_path=str(hosts)).agent()
    assert agent.run("1.1", b"cat", b"/etc/hosts", uid=NOBODY, gid=NOBODY) == hosts.read_bytes()
    assert agent.run("1.2", b"getent", b"hosts", b"c7").split() == [b"198.18.0.7", b"n7", b"c7"]
    for number, uid in enumerate((0, NOBODY)):
        script = b"echo 10.0.0.1 n7 >> /etc/hosts; rm -f /etc/hosts; mv /etc/hosts /tmp; cat /etc/hosts"
        found = agent.run(f"1.{number + 3}", b"sh", b"-c", script, uid=uid, gid=uid, stderr=None)
        assert found == hosts.read_bytes()
    # What the daemon writes there later is seen at once; the host's own file is what it was.
    hosts.write_text("198.18.0.8 n7\n")
    assert agent.run("1.9", b"getent", b"hosts", b"n7").split() == [b"198.18.0.8", b"n7"]
    assert Path("/etc/hosts").read_bytes() == before
    assert stat.S_IMODE(hosts.stat().st_mode) == 0o644


def test_a_hosts_file_that_is_a_link_is_not_followed(make: Make, hosts: Path) -> None:
    link = hosts.with_name("link")
    link.symlink_to("/etc/passwd")
    agent = make(hosts_path=str(link)).agent()
    assert agent.run("1.1", b"cat", b"/etc/hosts") == Path("/etc/hosts").read_bytes()
