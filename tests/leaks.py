"""A test that leaves something behind fails.

That is a process, thread, descriptor, mount, network namespace, socket, or a file outside the test's own directory.
Every process of a test is recognised by a variable that it inherits in its environment, whoever its parent is by then,
or by being a descendant of the test process. What a fixture of a wider scope started before the test (a cluster for a
whole module, say), and what that starts in turn, is examined when the module is over. Processes left behind are killed,
so that one bad test does not spoil the next.
"""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

MARKER = "HEOROT_TEST"
GRACE_S = float(os.environ.get("HEOROT_TEST_GRACE_S", "3"))
"""How long something that is on its way out may take."""
SHARED_DIRECTORIES = ("/run", "/dev/shm")
"""Where programs put files that are not under TMPDIR; only names with ``heorot`` in them are looked at."""
NAMESPACES = "/run/netns"
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x00020000, 0x4000, 1 << 18


def pytest_configure() -> None:
    """Mark this process's environment and name a directory for temporary files; all that tests start inherits both."""
    os.environ[MARKER] = f"{os.getpid()}.{time.time_ns()}"
    # A short name: the path of a unix socket has 107 bytes at most, and pytest adds much to this.
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="ht.")
    _own_mounts()


def pytest_unconfigure() -> None:
    """Remove the temporary files, those of pytest's own too."""
    shutil.rmtree(os.environ["TMPDIR"], ignore_errors=True)


def _own_mounts() -> None:
    """Give this process, if it is root, mounts and names of network namespaces of its own.

    Then none that another run of the tests makes at the same time is taken for ours, and all end with this process.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() != 0 or libc.unshare(CLONE_NEWNS) != 0:
        return
    os.makedirs(NAMESPACES, exist_ok=True)
    for arguments in ((b"none", b"/", None, MS_REC | MS_PRIVATE), (b"none", NAMESPACES.encode(), b"tmpfs", 0)):
        source, target, kind, flags = arguments
        if libc.mount(source, target, kind, ctypes.c_ulong(flags), None) != 0:
            raise OSError(ctypes.get_errno(), f"cannot make the mounts of the tests private: {target.decode()}")


def _listed(directory: str) -> set[str]:
    try:
        return set(os.listdir(directory))
    except OSError:
        return set()


def _pids() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _descriptors() -> set[str]:
    # Where 0, 1 and 2 lead depends on whether pytest captures output at this moment.
    found = set()
    for number in set(os.listdir("/proc/self/fd")) - {"0", "1", "2"}:
        with suppress(OSError):  # The descriptor of the listing itself is gone by now.
            found.add(f"{number} -> {os.readlink(f'/proc/self/fd/{number}')}")
    return found


def _mounts() -> set[str]:
    # `ip netns add` turns /run/netns itself into a mount point, once, and it stays.
    with open("/proc/self/mountinfo") as file:
        points = {line.split()[4] for line in file}
    return points - {NAMESPACES}


def _files() -> set[str]:
    own = os.environ["TMPDIR"]
    found = {f"{own}/{name}" for name in _listed(own) if not name.startswith("pytest-of-")}
    return found | {f"{where}/{name}" for where in SHARED_DIRECTORIES for name in _listed(where) if "heorot" in name}


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _is_marked(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{MARKER}={os.environ.get(MARKER)}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def _described(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return f"process {pid}, parent {_parent(pid)}: {command[:200] or '(ended, but its parent did not wait for it)'}"
    except OSError:
        return f"process {pid}"


@dataclass
class Belongings:
    """What there is at one moment."""

    pids: set[int] = field(default_factory=_pids)
    descriptors: set[str] = field(default_factory=_descriptors)
    threads: set[int] = field(default_factory=lambda: {thread.ident or 0 for thread in threading.enumerate()})
    mounts: set[str] = field(default_factory=_mounts)
    namespaces: set[str] = field(default_factory=lambda: _listed(NAMESPACES))
    files: set[str] = field(default_factory=_files)

    def new_pids(self) -> list[int]:
        """Return the processes that came since then and that no older process but this one is responsible for."""
        own = os.getpid()
        found = []
        for pid in sorted(_pids() - self.pids):
            marked = _is_marked(pid)
            ancestor = _parent(pid)
            while ancestor > 1 and ancestor not in self.pids:
                ancestor = _parent(ancestor)
            older_owner = ancestor > 1 and ancestor != own and _is_marked(ancestor)
            if (marked and not older_owner) or ancestor == own:
                found.append(pid)
        return found

    def left_behind(self) -> list[str]:
        """Return one line for each thing that is there now and was not then."""
        lines = [_described(pid) for pid in self.new_pids()]
        lines += [f"descriptor {item}" for item in sorted(_descriptors() - self.descriptors)]
        lines += [
            f"thread {thread.name}" for thread in threading.enumerate() if (thread.ident or 0) not in self.threads
        ]
        lines += [f"mount {point}" for point in sorted(_mounts() - self.mounts)]
        lines += [f"network namespace {name}" for name in sorted(_listed(NAMESPACES) - self.namespaces)]
        lines += [f"file {name}" for name in sorted(_files() - self.files)]
        return lines


def _sockets_below(directory: Path) -> list[str]:
    found = []
    for where, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(where, name)
            with suppress(OSError):
                if stat.S_ISSOCK(os.lstat(path).st_mode):
                    found.append(f"socket {path}")
    return sorted(found)


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(OSError):
            descriptor = os.pidfd_open(pid)
            try:
                if _is_marked(pid) or _parent(pid) == os.getpid():
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)
        with suppress(OSError):
            os.waitpid(pid, 0)  # Works, and returns at once, for our own children only.


def _fail_on_leaks(before: Belongings, others: Callable[[], list[str]]) -> None:
    left = before.left_behind() + others()
    if not left:
        return
    # Objects in reference cycles hold descriptors until they are collected; processes that were killed take a moment.
    gc.collect()
    deadline = time.monotonic() + GRACE_S
    while (left := before.left_behind() + others()) and time.monotonic() < deadline:
        time.sleep(0.02)
    if left:
        _kill(before.new_pids())
        pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(autouse=True, scope="module")
def _module_leaves_nothing() -> Iterator[None]:
    before = Belongings()
    yield
    _fail_on_leaks(before, list)


@pytest.fixture(autouse=True)
def _test_leaves_nothing(request: pytest.FixtureRequest) -> Iterator[None]:
    # Asked for here, the directory is removed after this fixture has looked into it.
    directory: Path | None = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    before = Belongings()
    yield
    _fail_on_leaks(before, lambda: _sockets_below(directory) if directory else [])
