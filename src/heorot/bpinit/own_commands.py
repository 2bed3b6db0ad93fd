"""Commands that bpinit carries out itself, in a child: copying files needs no program on the node then.

They are called by names that no program can have been given by `heorot`'s own client, and known before PATH is
searched. The child is a fork, not a new program: it has the user's rights alone, for ever, and none of our descriptors.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from heorot.bpinit.as_user import UserIds
from heorot.core.errors import HeorotError
from heorot.core.images.chunks import DIRECTORY, FILE
from heorot.core.images.manifest import Entry, decode_manifest
from heorot.core.tree.nodeset import NodeSet
from heorot.images.copy_stream import MAX_COMPLAINTS, Sender
from heorot.images.identity import shown
from heorot.images.new_file import Item, PlacingError, copy_from
from heorot.images.placing import Placer
from heorot.images.spot import CONTENTS
from heorot.linux import system

PUT = b"heorot:put"
GET = b"heorot:get"
LOOK = b"heorot:look"
STAGE = b"heorot:stage"
IMAGE_ROOT = b"/copy/"
"""Below it an image that is copied has its files."""


class Complaints:
    """Writes what fails to stderr, a line each, up to a bound."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, text: str) -> None:
        self.count += 1
        if self.count <= MAX_COMPLAINTS:
            _say(text)

    def status(self) -> int:
        """Return what to exit with."""
        if self.count > MAX_COMPLAINTS:
            _say(f"... and {self.count - MAX_COMPLAINTS} more")
        return 1 if self.count else 0


def _say(text: str) -> None:
    # One line, whatever a file is called.
    line = text.replace("\n", "\\n").encode("utf-8", "backslashreplace")
    with contextlib.suppress(OSError):
        os.write(2, line + b"\n")


def open_view(view: bytes) -> list[int]:
    """Return descriptors of an image's directory and of its manifest, opened with the rights that bpinit has.

    As long as the latter is open, here or in a child, the cache does not evict the image (`Cache.is_used`).
    """
    directory = os.open(view, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        manifest = os.open(b"manifest", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except BaseException:
        os.close(directory)
        raise
    with contextlib.suppress(OSError):
        # Never waited for: whoever evicts it at this very moment leaves files missing, which the copy tells of.
        fcntl.flock(manifest, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return [directory, manifest]


class CommandSettings(NamedTuple):
    """What a child has besides its streams."""

    identity: UserIds | None
    """Whose rights, from which there is no way back; None: ours."""
    directory: bytes
    umask: int
    limits: list[tuple[int, int, int]]
    """Number, soft, hard; those that cannot be set are left as they are."""
    node: int
    """Our number."""


def fork(argv: list[bytes], streams: tuple[int, int, int], given: list[int], settings: CommandSettings) -> int:
    """Start a built-in command in a child and return its PID.

    Parameters
    ----------
    streams:
        What the child has as stdin, stdout and stderr.
    given:
        The descriptors of `open_view`.
    """
    pid = os.fork()
    if pid == 0:
        _child(argv, streams, given, settings)
    return pid


def _child(argv: list[bytes], streams: tuple[int, int, int], given: list[int], settings: CommandSettings) -> NoReturn:
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.umask(settings.umask)
        for limit, soft, hard in settings.limits:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(limit, (soft, hard))
        _become(settings.identity)
        with contextlib.suppress(OSError):
            system.join_session_keyring()
        # If bpinit is killed as a mere process, nobody else would know of this one.
        system.set_parent_death_signal(signal.SIGKILL)
        system.set_process_name(b"bpcp")
        moved = [_above(fd, len(streams) + len(given)) for fd in (*streams, *given)]
        for place, fd in enumerate(moved):
            os.dup2(fd, place, inheritable=False)
        for name in os.listdir("/proc/self/fd"):
            if int(name) >= len(moved):
                with contextlib.suppress(OSError):
                    os.close(int(name))
        os.chdir(settings.directory)
        status = _COMMANDS[argv[0]](argv[1:], settings.node)
    except HeorotError as error:
        _say(str(error))
    except OSError as error:
        _say(f"the copy failed: {error}")
    except BaseException as error:
        _say(f"the copy failed: {type(error).__name__}: {error}")
    finally:
        os._exit(status)


def _become(identity: UserIds | None) -> None:
    # Its memory is a copy of bpinit's: nobody looks into it, neither now nor before we have said so.
    if identity is not None:
        uid, gid, groups = identity
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, 0)
        system.forbid_tracing()
        os.setresuid(uid, uid, uid)
    system.forbid_tracing()


def _above(fd: int, limit: int) -> int:
    """Return a descriptor of the same file that is not below the limit."""
    while fd < limit:
        fd = os.dup(fd)
    return fd


# ------------------------------------------------------------------ the commands


class BuiltinError(HeorotError):
    """A built-in command was called in another way than bpcp(1) does."""


def _expect(arguments: list[bytes], usage: str, least: int, most: int | None = None) -> list[bytes]:
    if len(arguments) < least or (most is not None and len(arguments) > most):
        raise BuiltinError(f"this command is bpcp's own, and called with {usage}: use bpcp")
    return arguments


def _put(arguments: list[bytes], node: int) -> int:
    """``heorot:put FLAGS DESTINATION``: put the files of the image at their place; ``d``: it has to be a directory;
    ``iFIRST,LAST,...``, at the end: the ranges of nodes on which it was one before the copy."""
    flags, destination = _expect(arguments, "FLAGS DESTINATION", 2, 2)
    flags, decided, nodes = flags.partition(b"i")
    complain = Complaints()
    with os.fdopen(4, "rb") as file:
        manifest = decode_manifest(file.read())
    inside = None
    if decided:
        try:
            inside = node in NodeSet.from_ranges([int(bound) for bound in nodes.split(b",") if bound])
        except ValueError as error:
            raise BuiltinError(f"these are no ranges of nodes: {shown(nodes)}") from error
    placer = Placer(destination, b"d" in flags, inside)
    failed: set[bytes] = set()
    """Directories that are not there, each named once: what is below has no place, and is not worth a line."""
    contents = any(entry.path == IMAGE_ROOT[:-1] for entry in manifest.entries)
    for index, entry in enumerate(manifest.entries):
        try:
            if entry.path.rpartition(b"/")[0] not in failed:
                _place(placer, index, entry, contents)
                continue
        except PlacingError as error:
            complain(str(error))
        if entry.kind == DIRECTORY:
            failed.add(entry.path)
    for failure in placer.finish():
        complain(str(failure))
    return complain.status()


def _place(placer: Placer, index: int, entry: Entry, contents: bool) -> None:
    if entry.path + b"/" == IMAGE_ROOT:
        path = CONTENTS
    elif entry.path.startswith(IMAGE_ROOT):
        path = entry.path[len(IMAGE_ROOT) :]
        if contents:
            path = CONTENTS + b"/" + path
    else:
        return
    item = Item(path, entry.kind, entry.mode, entry.target, entry.attributes)
    if entry.kind != FILE:
        placer.place(item)
    elif not entry.size:
        placer.place(item, lambda fd: None)
    else:
        try:
            source = os.open(b"%d" % index, os.O_RDONLY | os.O_CLOEXEC, dir_fd=3)
        except OSError as error:
            # Somebody has cleared the cache, or the file was found to be damaged.
            why = f"it left this node's cache ({os.strerror(error.errno or 0)}): copy it again"
            raise PlacingError(f"cannot write {shown(item.path)}: {why}") from error
        try:
            placer.place(item, copy_from(source, entry.size))
        finally:
            os.close(source)


def _look(arguments: list[bytes], node: int) -> int:
    """``heorot:look PATH``: end with 0 if it is a directory, else with 1."""
    (path,) = _expect(arguments, "PATH", 1, 1)
    return 0 if os.path.isdir(path) else 1


def _get(arguments: list[bytes], node: int) -> int:
    """``heorot:get FLAGS FILE...``: write files to stdout; ``r``: directories, too. Each is called by its number."""
    flags, *paths = _expect(arguments, "FLAGS FILE...", 1)
    complain = Complaints()
    # We are a copy of bpinit: what /proc says of us is nothing for a user.
    sender = Sender(1, complain, system.is_about_us)
    for number, path in enumerate(paths):
        sender.send(path, b"%d" % number, b"r" in flags)
    sender.end()
    return complain.status()


def _stage(arguments: list[bytes], node: int) -> int:
    """``heorot:stage PROGRAM``: nothing, once all of the image is in this node's cache."""
    return 0


_COMMANDS: dict[bytes, Callable[[list[bytes], int], int]] = {PUT: _put, GET: _get, LOOK: _look, STAGE: _stage}
NAMES = frozenset(_COMMANDS)
