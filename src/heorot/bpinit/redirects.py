"""Files instead of pipes: opened with the rights of the user, by a child that has them, and then ours."""

from __future__ import annotations

import errno
import os
import stat
from array import array
from collections.abc import Callable
from functools import partial

from heorot.bpinit.as_user import UserIds, add_identity
from heorot.bpinit.calls import CLONE_FILES, Calls, ChildError, Runner
from heorot.bpinit.ends import Ends
from heorot.bpinit.errands import ERRAND_MS, Errands
from heorot.bpinit.plan import Plan
from heorot.bpinit.start_words import StartError, not_that_user, shown_name
from heorot.linux import system

_AT_FDCWD = -100
_HOW_BYTES = 24
_PLAIN_DEVICES = (1, 4, 5, *range(136, 144))
"""/dev/null and its like, and terminals: their major numbers."""
# Opening a FIFO would wait for its other end, and the whole node with it.
_FLAGS = os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_MODE = 0o666


class _Wanted:
    """One file that is to be opened."""

    __slots__ = ("flags", "mode", "path", "purpose", "take")

    def __init__(self, path: bytes, flags: int, purpose: str, take: Callable[[int], None]) -> None:
        self.path = path
        self.flags = flags | _FLAGS
        self.mode = _MODE if flags & os.O_CREAT else 0
        self.purpose = purpose
        self.take = take


def open_streams(
    runner: Runner, plan: Plan, ranks: list[int], ends: list[Ends], identity: UserIds | None, errands: Errands
) -> int:
    """Open what the streams of these ranks are redirected to, and see that their directory can be entered.

    Returns
    -------
    int
        The errno with which the directory was refused, before anything was opened; 0: all is well.

    Raises
    ------
    StartError
        If one cannot be opened. Those that were are in `plan` and `ends`, whose owners close them.
    """
    ticket = plan.ticket
    files = _wanted(plan, ranks, ends)
    calls = Calls()
    calls.add("umask", ticket.spec.umask & 0o777)
    if identity is not None:
        add_identity(calls, identity, False)
    # The child has our descriptors: nothing is found through /proc/self/fd. The directory is not entered for the same
    # reason, but looked through.
    enters = _add_open(calls, os.path.join(plan.directory, b"."), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, 0)
    for file in files:
        _add_open(calls, os.path.join(plan.directory, file.path), file.flags, file.mode)
    calls.add("exit_group", 0)
    uid = ticket.uid
    try:
        errands.admit(uid)
        pid = runner.run(calls, partial(errands.waiting, uid, ERRAND_MS), CLONE_FILES)
    except OSError as error:
        if isinstance(error, ChildError) and error.pid:
            errands.began(error.pid)
            errands.reap(error.pid, uid)
        raise StartError(error.errno or 0, f"cannot open the files of its streams: {error.strerror}") from error
    errands.began(pid)
    errands.reap(pid, uid)
    results = runner.results(len(calls))
    if len(results) > enters and results[enters] >= 0:
        os.close(results[enters])
    opened = [fd for fd in results[enters + 1 :] if fd >= 0]
    try:
        for file in files[: len(opened)]:
            fd = opened[0]
            if identity is not None and _knows_who_opened_it(fd):
                os.close(opened.pop(0))
                file.take(_open_elsewhere(file, plan, identity, errands))
                continue
            os.set_blocking(fd, True)
            file.take(opened.pop(0))
    finally:
        for fd in opened:
            os.close(fd)
    if ticket.spec.stderr and ticket.spec.stderr == ticket.spec.stdout:
        _share(plan, ends)
    last = len(results) - 1
    failed = bool(results) and results[last] < 0
    if last == len(calls) - 2 and not failed:
        return 0
    number = -results[last] if failed else errno.EINTR
    if last == enters:
        return number
    if last < enters:
        raise not_that_user(ticket.user, number)
    file = files[last - enters - 1]
    raise _refused(file, os.strerror(number), number)


def _add_open(calls: Calls, path: bytes, flags: int, mode: int) -> int:
    how = calls.keep(array("Q", (flags, mode, system.RESOLVE_NO_MAGICLINKS)))
    return calls.add("openat2", _AT_FDCWD, calls.text(path), how, _HOW_BYTES)


def _refused(file: _Wanted, why: str, number: int) -> StartError:
    if number == errno.ELOOP:
        why = "it leads through a link of /proc to what a process has open, or through too many links: name the file"
    return StartError(0, f"cannot {file.purpose} {shown_name(file.path)}: {why}")


def _share(plan: Plan, ends: list[Ends]) -> None:
    """Let both streams write to one open file, that of stdout."""
    if 1 in plan.shared_files:
        plan.shared_files[2] = plan.shared_files[1]
    for end in ends:
        if end.files[0] >= 0 and end.files[1] < 0:
            end.files[1] = os.dup(end.files[0])


def _wanted(plan: Plan, ranks: list[int], ends: list[Ends]) -> list[_Wanted]:
    spec = plan.ticket.spec
    files: list[_Wanted] = []

    def write(path: bytes, rank: int, take: Callable[[int], None]) -> None:
        files.append(_Wanted(plan.file_name(path, rank), plan.write_flags, "write to", take))

    for number, path in ((1, spec.stdout), (2, spec.stderr)):
        if not path or (number == 2 and path == spec.stdout):
            continue
        if number in plan.own_files:
            for rank, end in zip(ranks, ends, strict=True):
                write(path, rank, partial(end.files.__setitem__, number - 1))
        elif number not in plan.shared_files:
            write(path, ranks[0], partial(plan.shared_files.__setitem__, number))
    if spec.stdin:
        for rank, end in zip(ranks, ends, strict=True):
            path = plan.file_name(spec.stdin, rank)
            files.append(_Wanted(path, os.O_RDONLY, "read", partial(setattr, end, "stdin")))
    return files


def _knows_who_opened_it(fd: int) -> bool:
    """Say whether what an open file gives depends on the process that has opened it.

    A child that shares our memory finds ours in /proc, and so might a driver.
    """
    status = os.fstat(fd)
    if stat.S_ISCHR(status.st_mode):
        return os.major(status.st_rdev) not in _PLAIN_DEVICES
    return not stat.S_ISFIFO(status.st_mode) and system.is_procfs(fd)


def _open_elsewhere(file: _Wanted, plan: Plan, identity: UserIds, errands: Errands) -> int:
    def open_() -> tuple[object, list[int]]:
        os.umask(plan.ticket.spec.umask & 0o777)
        fd = system.open_without_magic(os.path.join(plan.directory, file.path), file.flags, file.mode)
        if system.is_about_us(fd):
            # It would tell of a copy of bpinit.
            raise OSError(
                errno.EACCES, "it tells of the process that opens it, which is not yours: let the program open it"
            )
        os.set_blocking(fd, True)
        return None, [fd]

    try:
        (fd,) = errands.call(plan.ticket.uid, identity, open_)[1]
    except OSError as error:
        raise _refused(file, error.strerror or str(error), error.errno or 0) from error
    return fd
