"""Rooms: mount namespaces in which the files of an image are where the process expects them.

Theory of operation. For the moment in which a job's processes are started, bpinit moves to a mount namespace that a
child has made for the job, and back. Whatever it starts there stays there; the namespace ends with its last process.
bpinit itself goes along no path of the image's: some file system on the way might never answer.

A file of the image that the node has, too, is covered by a bind mount. One that the node does not have needs a name to
be mounted on. Where the user may write, an empty file is made for as long as the job is there, with the rights of the
user: then the directory stays the user's own, and what the process writes into it stays. Elsewhere the nearest
directory that exists is covered by an overlay of itself and of the missing names, if the user may search it and all
above it: else this would open it to them. It keeps its owner and mode; it cannot be written by anybody, which the user
could not do before either. What is mounted below it, be it a single file, and its directories, are shown again on top
of it; and what the mount of the directory forbids is forbidden there.

An image comes from a user, and may hold any library at any path. So nothing in a room grants the rights of another
user: set-user-ID programs run as who starts them. For root there is nothing to gain, and they are left as they are.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Callable
from functools import partial

import msgspec

from heorot.bpinit import as_user
from heorot.bpinit.as_user import UserIds, user_ids_of
from heorot.bpinit.errands import Errands
from heorot.bpinit.links import cover_diverted, find_diverted, path_to_run
from heorot.bpinit.names import Anchor, Made, Name, find_missing, make, unmake
from heorot.core.errors import ProtocolError
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.images.manifest import Entry, Manifest, decode_manifest
from heorot.core.wire.tree import Ticket
from heorot.images.identity import shown
from heorot.linux import system

MAX_SHOWN_DIRECTORIES = 512
"""Of a directory that is covered, so many of its own directories stay writable; it has no more names with mounts."""
_ESCAPED = re.compile(rb"\\([0-7]{3})")
"""A blank and the like in /proc/PID/mountinfo."""


class RoomError(Exception):
    """The files of an image cannot be shown; the text says which, and why."""


class Room:
    """What is to be undone when a job is over."""

    def __init__(self) -> None:
        self.namespace = -1
        self.program = b""
        """The path by which the program is executed there."""
        self.made: list[bytes] = []
        """Names that were made in the node's own directories, in this order."""


class Rooms:
    """All rooms of a process space, by job.

    Parameters
    ----------
    errands:
        Makes the children that this needs.
    complain:
        Takes a line for the log.
    """

    def __init__(self, errands: Errands, complain: Callable[[str], None] = lambda text: None) -> None:
        self._errands = errands
        self._complain = complain
        self.by_job: dict[str, Room] = {}
        self._names: dict[bytes, Name] = {}
        """What was made and is not removed yet."""
        self._home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def enter(self, ticket: Ticket, view: bytes) -> bytes:
        """Move to the job's room, which is made if need be; `leave` brings us back, also after an error.

        Returns
        -------
        The path by which the program is executed there.

        Raises
        ------
        RoomError
            If the image cannot be shown.
        """
        room = self.by_job.get(ticket.job)
        try:
            if room is None:
                manifest = _read(view)
                room = self.by_job[ticket.job] = Room()
                missing = self._make_names(room, manifest, ticket)
                furnish = partial(_furnish, view, manifest, missing, user_ids_of(ticket), ticket.spec.program)
                answer, (room.namespace,) = self._errands.call(ticket.uid, None, furnish)
                room.program = msgspec.convert(answer, bytes)
            as_user.forbid_imports()
            system.setns(room.namespace, system.CLONE_NEWNS)
            return room.program
        except OSError as error:
            place = f"{shown(error.filename)}: " if isinstance(error.filename, bytes) else ""
            text = f"cannot show the program's files on this node: {place}{error.strerror or error}"
            raise RoomError(text) from error

    def leave(self) -> None:
        """Go back to where everything is as it always was."""
        system.setns(self._home, system.CLONE_NEWNS)
        as_user.allow_imports()

    def started(self, job: str) -> None:
        """All processes of the job are started: its room is theirs now."""
        room = self.by_job.get(job)
        if room is not None and room.namespace >= 0:
            os.close(room.namespace)
            room.namespace = -1

    def over(self, job: str) -> None:
        """Nothing of the job is left: take away the names that were made for it, with the rights that made them."""
        room = self.by_job.pop(job, None)
        if room is None:
            return
        if room.namespace >= 0:
            os.close(room.namespace)
        unused: dict[UserIds, list[Name]] = {}
        for path in reversed(room.made):
            name = self._names[path]
            name.users -= 1
            if not name.users:
                del self._names[path]
                unused.setdefault(name.identity, []).append(name)
        for identity, names in unused.items():
            try:
                needed = {name.anchor.fd for name in names if name.anchor.fd >= 0}
                self._errands.call(identity.uid, identity, partial(unmake, names), needed)
            except OSError as error:
                self._complain(f"names that were made for job {job} are left: {error.strerror}")
            for name in names:
                name.anchor.names -= 1
                if not name.anchor.names and name.anchor.fd >= 0:
                    os.close(name.anchor.fd)

    def _make_names(self, room: Room, manifest: Manifest, ticket: Ticket) -> list[Entry]:
        """Make, as the user, the names that are not there; return those entries for which the user may not."""
        for entry in manifest.entries:
            name = self._names.get(entry.path)
            if name is not None:
                name.users += 1
                room.made.append(entry.path)
        identity = user_ids_of(ticket)
        # What was made for somebody else is not yet within the reach of this user: all are looked for.
        function = partial(make, manifest.entries, ticket.spec.umask & 0o777)
        answer, descriptors = self._errands.call(ticket.uid, identity, function)
        made = msgspec.convert(answer, Made)
        anchors = [Anchor(*place, -1) for place in made.anchors]
        for anchor, fd in zip(anchors, descriptors, strict=False):
            anchor.fd = fd
        for path, number, device, inode in made.names:
            anchor = anchors[number]
            inside = path[len(anchor.path.rstrip(b"/")) + 1 :].split(b"/")
            name = self._names[path] = Name(identity, anchor, inside, device, inode)
            name.users = 1
            anchor.names += 1
            room.made.append(path)
        for anchor in anchors:
            if not anchor.names and anchor.fd >= 0:
                os.close(anchor.fd)
        if made.error:
            raise OSError(made.error, os.strerror(made.error), made.culprit)
        return [manifest.entries[number] for number in made.refused]


def _furnish(
    view: bytes, manifest: Manifest, missing: list[Entry], identity: UserIds, program: bytes
) -> tuple[object, list[int]]:
    """Make a room around this process, a child with root's rights.

    Return the path by which this program is executed there, and a descriptor of the room.

    `missing` has no names on the node, and the user may make none. Raises OSError.
    """
    system.unshare(system.CLONE_NEWNS)
    if missing:
        _cover(missing, view, identity)
    for index, entry in enumerate(manifest.entries):
        if entry.kind == FILE:
            _bind(b"%s/%d" % (view, index), entry.path)
    path = program
    if program != manifest.program or any(entry.kind == SYMLINK for entry in manifest.entries):
        path = _see_to_links(view, manifest, identity, program)
    if identity.uid != 0:
        system.forbid_set_user_id()
    return path, [os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)]


def _cover(missing: list[Entry], view: bytes, identity: UserIds) -> None:
    # Before anything is open that is not for this user: paths may lead through /proc/self/fd.
    with as_user.rights_of(identity):
        places, descriptors = find_missing(missing)
    cover = _Cover(view)
    cover.add(places, descriptors, missing)
    cover.mount()


def _see_to_links(view: bytes, manifest: Manifest, identity: UserIds, program: bytes) -> bytes:
    with as_user.rights_of(identity):
        diverted = find_diverted(manifest)
    cover_diverted(view, diverted)
    with as_user.rights_of(identity):
        return path_to_run(program, manifest.program)


def _read(view: bytes) -> Manifest:
    try:
        with open(view + b"/manifest", "rb") as file:
            return decode_manifest(file.read())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ProtocolError) as error:
        raise RoomError(lost_view(view, error)) from error


def lost_view(view: bytes, error: OSError | ProtocolError) -> str:
    """Return in words that the files of an image are not where the cache had just put them."""
    reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
    return (
        f"somebody changed this node's image cache while the program was started ({shown(view)}/manifest: {reason}):"
        " run it again, and what lacks there is made anew"
    )


def _bind(source: bytes, target: bytes) -> None:
    try:
        # Whatever a user may have put there meanwhile: none of our descriptors is a way.
        fd = system.open_without_magic(target, os.O_PATH | os.O_CLOEXEC)
        try:
            system.bind_mount(source, b"/proc/self/fd/%d" % fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), target) from error


# ------------------------------------------------------------------ directories that nobody may write


class _Covered:
    """A directory that is covered."""

    def __init__(self, number: int, fd: int, path: bytes) -> None:
        self.number = number
        self.fd = fd
        self.path = path
        """Its only name: no link is in it."""
        self.names: list[tuple[bytes, Entry]] = []
        """The ways from there, and what is to be at their ends."""


class _Cover:
    """Lets names appear, in a mount namespace of our own, in directories that stay as they are.

    Which directories these are was found out with the user's rights, and is told by descriptors. All stay open for as
    long as this process is there.
    """

    def __init__(self, view: bytes) -> None:
        stage = os.path.dirname(os.path.dirname(view)) + b"/stage"
        system.mount_tmpfs(stage)
        self._stage = os.open(stage, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._directories: dict[tuple[int, int, bytes], _Covered] = {}

    def add(self, places: list[tuple[int, bytes]], descriptors: list[int], entries: list[Entry]) -> None:
        """Take what `find_missing` has found for the first of these entries; the descriptors become ours."""
        covered: list[_Covered] = []
        for fd in descriptors:
            status = os.fstat(fd)
            # Two ways may lead to one directory, and one may be found twice.
            path = os.readlink(b"/proc/self/fd/%d" % fd)
            known = self._directories.setdefault(
                (status.st_dev, status.st_ino, path), _Covered(len(self._directories), fd, path)
            )
            if known.fd != fd:
                os.close(fd)
            covered.append(known)
        for (number, inside), entry in zip(places, entries, strict=False):
            covered[number].names.append((inside, entry))

    def mount(self) -> None:
        """Let them appear. Raises OSError."""
        # All names first: what is covered might hide the stage. Then the innermost first: as directories of those
        # further out they are shown again with all that is mounted on them.
        directories = sorted(self._directories.values(), key=lambda covered: covered.path.rstrip(b"/").count(b"/"))
        for covered in directories:
            self._lay_out(covered)
        for covered in reversed(directories):
            inside = covered.path.rstrip(b"/") + b"/"
            first = {
                other.path[len(inside) :].split(b"/")[0]
                for other in directories
                if other is not covered and other.path.startswith(inside)
            }
            self._mount(covered, first)

    def _lay_out(self, covered: _Covered) -> None:
        name = b"%d" % covered.number
        os.mkdir(name, 0o755, dir_fd=self._stage)
        os.mkdir(name + b".cover", 0o755, dir_fd=self._stage)
        fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._stage)
        try:
            for inside, entry in covered.names:
                lay_out(fd, inside, entry)
        finally:
            os.close(fd)

    def _mount(self, covered: _Covered, first: set[bytes]) -> None:
        cover = b"/proc/self/fd/%d/%d.cover" % (self._stage, covered.number)
        held: list[tuple[bytes, int]] = []
        way = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        names = os.open(b"%d" % covered.number, way | os.O_DIRECTORY, dir_fd=self._stage)
        try:
            # A mount hides what is below it, and may be a file.
            hiding = mounted_below(covered.path) | first
            if len(hiding) > MAX_SHOWN_DIRECTORIES:
                why = (
                    f"more than {MAX_SHOWN_DIRECTORIES} of the names in it have mounts, and would show what these hide"
                )
                raise OSError(errno.EMLINK, why, covered.path)
            for name in _shown_again(covered.fd, hiding):
                with contextlib.suppress(FileNotFoundError if name in hiding else OSError):
                    held.append((name, os.open(name, way, dir_fd=covered.fd)))
            # Owner, mode and access control list are those of the uppermost layer: of what is covered.
            system.mount_overlay([covered.fd, names], cover)
            for name, fd in held:
                system.bind_mount(b"/proc/self/fd/%d" % fd, os.path.join(cover, name), recursive=True)
        finally:
            os.close(names)
            for _, fd in held:
                os.close(fd)
        if covered.path == b"/":
            # What covers the root is seen by those only whose root it is.
            system.change_root(cover)
        else:
            system.move_mount(cover, b"/proc/self/fd/%d" % covered.fd)


def _shown_again(directory: int, hiding: set[bytes]) -> list[bytes]:
    """Return the names in a directory that is covered which stay what they are: all that are `hiding` something, and of
    its directories as many as there is room for."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(fd) as listing:
            own = [os.fsencode(item.name) for item in listing if item.is_dir(follow_symlinks=False)]
    finally:
        os.close(fd)
    return [*sorted(hiding), *sorted(name for name in own if name not in hiding)][:MAX_SHOWN_DIRECTORIES]


def mounted_below(directory: bytes) -> set[bytes]:
    """Return the names in a directory on or below which something is mounted for this process. Raises OSError."""
    inside = directory.rstrip(b"/") + b"/"
    found = set()
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            point = _ESCAPED.sub(lambda code: bytes((int(code[1], 8),)), line.split(b" ", 5)[4])
            if point.startswith(inside) and point != inside:
                found.add(point[len(inside) :].split(b"/", 1)[0])
    return found


def lay_out(names: int, relative: bytes, entry: Entry) -> None:
    """Make one entry of an image below a directory of ours, given by a descriptor.

    Nothing on the way is followed, and nothing that is there already is used but directories: whatever earlier entries
    have made of these names, nothing comes to lie anywhere else. Raises OSError.
    """
    *above, name = relative.split(b"/")
    at = os.dup(names)
    try:
        for part in [*above, name] if entry.kind == DIRECTORY else above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=at)
            inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=at)
            os.close(at)
            at = inner
        if entry.kind == FILE:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=at))
        elif entry.kind != DIRECTORY:
            os.symlink(entry.target, name, dir_fd=at)
    except OSError as error:
        raise OSError(error.errno, os.strerror(error.errno or 0), entry.path) from error
    finally:
        os.close(at)
