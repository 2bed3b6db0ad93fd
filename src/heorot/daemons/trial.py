"""Tries what daemons need of this machine: each trial in a child of its own, of which nothing is left.

A trial does what the daemons do, by the same functions; so what it says is what they will meet. ``heorot doctor`` runs
``python -m heorot.daemons.trial NODES DIRECTORY`` and gets a list of names, whether it went well, and a text, as JSON.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from typing import NoReturn

from heorot.core.errors import HeorotError
from heorot.linux import system
from heorot.linux.trusted_path import make_directory, open_directory

TIMEOUT_S = 10.0
MAX_TEXT_BYTES = 4096
NODE = 0
NAME = "n0"


class TrialRefused(HeorotError):
    """The machine does not do what was tried."""


def attempt(trial: Callable[[], str]) -> tuple[bool, str]:
    """Run a trial in a child; return whether it went well, and what it says of it, or why it did not."""
    read, write = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        _run(trial, write)
    os.close(write)
    try:
        said = _receive(read)
    finally:
        os.close(read)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not said:
        return False, "no answer: the process that tried it was killed, or it took too long"
    return said.startswith(b"+"), said[1:].decode("utf-8", "replace")


def _receive(read: int) -> bytes:
    deadline_s = time.monotonic() + TIMEOUT_S
    said = b""
    while select.select([read], [], [], max(0.0, deadline_s - time.monotonic()))[0]:
        data = os.read(read, MAX_TEXT_BYTES)
        if not data:
            return said
        said += data
    return b""


def _run(trial: Callable[[], str], write: int) -> NoReturn:
    try:
        try:
            # What it starts, and so what that starts, ends with it.
            system.set_parent_death_signal(signal.SIGKILL)
            said = "+" + trial()
        except OSError as error:
            place = f"{error.filename}: " if isinstance(error.filename, str) else ""
            said = f"-{place}{error.strerror or error}"
        except Exception as error:
            said = f"-{error}"
        os.write(write, said.encode("utf-8", "backslashreplace")[:MAX_TEXT_BYTES])
    finally:
        os._exit(0)


def in_pid_namespace(inside: Callable[[], str]) -> str:
    """Return what the first process of a new PID namespace returns. Only for a trial: this process is its child's."""
    try:
        system.unshare(system.CLONE_NEWPID)
    except OSError as error:
        raise TrialRefused(f"cannot make a PID namespace: {error}") from error
    good, text = attempt(inside)
    if not good:
        raise TrialRefused(text)
    return text


def pid_namespace() -> str:
    """Be process 1 of a namespace."""

    def inside() -> str:
        if os.getpid() != 1:
            raise TrialRefused(f"the first process of a new PID namespace is number {os.getpid()} there")
        return "made one"

    return in_pid_namespace(inside)


def process_space(nodes: int = 0) -> str:
    """Make a node's process space, as bpinit does; with `nodes`, with a PID range in a cluster of so many."""
    from heorot.bpinit.namespace import isolate, pid_range
    from heorot.core.space.events import SpaceConfig

    base, size = pid_range(NODE, nodes) if nodes else (0, 0)

    def inside() -> str:
        isolate(SpaceConfig(node=NODE, base_pid=base, range_size=size, host_name=NAME))
        if os.readlink("/proc/self") != "1":
            raise TrialRefused("/proc does not show the new PID namespace")
        if os.uname().nodename != NAME:
            raise TrialRefused(f"the host name is {os.uname().nodename}, not {NAME}")
        if not size:
            return "a /proc, mounts, a host name and shared memory of its own"
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        if not base <= pid < base + size:
            raise TrialRefused(f"a process of the range from {base} on got the PID {pid}")
        with open("/proc/sys/kernel/pid_max", "rb") as file:
            limit = int(file.read())
        if limit != base + size:
            raise TrialRefused(f"the range cannot be given an end (that came with Linux 6.14): the limit is {limit}")
        return f"the first process of n{NODE} got the PID {pid}"

    return in_pid_namespace(inside)


def room() -> str:
    """Do, in mounts of our own, what shows the files of an image to a program."""
    system.unshare(system.CLONE_NEWNS)
    system.make_mounts_private()
    place = os.fsencode(tempfile.gettempdir())
    system.mount_tmpfs(place)
    for name in (b"/one", b"/two", b"/both", b"/root"):
        os.mkdir(place + name)
    for name in (b"/one/file", b"/two/other"):
        os.close(os.open(place + name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    system.bind_mount(place + b"/one/file", place + b"/two/other")
    layers = [os.open(place + name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for name in (b"/one", b"/two")]
    system.mount_overlay(layers, place + b"/both")
    if sorted(os.listdir(place + b"/both")) != [b"file", b"other"]:
        raise TrialRefused("an overlay does not show the files of its layers")
    system.forbid_set_user_id()
    system.mount_tmpfs(place + b"/root")
    system.change_root(place + b"/root")
    if os.listdir("/"):
        raise TrialRefused("a new root directory is not empty")
    return "tmpfs, bind mounts, overlays and a new root"


def subreaper() -> str:
    """Inherit an orphan, as a process space without root does."""
    system.become_subreaper()
    child = os.fork()
    if not child:
        if not os.fork():
            signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
        orphans = [int(pid) for pid in file.read().split()]
    for pid in orphans:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    if not orphans:
        raise TrialRefused("orphans do not become children of a subreaper: what jobs leave could not be ended")
    return "orphans come to the subreaper"


def pidfd() -> str:
    """End a process by its descriptor, and learn of its end by it."""
    pid = os.fork()
    if not pid:
        signal.pause()
        os._exit(0)
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    if not select.select([fd], [], [], TIMEOUT_S / 2)[0]:
        raise TrialRefused("a descriptor of a process does not tell of its end")
    os.waitid(os.P_PIDFD, fd, os.WEXITED)
    return "a process was ended by its descriptor"


def terminal() -> str:
    """Make a pseudo-terminal."""
    ours, theirs = os.openpty()
    os.write(ours, b"x\n")
    if os.read(theirs, 2) != b"x\n":
        raise TrialRefused("a pseudo-terminal does not pass on what is typed")
    return "made one"


def sockets(directory: str) -> str:
    """Talk over a unix socket with a name below `directory`, and over TCP on this host."""
    own = os.path.join(directory, f".heorot-doctor.{os.urandom(8).hex()}")
    # As a cluster's directory: nobody else can exchange it, so that it is there by this name at the end, too.
    make_directory(own, 0o700)
    try:
        _talk_below(own, directory)
    finally:
        os.rmdir(own)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.settimeout(TIMEOUT_S / 4)
        try:
            listener.bind(("127.0.0.1", 0))
            _talk(listener, listener.getsockname(), socket.AF_INET)
        except OSError as error:
            reason = error.strerror or str(error)
            raise TrialRefused(f"no TCP over 127.0.0.1 ({reason}): is the interface 'lo' up?") from error
    return f"unix sockets in {directory}, and TCP over 127.0.0.1"


def _talk_below(own: str, directory: str) -> None:
    fd = open_directory(own)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # Short enough, however long the directory's own path is.
            address = f"/proc/self/fd/{fd}/socket"
            try:
                listener.bind(address)
            except OSError as error:
                raise TrialRefused(f"cannot make a unix socket in {directory}: {error.strerror}") from error
            try:
                _talk(listener, address, socket.AF_UNIX)
            finally:
                os.unlink("socket", dir_fd=fd)
    finally:
        os.close(fd)


def _talk(listener: socket.socket, address: object, family: int) -> None:
    listener.listen(1)
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(TIMEOUT_S / 4)
        client.connect(address)  # type: ignore[arg-type]
        server, _ = listener.accept()
        with server:
            server.sendall(b"x")
            if client.recv(1) != b"x":
                raise TrialRefused("a socket does not pass on what is sent")


def main() -> None:
    """Try everything that a cluster of this user, of so many nodes and in this directory, needs."""
    nodes, directory = int(sys.argv[1]), sys.argv[2]
    trials: dict[str, Callable[[], str]] = {"subreaper": subreaper}
    if os.geteuid() == 0:
        trials = {
            "pid namespaces": pid_namespace,
            "process spaces": process_space,
            "pid ranges": lambda: process_space(nodes),
            "mounts": room,
        }
    trials |= {"pidfds": pidfd, "sockets": lambda: sockets(directory), "terminals": terminal}
    json.dump([[name, *attempt(trial)] for name, trial in trials.items()], sys.stdout)


if __name__ == "__main__":
    main()
