"""Whether a directory can be trusted: nobody but root and us can change what is in it, or put another in its place.

What a daemon keeps, and the sockets at which it is reached, are found by path. That is safe only if each directory on
the way belongs to root or to us and can be written by nobody else; in one that is sticky, as /tmp, others may add
names, but not exchange ours. The way is walked by descriptors, from the root, and links on it are resolved here: what
was checked is what is opened, and because nobody else can exchange any part of it, its path stays good afterwards.
"""

from __future__ import annotations

import os
import stat
from errno import ENOTDIR

from heorot.core.errors import SecurityError

MAX_LINKS = 40
"""As many symbolic links as the kernel follows on one way."""
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_OVERFLOW_ID = 65534
"""What the kernel shows for an owner that a user namespace has no number for."""


class UntrustedPath(SecurityError):
    """Somebody other than root and us could change what is at a path, or exchange it."""


def check_directory(path: str | os.PathLike[str]) -> None:
    """Make sure that only root and we can change a directory.

    Raises
    ------
    UntrustedPath
        If somebody else can, or can exchange one on the way to it; says which, and what to do.
    OSError
        If there is none.
    """
    os.close(open_directory(path))


def check_file(path: str | os.PathLike[str]) -> None:
    """Make sure that only root and we can change a file, or put another in its place. Raises as `check_directory`."""
    directory, name = os.path.split(os.path.abspath(path))
    for _ in range(MAX_LINKS):
        fd = open_directory(directory)
        try:
            entry = os.open(name, _OPEN, dir_fd=fd)
        finally:
            os.close(fd)
        try:
            where = os.path.join(directory, name)
            found = os.fstat(entry)
            if stat.S_ISLNK(found.st_mode):
                _check_owner(where, found, passing=True)
                target = os.path.join(directory, os.readlink("", dir_fd=entry))
                directory, name = os.path.split(os.path.normpath(target))
                continue
            _check(where, entry, found, passing=False)
            return
        finally:
            os.close(entry)
    raise UntrustedPath(f"too many symbolic links on the way to {path}")


def make_directory(path: str | os.PathLike[str], mode: int, *, parents: bool = False) -> bool:
    """Make a directory where only root and we can change it, if there is none; return whether it is new.

    Parameters
    ----------
    mode
        Its permissions, whatever the umask; of one that is there already they stay as they are.
    parents
        Make those above it, too, with permissions 0755.

    Raises
    ------
    UntrustedPath, OSError
        As `check_directory`; nothing was made in a directory that is not to be trusted.
    """
    fd, made = _walk(os.path.abspath(path), mode, parents)
    os.close(fd)
    return made


def open_directory(path: str | os.PathLike[str]) -> int:
    """Return a descriptor (``O_PATH``) of a directory that only root and we can change. Raises as `check_directory`."""
    return _walk(os.path.abspath(path), None, False)[0]


def _walk(path: str, mode: int | None, parents: bool) -> tuple[int, bool]:
    pending = [name for name in reversed(path.split("/")) if name]
    links = 0
    made = False
    where = "/"
    fd = os.open("/", _OPEN | os.O_DIRECTORY)
    try:
        while pending:
            _check(where, fd, os.fstat(fd), passing=True)
            name = pending.pop()
            entry, made = _enter(fd, where, name, mode if mode is None or not pending else 0o755 if parents else None)
            try:
                found = os.fstat(entry)
                next_where = os.path.normpath(os.path.join(where, name))
                if stat.S_ISLNK(found.st_mode):
                    links += 1
                    if links > MAX_LINKS:
                        raise UntrustedPath(f"too many symbolic links on the way to {path}")
                    _check_owner(next_where, found, passing=True)
                    target = os.readlink("", dir_fd=entry)
                    pending += [part for part in reversed(target.split("/")) if part not in ("", ".")]
                    if not target.startswith("/"):
                        continue
                    next_where = "/"
                    os.close(entry)
                    entry = os.open("/", _OPEN | os.O_DIRECTORY)
                elif not stat.S_ISDIR(found.st_mode):
                    raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), next_where)
                fd, entry, where = entry, fd, next_where
            finally:
                os.close(entry)
        _check(where, fd, os.fstat(fd), passing=False)
    except BaseException:
        os.close(fd)
        raise
    return fd, made


def _enter(fd: int, where: str, name: str, mode: int | None) -> tuple[int, bool]:
    """Open what is called so in a directory, making it if it is missing and `mode` is not None."""
    try:
        try:
            return os.open(name, _OPEN, dir_fd=fd), False
        except FileNotFoundError:
            if mode is None:
                raise
        made = True
        try:
            os.mkdir(name, 0o700, dir_fd=fd)
        except FileExistsError:
            made = False  # somebody was faster: it is looked at as one that was there
        entry = os.open(name, _OPEN, dir_fd=fd)
        if made:
            # A descriptor of this kind cannot be changed itself.
            os.chmod(f"/proc/self/fd/{entry}", mode)
        return entry, made
    except OSError as error:
        error.filename = os.path.join(where, name)
        raise


def _check(where: str, fd: int, found: os.stat_result, passing: bool) -> None:
    """Check a directory on the way (`passing`), or what lies at its end."""
    _check_owner(where, found, passing)
    writers = found.st_mode & 0o022
    if not writers or (passing and found.st_mode & stat.S_ISVTX):
        return
    if writers == 0o020 and _is_private_group(fd, found):
        return
    who = "everybody" if writers & 0o002 else f"the group {_group(found.st_gid)}"
    remedy = f"use: chmod go-w {where}, or name another directory"
    advice = "name a directory of your own below it" if found.st_mode & stat.S_ISVTX else remedy
    raise UntrustedPath(
        f"{who} may write {'into ' if stat.S_ISDIR(found.st_mode) else ''}{where} (mode"
        f" {stat.S_IMODE(found.st_mode):04o}), and so change what is there; {advice}"
    )


def _check_owner(where: str, found: os.stat_result, passing: bool) -> None:
    if found.st_uid in (0, os.geteuid()):
        return
    if passing and found.st_uid == _OVERFLOW_ID and _has_unknown_owners():
        return  # the host's root, most likely; nobody in here can be it
    user = shown_user(found.st_uid)
    advice = "run this as that user, or name a directory of your own" if not passing else "name another directory"
    raise UntrustedPath(
        f"{where} belongs to {user}, who is neither root nor you and could exchange what is there; {advice}"
    )


def _is_private_group(fd: int, found: os.stat_result) -> bool:
    """Say whether a group that may write is the owner's own, as distributions with umask 002 make one for each user."""
    import grp
    import pwd

    try:
        user, group = pwd.getpwuid(found.st_uid), grp.getgrgid(found.st_gid)
    except KeyError:
        return False
    if user.pw_gid != found.st_gid or group.gr_name != user.pw_name or set(group.gr_mem) - {user.pw_name}:
        return False
    try:
        # With an access list, the group's bits of the mode are what anybody in the list may have.
        os.getxattr(f"/proc/self/fd/{fd}", "system.posix_acl_access")
    except OSError:
        return True
    return False


def _has_unknown_owners() -> bool:
    """Say whether this is a user namespace in which not every user of the host has a number."""
    try:
        with open("/proc/self/uid_map", "rb") as file:
            return sum(int(line.split()[2]) for line in file) < (1 << 32) - 1
    except (OSError, ValueError, IndexError):
        return False


def shown_user(uid: int) -> str:
    """Return a user as people know him, and his number."""
    import pwd

    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def _group(gid: int) -> str:
    import grp

    try:
        return f"{grp.getgrgid(gid).gr_name} (gid {gid})"
    except KeyError:
        return f"of gid {gid}"
