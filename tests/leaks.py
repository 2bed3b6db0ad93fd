"""A test that leaves something behind fails.

That is a process, thread, descriptor, mount, network namespace, socket, or a file outside the test's own directory.
Only what came through this process counts, whatever others do on the machine: files below its TMPDIR, and mounts, named
network namespaces and files in `/run` and `/dev/shm` where these are its own (`tests.surroundings`).
Every process of a test is recognised by a variable that it inherits in its environment, whoever its parent is by then,
or by being a descendant of the test process. What a fixture of a wider scope started before the test (a cluster for a
whole module, say), and what that starts in turn, is examined when the module is over. Processes left behind are killed,
so that one bad test does not spoil the next.
"""

from __future__ import annotations

import gc
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.surroundings import HOME, KEPT_BY_TOOLS, NAMESPACES, OWN_DIRECTORIES, PRIVATE, PYTEST_FILES, is_marked

MARKER = "HEOROT_TEST"
GRACE_S = float(os.environ.get("HEOROT_TEST_GRACE_S", "3"))
"""How long something that is on its way out may take."""
KILLED_S = 60.0
"""The same for processes that have been killed and need only a processor, for which a busy machine lets them wait."""


def pytest_configure() -> None:
    """Mark this process's environment; all that tests start inherits it."""
    os.environ[MARKER] = f"{os.getpid()}.{time.time_ns()}"


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
    # Directories that others share are not ours to judge.
    private = OWN_DIRECTORIES if PRIVATE in os.environ else ()
    own = os.environ["TMPDIR"]
    found = {f"{where}/{name}" for where in (own, *private) for name in _listed(where)}
    return found - {f"{own}/{HOME}", f"{own}/{PYTEST_FILES}", *KEPT_BY_TOOLS}


def _parent(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def _described(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return f"process {pid}, parent {_parent(pid)}: {command[:200] or '(ended, but its parent did not wait for it)'}"
    except OSError:
        return f"process {pid}"


def _is_killed(pid: int) -> bool:
    """Say whether SIGKILL is on its way to this process: nothing keeps it from ending but that it must run for it."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            lines = [line.split() for line in file if line.startswith((b"SigPnd:", b"ShdPnd:"))]
    except OSError:
        return False
    return any(int(mask, 16) >> (signal.SIGKILL - 1) & 1 for _, mask in lines)


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
            marked = is_marked(pid, MARKER)
            ancestor = _parent(pid)
            while ancestor > 1 and ancestor not in self.pids:
                ancestor = _parent(ancestor)
            older_owner = ancestor > 1 and ancestor != own and is_marked(ancestor, MARKER)
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
                if is_marked(pid, MARKER) or _parent(pid) == os.getpid():
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
    began = time.monotonic()
    while left := before.left_behind() + others():
        grace_s = KILLED_S if any(map(_is_killed, before.new_pids())) else GRACE_S
        if time.monotonic() >= began + grace_s:
            break
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
