"""A second real user: code that runs with the rights of somebody who is neither root nor the cluster's owner.

The Python that runs the tests may be out of another user's reach. So what is Python runs in forks of the test process,
or in a Python that root starts and that becomes the user when it has imported what it needs (`BECOME`); programs are
started as the user at once (`as_user_options`, `setpriv`).
"""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import socket
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_FIRST_UID, _LAST_UID = 20_000, 60_000
"""No account has these."""
_UIDS_OF_PROCESS = 16
_given = itertools.count()


def own_uid() -> int:
    """Return the number of a user, and of a group, that nobody else has: no other test, no other worker, no other run.

    Such a user may be signalled as a whole, and run out of what each user has a quota of.
    """
    number = next(_given)
    assert number < _UIDS_OF_PROCESS, "more users than a worker has"
    first = os.getpid() * _UIDS_OF_PROCESS % (_LAST_UID - _FIRST_UID)
    return _FIRST_UID + first + number


OTHER = own_uid()
"""The user's number and group."""
NOBODY = 65534
"""The user and group that have nothing, for what leaves no process behind: others may be running as it."""
DEADLINE_S = 150.0
BECOME = """
def become(uid):
    import os
    os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
"""
"""For a script that `python -c` runs as root: after it, ``become(uid)`` makes it a user's for good."""


def become(uid: int) -> None:
    """Be this user, with the group of the same number and no other, for good; in a fork of the test process."""
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


@contextmanager
def acting_as(uid: int = NOBODY) -> Iterator[None]:
    """Have the rights of this user within the block, in the test process itself; nothing changes if we are not root."""
    if os.getuid():
        yield
        return
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def as_user_options(uid: int = OTHER) -> dict[str, Any]:
    """Return the options of `subprocess.Popen` that start a program as this user."""
    return {"user": uid, "group": uid, "extra_groups": []}


def setpriv(uid: int = NOBODY) -> list[str]:
    """Return the words in front of a command that make it run as this user."""
    return [shutil.which("setpriv") or "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def open_to_all(path: Path) -> None:
    """Let everybody go through to a directory of a test."""
    for place in (path, *path.parents):
        if place.stat().st_mode & 0o005 != 0o005:
            place.chmod(0o755)


def open_temporary_directory() -> None:
    """Let everybody go through the directory of temporary files, which is the tests' own."""
    open_to_all(Path(tempfile.gettempdir()))


def _fork(body: Callable[[int, int], Any], uid: int) -> tuple[int, socket.socket]:
    """Run `body(read, write)` as the other user in a child; return its pid and our end of its socket."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid:
        theirs.close()
        return pid, ours
    status = 1
    try:
        ours.close()
        become(uid)
        os.chdir("/")
        body(theirs.fileno(), theirs.fileno())
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def as_other(action: Callable[[], Any], uid: int = OTHER) -> Any:
    """Return what `action` returns, which JSON can hold, or ``["OSError", errno]`` if it was refused."""

    def body(_read: int, write: int) -> None:
        try:
            value = action()
        except OSError as error:
            value = ["OSError", error.errno]
        os.write(write, json.dumps(value).encode())

    pid, ours = _fork(body, uid)
    with ours:
        ours.settimeout(DEADLINE_S)
        data = b""
        try:
            while piece := ours.recv(65536):
                data += piece
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            status = os.waitpid(pid, 0)[1]
    assert status == 0
    return json.loads(data)


@contextmanager
def other_holding(action: Callable[[], Any], uid: int = OTHER) -> Iterator[Any]:
    """Have the other user keep what `action` returns (sockets, say) as long as the block lasts; gives their number."""

    def body(read: int, write: int) -> None:
        kept = action()
        os.write(write, b"%d\n" % len(kept))
        os.read(read, 1)

    pid, ours = _fork(body, uid)
    with ours:
        try:
            ours.settimeout(DEADLINE_S)
            yield int(ours.recv(64))
        finally:
            ours.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


class Impostor:
    """Another user's program that serves a socket; `heard` is what it was sent, once the block has ended."""

    heard: bytes = b""


@contextmanager
def impostor(path: Path, uid: int = OTHER) -> Iterator[Impostor]:
    """Serve a unix socket at `path` as the other user, who may write into its directory."""

    def body(read: int, write: int) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        os.chmod(path, 0o666)
        server.listen(64)
        os.write(write, b"r")
        heard = b""
        while True:
            ready = select.select([server.fileno(), read], [], [], DEADLINE_S)[0]
            if server.fileno() not in ready:
                break
            connection, _ = server.accept()
            with connection:
                connection.settimeout(DEADLINE_S)
                heard += connection.recv(65536)
        os.unlink(path)
        os.write(write, b"heard:" + heard)

    made = Impostor()
    pid, ours = _fork(body, uid)
    with ours:
        try:
            ours.settimeout(DEADLINE_S)
            assert ours.recv(1) == b"r"
            yield made
            ours.shutdown(socket.SHUT_WR)
            data = ours.recv(65536)
            assert data.startswith(b"heard:")
            made.heard = data[6:]
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
