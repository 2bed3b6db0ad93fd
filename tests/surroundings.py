"""What every test starts from, whoever runs the tests, from where, and beside what else.

Signal dispositions, limits, umask and environment are set here and not inherited: `nohup make test &` is the same as
`make test` at a terminal. As root, each process that runs tests (there are several with ``-n``) also has mounts, a
network and the directories where programs meet (`/run`, `/dev/shm`) of its own. So no test sees a file, a port or a
network namespace of another run, of a cluster of this machine, or of the tests beside it; and all of it ends with the
process. Without root such things are shared, and the tests do not judge them.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import resource
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

RUN = "HEOROT_TEST_RUN"
"""Names the run in the environment of every process that descends from it, those of all its workers too."""
OWN_DIRECTORIES = ("/run", "/dev/shm")
"""Where programs meet that are not under TMPDIR."""
NAMESPACES = "/run/netns"
KEPT_BY_TOOLS = (NAMESPACES, "/run/mount", "/run/lock")
"""What ip(8), mount(8) and others make in `/run` when they are first used, and leave there."""
PRIVATE = "HEOROT_TEST_PRIVATE"
"""Is set where `OWN_DIRECTORIES` belong to this process and what descends from it."""
PYTEST_FILES, HOME = "t", "home"
"""Below TMPDIR; the first is short, because the path of a unix socket has 107 bytes at most."""
LONGEST_PARENT = 24
KEPT = ("PATH", "PYTHON", "VIRTUAL_ENV")
KEPT_BEGINNINGS = ("HEOROT_TEST", "HEOROT_FUZZ", "PYTEST_", "HYPOTHESIS_", "COVERAGE_")
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
OPEN_FILES = 16384
"""The soft limit; some tests hold thousands of processes, with the pipes of each, in one process."""
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Set everything, before any other plugin makes a file."""
    is_worker = hasattr(config, "workerinput")
    runs_tests = is_worker or not getattr(config.option, "numprocesses", None)
    _open_standard_descriptors()
    _set_signals()
    _set_limits()
    os.umask(0o022)
    directory = _make_directory(config.workerinput["workerid"] if is_worker else "")  # type: ignore[attr-defined]
    _set_environment(directory, is_worker)
    if runs_tests:
        if is_worker:
            # Tests see no terminal but those that they make.
            with suppress(OSError):
                os.setsid()
        if os.geteuid() == 0:
            _take_own_namespaces()
        if is_worker or config.option.basetemp is None:
            config.option.basetemp = f"{directory}/{PYTEST_FILES}"


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove the temporary files; at the end of the run, also what a worker that died has left."""
    directory = os.environ["TMPDIR"]
    if not hasattr(config, "workerinput"):
        for pid in _pids_of_run():
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for left in Path(directory).parent.glob(f"{Path(directory).name}.*"):
            shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)


def is_marked(pid: int, name: str) -> bool:
    """Tell whether a process has this variable in its environment with the value that it has in ours."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{name}={os.environ.get(name)}".encode() in file.read().split(b"\0")
    except OSError:
        return False


def _pids_of_run() -> Iterable[int]:
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]
    return [pid for pid in pids if is_marked(pid, RUN)]


def _open_standard_descriptors() -> None:
    """Have 0, 1 and 2 lead somewhere; else the next file that is opened would be taken for one of them."""
    for number in range(3):
        try:
            fcntl.fcntl(number, fcntl.F_GETFD)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)


def _set_signals() -> None:
    """Ignore nothing and block nothing: both would be inherited by every program that a test starts."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}):
        # Python itself ignores these two, and subprocess gives them back to its children.
        if number in (signal.SIGPIPE, signal.SIGXFSZ) or signal.getsignal(number) is not signal.SIG_IGN:
            continue
        if number == signal.SIGINT:
            signal.signal(number, signal.default_int_handler)
        else:
            # We go on ignoring it, as nohup wants; but a program that is started afresh has a default again.
            signal.signal(number, lambda *_: None)


def _set_limits() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (enough, most))
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE):
        _, most = resource.getrlimit(kind)
        resource.setrlimit(kind, (most, most))
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))


def _make_directory(worker: str) -> str:
    """Return a directory for temporary files; a worker inherits the name of the run's, and makes its own beside it."""
    if worker:
        directory = f"{os.environ['TMPDIR']}.{worker}"
        os.mkdir(directory, 0o700)
        return directory
    parent = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="ht.", dir=parent if len(parent) <= LONGEST_PARENT else "/tmp")


def _set_environment(directory: str, is_worker: bool) -> None:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or any(name.startswith(beginning) for beginning in KEPT_BEGINNINGS)
    }
    path = [item for item in kept.get("PATH", "").split(":") if item]
    user = pwd.getpwuid(os.geteuid()).pw_name
    os.environ.clear()
    os.environ |= kept | {
        "HOME": f"{directory}/{HOME}",
        "LANG": "C.UTF-8",
        "LOGNAME": user,
        "PATH": ":".join([*path, *(item for item in SYSTEM_PATH if item not in path)]),
        "SHELL": "/bin/sh",
        "TMPDIR": directory,
        "USER": user,
    }
    os.mkdir(os.environ["HOME"], 0o700)
    tempfile.tempdir = directory
    if not is_worker:
        os.environ[RUN] = directory


def _take_own_namespaces() -> None:
    """Leave the mounts and the network of the machine; a machine that does not allow it is tested as it is."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount(source: str, target: str, kind: str, flags: int) -> bool:
        done = libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
        return bool(done == 0)

    if libc.unshare(CLONE_NEWNS) != 0:
        return
    # In a plain chroot `/` is no mount point; what is above it cannot be seen from here then.
    if not mount("none", "/", "none", MS_REC | MS_PRIVATE) and ctypes.get_errno() != 22:
        raise OSError(ctypes.get_errno(), "cannot make the mounts of the tests private")
    for directory in (*OWN_DIRECTORIES, *KEPT_BY_TOOLS):
        os.makedirs(directory, exist_ok=True)
        if directory in (*OWN_DIRECTORIES, NAMESPACES) and not mount("tests", directory, "tmpfs", 0):
            raise OSError(ctypes.get_errno(), f"cannot mount a tmpfs for the tests: {directory}")
    os.chmod("/run", 0o755)
    os.environ[PRIVATE] = "yes"
    if libc.unshare(CLONE_NEWNET) == 0:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            request = struct.pack("16sH14x", b"lo", 0)
            (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request), 16)
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))
