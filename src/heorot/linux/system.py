"""The few Linux system calls that Python's `os` lacks before 3.12."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from heorot.config.mark import EMBEDDED

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
_MS_REC = 0x4000
_MS_PRIVATE = 1 << 18
_MS_NOSUID_NODEV_NOEXEC = 2 | 4 | 8
_MS_NOSUID_NODEV = 2 | 4
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_MS_RDONLY = 1
_MS_BIND = 4096
_MS_MOVE = 8192
_MNT_DETACH = 2
_SYS_PIVOT_ROOT = 155 if os.uname().machine == "x86_64" else 41
_SYS_MOUNT_SETATTR = 442
_SYS_OPENAT2 = 437
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_OPEN_TREE_CLONE = 1
_AT_EMPTY_PATH = 0x1000
_MOVE_MOUNT_EMPTY_PATHS = 0x04 | 0x40
RESOLVE_NO_MAGICLINKS = 2
_RESOLVE_IN_ROOT = 16
_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 1
_MOUNT_ATTR_NOSUID = 2
_PROC_SUPER_MAGIC = 0x9FA0
_STATFS_BYTES = 256
"""More than the structure has on any machine; it begins with the kind of the file system."""
_SYS_KEYCTL = 250 if os.uname().machine == "x86_64" else 219
KEYCTL_JOIN_SESSION_KEYRING = 1
_KEYCTL_SETPERM = 5
_SEALED = 0x0B030000
"""Whoever has the keyring may view, read and search it, its owner view and read it, and nobody change it."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def unshare(flags: int) -> None:
    """See unshare(2). Raises OSError."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """See setns(2). Raises OSError."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def make_mounts_private() -> None:
    """Let no mount of this mount namespace, which must be new, reach another one. Raises OSError.

    In a plain chroot the root directory is no mount point; it becomes one then, and the root of the namespace, in which
    nothing is left of what lies outside. All that is done with mounts afterwards relies on that: what covers the root,
    and who comes into the namespace from elsewhere, and then has its root for his own.
    """
    try:
        _make_private()
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        _mount_root()


def _make_private() -> None:
    _check(_libc.mount(b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None), "mount --make-rprivate /")


def _mount_root() -> None:
    here = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    tree = -1
    try:
        # Whoever comes into a mount namespace gets its root, also if he was there before: so we leave the chroot. What
        # is mounted while its mounts are still shared would appear on the host.
        setns(namespace, CLONE_NEWNS)
        _make_private()
        flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE
        tree = _libc.syscall(ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(here), b"", ctypes.c_uint(flags))
        _check(0 if tree >= 0 else -1, "open_tree of the root directory")
        moved = _libc.syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT), ctypes.c_int(tree), b"", ctypes.c_int(here), b"",
            ctypes.c_uint(_MOVE_MOUNT_EMPTY_PATHS),
        )  # fmt: skip
        _check(moved, "mount the root directory on itself")
        os.fchdir(tree)
        change_root(b".")
    finally:
        for fd in (here, namespace, tree):
            if fd >= 0:
                os.close(fd)


def mount_proc() -> None:
    """Mount a /proc that shows this PID namespace. Raises OSError."""
    flags = ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC)
    _check(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount proc on /proc")


def mount_shared_memory(target: bytes, size_bytes: int | None) -> None:
    """Mount a file system in memory for all users, as /dev/shm is; None: for at most half of the memory.

    Raises OSError.
    """
    options = b"mode=1777" if size_bytes is None else b"mode=1777,size=%d" % size_bytes
    _check(_libc.mount(b"heorot", target, b"tmpfs", ctypes.c_ulong(_MS_NOSUID_NODEV), options), "mount tmpfs")


def mount_message_queues(target: bytes) -> None:
    """Mount the POSIX message queues of this IPC namespace. Raises OSError."""
    flags = ctypes.c_ulong(_MS_NOSUID_NODEV_NOEXEC)
    _check(_libc.mount(b"mqueue", target, b"mqueue", flags, None), "mount mqueue")


def bind_mount(source: bytes, target: bytes, *, recursive: bool = False) -> None:
    """Show a file or directory at another place, too. Raises OSError."""
    flags = ctypes.c_ulong(_MS_BIND | (_MS_REC if recursive else 0))
    _check(_libc.mount(source, target, None, flags, None), "mount --bind")


def show_read_only(source: int, target: int) -> None:
    """Show a file in the place of another one, for reading only; given by descriptors, so that no link is followed.

    Needs Linux 5.12. Raises OSError.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH
    tree = _libc.syscall(ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(source), b"", ctypes.c_uint(flags))
    _check(0 if tree >= 0 else -1, "open_tree")
    try:
        attributes = struct.pack("4Q", _MOUNT_ATTR_RDONLY, 0, 0, 0)
        result = _libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(tree), b"", ctypes.c_uint(_AT_EMPTY_PATH), attributes,
            ctypes.c_size_t(len(attributes)),
        )  # fmt: skip
        _check(result, "mount_setattr(read-only)")
        moved = _libc.syscall(
            ctypes.c_long(_SYS_MOVE_MOUNT), ctypes.c_int(tree), b"", ctypes.c_int(target), b"",
            ctypes.c_uint(_MOVE_MOUNT_EMPTY_PATHS),
        )  # fmt: skip
        _check(moved, "move_mount")
    finally:
        os.close(tree)


def move_mount(source: bytes, target: bytes) -> None:
    """Move what is mounted at one place, with all that is mounted on it, to another. Raises OSError."""
    _check(_libc.mount(source, target, None, ctypes.c_ulong(_MS_MOVE), None), "mount --move")


def mount_tmpfs(target: bytes, size_mib: int = 16) -> None:
    """Mount a small file system in memory. Raises OSError."""
    options = b"mode=755,size=%dm" % size_mib
    _check(_libc.mount(b"heorot", target, b"tmpfs", ctypes.c_ulong(0), options), "mount tmpfs")


def mount_overlay(layers: list[int], target: bytes) -> None:
    """Mount directories, given by descriptors, one over the other, the uppermost first, for reading.

    What the mount of the uppermost forbids (set-user-ID, devices, programs), this one does. Raises OSError.
    """
    forbidden = os.fstatvfs(layers[0]).f_flag & _MS_NOSUID_NODEV_NOEXEC
    lower = ":".join(f"/proc/self/fd/{fd}" for fd in layers)
    options = f"lowerdir={lower}".encode()
    _check(_libc.mount(b"heorot", target, b"overlay", ctypes.c_ulong(_MS_RDONLY | forbidden), options), "mount overlay")


def change_root(directory: bytes) -> None:
    """Make a mounted directory the root of this mount namespace. Raises OSError."""
    os.chdir(directory)
    # The old root comes to lie on the new one, and is taken off: see pivot_root(2).
    _check(_libc.syscall(ctypes.c_long(_SYS_PIVOT_ROOT), b".", b"."), "pivot_root")
    _check(_libc.umount2(b".", ctypes.c_int(_MNT_DETACH)), "umount the old root")
    os.chdir("/")


def forbid_set_user_id() -> None:
    """Let no mount of this mount namespace grant a program another user's rights. Raises OSError."""
    attributes = struct.pack("4Q", _MOUNT_ATTR_NOSUID, 0, 0, 0)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR), ctypes.c_int(-1), b"/", ctypes.c_uint(_AT_RECURSIVE), attributes,
        ctypes.c_size_t(len(attributes)),
    )  # fmt: skip
    _check(result, "mount_setattr(nosuid)")


def open_below(root: int, path: bytes, flags: int) -> int:
    """Open a path as a process with this root would, and return the descriptor. Raises OSError."""
    return _openat2(root, path, struct.pack("3Q", flags, 0, _RESOLVE_IN_ROOT))


def open_without_magic(path: bytes, flags: int, mode: int = 0) -> int:
    """Open a path that leads through no link of /proc to what a process has open, and return the descriptor.

    Raises OSError, with ELOOP if it does.
    """
    return _openat2(_AT_FDCWD, path, struct.pack("3Q", flags, mode, RESOLVE_NO_MAGICLINKS))


def _openat2(directory: int, path: bytes, how: bytes) -> int:
    fd = _libc.syscall(
        ctypes.c_long(_SYS_OPENAT2), ctypes.c_int(directory), path, ctypes.c_char_p(how), ctypes.c_size_t(len(how))
    )
    if fd < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), path)
    return int(fd)


def is_procfs(fd: int) -> bool:
    """Say whether an open file is one of /proc, wherever that is mounted. Raises OSError."""
    described = ctypes.create_string_buffer(_STATFS_BYTES)
    _check(_libc.fstatfs(ctypes.c_int(fd), described), "fstatfs")
    return ctypes.c_long.from_buffer(described).value == _PROC_SUPER_MAGIC


def is_about_us(fd: int) -> bool:
    """Say whether an open file of /proc tells of this process. Raises OSError."""
    return is_procfs(fd) and b"/%d/" % os.getpid() in os.readlink(b"/proc/self/fd/%d" % fd) + b"/"


def set_parent_death_signal(signal: int) -> None:
    """Get `signal` when the parent ends; a change of credentials clears this. Raises OSError."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def join_session_keyring() -> None:
    """Leave the session keyring, with the keys of whoever has started this process, for a new one without a name.

    It is empty and stays so: a child that keeps it can leave nothing in it for others. Raises OSError.
    """
    keyring = _keyctl(KEYCTL_JOIN_SESSION_KEYRING, 0, 0)
    _keyctl(_KEYCTL_SETPERM, keyring, _SEALED)


def _keyctl(operation: int, *arguments: int) -> int:
    result = _libc.syscall(ctypes.c_long(_SYS_KEYCTL), *(ctypes.c_long(word) for word in (operation, *arguments)))
    _check(0 if result >= 0 else -1, "join a new session keyring")
    return int(result)


def forbid_tracing() -> None:
    """Let no process without privilege look into this one's memory. Raises OSError."""
    _check(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0), "prctl(PR_SET_DUMPABLE)")


def become_subreaper() -> None:
    """Let orphaned descendants become children of this process. Raises OSError."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1), 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def signal_descriptor(number: int) -> int:
    """Return a descriptor that can be read when this signal, which must be blocked, has come; each read takes it.

    See signalfd(2). Raises OSError.
    """
    signals = struct.pack("Q120x", 1 << number - 1)
    fd = _libc.signalfd(ctypes.c_int(-1), signals, ctypes.c_int(os.O_NONBLOCK | os.O_CLOEXEC))
    _check(0 if fd >= 0 else -1, "signalfd")
    return int(fd)


def set_process_name(name: bytes) -> None:
    """Let ps(1) show this name (15 bytes at most). Raises OSError."""
    _check(_libc.prctl(_PR_SET_NAME, ctypes.c_char_p(name), 0, 0, 0), "prctl(PR_SET_NAME)")


def set_title(name: bytes) -> None:
    """Put the name into the command line in the place of the interpreter, if that is an embedded cluster's.

    All its daemons are forks of one process and would be shown with its arguments, which stay behind the name: what is
    left of a cluster is found by them. Raises OSError.
    """
    with open("/proc/self/cmdline", "rb") as file:
        line = file.read()
    _, module, arguments = line.partition(EMBEDDED)
    title = (name + module + arguments.rstrip(b"\0") + b"\0").ljust(len(line), b"\0")
    if not module or len(title) > len(line):
        return
    with open("/proc/self/stat", "rb") as file:
        # After the parenthesized name, which is field 2 of proc(5); field 48 is where the arguments begin.
        begin = int(file.read().rpartition(b")")[2].split()[45])
    if begin:
        ctypes.memmove(begin, title, len(title))
