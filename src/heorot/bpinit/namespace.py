"""Making a node's process space: a PID and mount namespace with a PID range of its own, or a subreaper without root.

Cluster PIDs: the namespace of node k counts its PIDs from ``(k + 1) * size``, so a PID is unique in the cluster and
says where the process is. This needs a per-namespace ``pid_max`` (Linux 6.14); with an older kernel the range starts at
the same place but has no end of its own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from typing import NoReturn

from heorot.config.hosts import HOSTS_PATH
from heorot.core.errors import HeorotError
from heorot.core.space.events import SpaceConfig
from heorot.linux import system

PID_LIMIT = 4_194_304
"""The highest ``pid_max`` of 64-bit Linux."""
MAX_RANGE_SIZE = 65_536
BARE_ROOT_MIB = 256
"""What a bare node has room for outside the cluster's own directory, in memory as far as it is used."""
SHARED_MEMORY = "/dev/shm"
MESSAGE_QUEUES = "/dev/mqueue"
MIN_RANGE_SIZE = 512
"""The kernel reserves PIDs below 300, and a useful node needs some."""


class SpaceError(HeorotError):
    """A process space could not be made."""


def pid_range(node: int, capacity: int) -> tuple[int, int]:
    """Return first PID and number of PIDs of a node, in a cluster of at most `capacity` nodes.

    Raises
    ------
    SpaceError
        If the cluster is too large for PID ranges.
    """
    if not 0 <= node < capacity:
        raise SpaceError(f"node {node} is not one of a cluster of {capacity} nodes")
    size = MAX_RANGE_SIZE
    while (capacity + 1) * size > PID_LIMIT:
        size //= 2
    if size < MIN_RANGE_SIZE:
        limit = PID_LIMIT // MIN_RANGE_SIZE - 1
        raise SpaceError(f"{capacity} nodes leave too few PIDs for each; a cluster has at most {limit} nodes")
    return (node + 1) * size, size


def spawn_space(
    config: SpaceConfig,
    listener: socket.socket,
    close_fds: list[int] | None = None,
    failed: Callable[[str], None] | None = None,
) -> int:
    """Fork a bpinit from this process and return its PID; the caller reaps it.

    As root the child is PID 1 of a new PID namespace with a mount namespace and /proc of its own: with its end, however
    it comes, the kernel ends every process in it; end it with SIGKILL, for it heeds no other signal. Without root it is
    a subreaper among the caller's processes: on SIGTERM it kills all of its descendants and ends, but if it is killed
    with SIGKILL, its processes are left; `heorot.bpinit.strays` finds them by the space's marker.

    Parameters
    ----------
    config:
        `isolated` is set as the caller's privilege allows; `marker` should be chosen by the caller, who then can
        look for strays.
    listener:
        A listening unix socket; the caller may close its copy afterwards.
    close_fds:
        Descriptors that the child shall not keep.
    failed:
        Called in the child, before it ends because of an error, with what is wrong.

    Raises
    ------
    SpaceError
        If the namespace could not be made (nothing is left then).
    """
    import msgspec  # known to be loaded by whoever has a SpaceConfig

    if os.geteuid() != 0:
        plain = msgspec.structs.replace(config, isolated=False, base_pid=0, range_size=0)
        pid = os.fork()
        if pid == 0:
            _child(plain, listener, close_fds, None, failed)
        return pid
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    parent = os.pidfd_open(os.getpid())
    try:
        try:
            system.unshare(system.CLONE_NEWPID)
        except OSError as error:
            raise SpaceError(f"cannot make a PID namespace for node {config.node}: {_said(error)}") from error
        try:
            pid = os.fork()
            if pid == 0:
                os.close(own)
                _child(msgspec.structs.replace(config, isolated=True), listener, close_fds, parent, failed)
        finally:
            try:
                system.setns(own, system.CLONE_NEWPID)
            except OSError as error:
                raise SpaceError(
                    f"cannot come back from the PID namespace of node {config.node}: {_said(error)}; "
                    "root of a user namespace has to have made its PID namespace, too (unshare --user --pid)"
                ) from error
    finally:
        os.close(own)
        os.close(parent)
    return pid


def _child(
    config: SpaceConfig,
    listener: socket.socket,
    close_fds: list[int] | None,
    parent: int | None,
    failed: Callable[[str], None] | None,
) -> NoReturn:
    import msgspec

    from heorot.bpinit import daemon

    status = 1
    try:
        for fd in close_fds or []:
            os.close(fd)
        if config.isolated:
            # The old /proc still shows the outer namespace: this is our PID there.
            config = msgspec.structs.replace(config, init_pid=config.init_pid or int(os.readlink("/proc/self")))
            if config.die_with_parent:
                system.set_parent_death_signal(signal.SIGKILL)
            isolate(config)
        daemon.run_space(config, listener, parent)
    except BaseException as error:
        text = str(error) if isinstance(error, HeorotError) else f"{type(error).__name__}: {error}"
        if failed is not None:
            failed(text)
        os.write(2, f"bpinit of n{config.node} ends: {text}\n".encode(errors="backslashreplace"))
    finally:
        os._exit(status)


def isolate(config: SpaceConfig) -> None:
    """Finish the namespace from inside, as its PID 1: private mounts, /proc, the PID range, and a host name of its own.

    Raises
    ------
    SpaceError
        If one of these is refused.
    """
    try:
        system.unshare(system.CLONE_NEWNS)
        if config.host_name:
            system.unshare(system.CLONE_NEWUTS | system.CLONE_NEWIPC)
            socket.sethostname(config.host_name)
        system.make_mounts_private()
        if config.bare:
            _empty_root(os.fsencode(config.bare), with_hosts=bool(config.hosts_path))
        system.mount_proc()
        if config.host_name:
            _own_shared_memory(config)
        if config.hosts_path:
            _show_hosts(config)
    except OSError as error:
        raise SpaceError(f"cannot set up the namespaces of node {config.node}: {_said(error)}") from error
    if not config.base_pid:
        return
    if _kernel_version() >= (6, 14):
        _write("/proc/sys/kernel/pid_max", config.base_pid + config.range_size)
    _write("/proc/sys/kernel/ns_last_pid", config.base_pid - 1)


def _empty_root(kept: bytes, with_hosts: bool) -> None:
    """Change to a root with nothing in it but /proc, /dev, /tmp, one directory, and perhaps a hosts file."""
    root = kept + b"/cache/root"
    os.makedirs(root, 0o755, exist_ok=True)
    system.mount_tmpfs(root, BARE_ROOT_MIB)
    for name in (b"/proc", b"/dev", b"/tmp", kept):
        os.makedirs(root + name, 0o755)
    os.chmod(root + b"/tmp", 0o1777)
    if with_hosts:
        os.mkdir(root + b"/etc", 0o755)
        with open(root + os.fsencode(HOSTS_PATH), "xb"):
            pass
    for name in (b"/proc", b"/dev", kept):
        system.bind_mount(name, root + name, recursive=True)
    system.change_root(root)


def _own_shared_memory(config: SpaceConfig) -> None:
    """Cover the host's shared memory and message queues: what meets there is on one host, and this is another.

    Not where the cluster keeps its own files in that directory: these would be gone with it.
    """
    own = [os.path.realpath(path) for path in (config.spool_dir, config.cluster_dir, config.bare) if path]
    if any(os.path.commonpath([SHARED_MEMORY, path]) == SHARED_MEMORY for path in own):
        return
    with _directory(SHARED_MEMORY) as fd:
        if fd is not None:
            is_mount = os.fstat(fd).st_dev != os.stat("/dev").st_dev
            found = os.fstatvfs(fd)
            system.mount_shared_memory(b"/proc/self/fd/%d" % fd, found.f_blocks * found.f_frsize if is_mount else None)
    with _directory(MESSAGE_QUEUES) as fd:
        if fd is not None:
            with contextlib.suppress(OSError):  # a kernel may have none
                system.mount_message_queues(b"/proc/self/fd/%d" % fd)


def _show_hosts(config: SpaceConfig) -> None:
    """Cover the host's hosts file with the cluster's. A node on which that cannot be goes on without."""
    way = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    opened: list[int] = []
    try:
        for path in (config.hosts_path, HOSTS_PATH):
            opened.append(os.open(path, way))
        if not all(stat.S_ISREG(os.fstat(fd).st_mode) for fd in opened):
            raise OSError(errno.EINVAL, "a link, and no file")
        system.show_read_only(*opened)
    except OSError as error:
        text = f"names of nodes are not found on n{config.node}: {HOSTS_PATH} cannot be covered: {_said(error)}"
        os.write(2, f"bpinit: {text}\n".encode(errors="backslashreplace"))
    finally:
        for fd in opened:
            os.close(fd)


@contextlib.contextmanager
def _directory(path: str) -> Iterator[int | None]:
    """Give a descriptor of a directory; None if there is none by this name, or a link."""
    try:
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _kernel_version() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdigit()) or 0)


def _write(path: str, value: int) -> None:
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(b"%d" % value)
    except OSError as error:
        raise SpaceError(f"cannot write {value} to {path}: {_said(error)}") from error


def _said(error: OSError) -> str:
    return error.strerror or str(error)
