"""What has to happen with the rights of a user, and is not worth a program of its own: a child does it.

This process never takes on another identity itself: for as long as its real or its saved uid were a user's, or its
effective one, that user might kill it, or change its priority, its scheduler and its processors, from anywhere on the
host. The child has the user's effective ids alone, and keeps real and saved uid 0. So files are opened and made as by
the user, and yet the user cannot stop or kill it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import sys
from array import array
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, NoReturn

import msgspec

from heorot.bpinit.calls import Calls
from heorot.bpinit.patience import LONGEST_MS, Patience
from heorot.core.wire.tree import Ticket

MAX_DESCRIPTORS = 64
_MAX_RESULT_BYTES = 64 * 1024 * 1024
_MAX_DESCRIPTOR = (1 << 31) - 1
_MAX_ID = 0xFFFF_FFFE
"""The next one means 'as it is' to setresuid(2)."""
_PR_SET_DUMPABLE = 4


class UserIds(NamedTuple):
    """Whose rights something has."""

    uid: int
    gid: int
    groups: tuple[int, ...]


def user_ids_of(ticket: Ticket) -> UserIds:
    """Return whom a ticket names.

    Raises
    ------
    ValueError
        If these are no ids.
    """
    numbers = (ticket.uid, ticket.gid, *ticket.groups)
    if min(numbers) < 0 or max(numbers) > _MAX_ID:
        raise ValueError("a user, group or groups that nobody can have")
    return UserIds(ticket.uid, ticket.gid, tuple(ticket.groups))


def call(
    identity: UserIds | None,
    function: Callable[[], tuple[object, list[int]]],
    began: Callable[[int], None],
    reap: Callable[[int], None],
    patience: Patience,
    needed: Iterable[int] = (),
) -> tuple[object, list[int]]:
    """Have a child, forked from this process, call a function with the user's rights (`identity` is None: ours).

    The function returns something that msgpack can carry, and up to `MAX_DESCRIPTORS` descriptors, which become ours.
    It finds what is imported already, and imports nothing: a user may have a say in what lies where Python looks.

    Parameters
    ----------
    began:
        Is told the PID of the child.
    reap:
        Is told it again when nothing more is expected of the child. It may not have ended: even one that was killed
        does not as long as the kernel waits for a file system.
    patience:
        How long it may take; then it is killed.
    needed:
        Those of our descriptors that the child has besides its streams: through /proc/self/fd no path leads to others.

    Raises
    ------
    OSError
        Which the function raised; or if the child could not be made, or was killed. TimeoutError: if it was late.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            _child(identity, function, theirs, needed)
        began(pid)
        theirs.close()
        descriptors: list[int] = []
        try:
            answer = _receive(ours, descriptors, pid, patience)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            for fd in descriptors:
                os.close(fd)
            raise
        finally:
            reap(pid)
    result, number, text, filename = answer
    if number:
        raise OSError(number, text, filename) if filename else OSError(number, text)
    return result, descriptors


class _Refusal:
    """Stands where Python looks for who finds a module."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> NoReturn:
        raise ImportError(f"{name} is not imported here: a user may have a say in what it is", name=name)


_finders = list(sys.meta_path)


def forbid_imports() -> None:
    """Import nothing that is not imported yet: where Python would look may be files of a user's, and we are root."""
    sys.meta_path[:] = [_Refusal]


def allow_imports() -> None:
    """Undo `forbid_imports`."""
    sys.meta_path[:] = _finders


def take_on(identity: UserIds) -> None:
    """Have the user's rights to files from now on, and stay out of their reach. Raises OSError."""
    uid, gid, groups = identity
    os.setgroups(groups)
    os.setresgid(-1, gid, -1)
    os.setresuid(-1, uid, -1)


def add_identity(calls: Calls, identity: UserIds, for_good: bool) -> None:
    """Add what makes a child the user, whom execve(2) leaves no way back; else its effective ids alone."""
    uid, gid, groups = identity
    calls.add("setgroups", len(groups), calls.keep(array("I", groups)))
    if uid or gid:
        # A saved uid of 0 keeps others from tracing the child while it shares our memory.
        calls.add("setresgid", gid if for_good else -1, gid, 0 if for_good else -1)
        calls.add("setresuid", uid if for_good else -1, uid, 0 if for_good else -1)
        # Nobody's signal shall write a core file of it, either.
        calls.add("prctl", _PR_SET_DUMPABLE, 0)


@contextlib.contextmanager
def rights_of(identity: UserIds) -> Iterator[None]:
    """Have the user's rights to files for a while, in a child that has root's. Raises OSError."""
    before = UserIds(os.geteuid(), os.getegid(), tuple(os.getgroups()))
    take_on(identity)
    try:
        yield
    finally:
        os.setresuid(-1, before.uid, -1)
        take_on(before)


def _child(
    identity: UserIds | None,
    function: Callable[[], tuple[object, list[int]]],
    connection: socket.socket,
    needed: Iterable[int],
) -> NoReturn:
    try:
        forbid_imports()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        connection.settimeout(LONGEST_MS / 1000)
        descriptors: list[int] = []
        try:
            _close_all_but({connection.fileno(), *needed})
            if identity is not None:
                take_on(identity)
            result, descriptors = function()
            answer: tuple[object, int, str, bytes] = result, 0, "", b""
        except OSError as error:
            name = error.filename if isinstance(error.filename, bytes) else b""
            answer = None, error.errno or errno.EIO, error.strerror or str(error), name
        socket.send_fds(connection, [b"!"], descriptors[:MAX_DESCRIPTORS])
        connection.sendall(msgspec.msgpack.encode(answer))
    finally:
        os._exit(0)


def _close_all_but(kept: set[int]) -> None:
    below = 3
    for fd in sorted(kept):
        os.closerange(below, fd)
        below = max(below, fd + 1)
    os.closerange(below, _MAX_DESCRIPTOR)


def _receive(
    connection: socket.socket, descriptors: list[int], pid: int, patience: Patience
) -> tuple[object, int, str, bytes]:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    received = bytearray()
    begun = False
    while True:
        while not poll.poll(patience.next_ms()):
            patience.passed(pid)
            if not patience.next_ms():
                raise TimeoutError(errno.ETIMEDOUT, patience.over())
        if not begun:
            mark, fds, _, _ = socket.recv_fds(connection, 1, MAX_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
            descriptors += fds
            begun = True
            if mark:
                continue
            break
        data = connection.recv(1 << 18)
        if not data:
            break
        received += data
        if len(received) > _MAX_RESULT_BYTES:
            raise OSError(errno.EMSGSIZE, "too much to say")
    with contextlib.suppress(msgspec.DecodeError):
        return msgspec.msgpack.decode(bytes(received), type=tuple[object, int, str, bytes])
    raise ChildProcessError(errno.ECHILD, "the process that did it as the user has ended")
