"""Files of this host on their way to nodes. See `heorot.client.copies`."""

from __future__ import annotations

import os
import stat
from hashlib import sha256

from heorot.client.copies import Copied, CopyError, CopyJob, Problem, reason_of
from heorot.core.client import short_msgpack
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.tree.nodeset import NodeSet
from heorot.images.collecting import MAX_MANIFEST_BYTES, digest_file
from heorot.images.files import SizeError
from heorot.images.identity import ImageError, shown
from heorot.images.named import MAX_ENTRIES
from heorot.images.offer import Offer, Upload
from heorot.images.taken import Taken, TakenFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from heorot.core.client.job import JobState

PUT = b"heorot:put"
LOOK = b"heorot:look"
IMAGE_ROOT = b"/copy/"
"""These are those of `heorot.bpinit.own_commands`, which a short command does not load."""


class Put(CopyJob):
    """Files of this host on their way to nodes.

    Parameters
    ----------
    sources:
        Paths here. What cannot be read is in `problems`, and the rest is copied.
    destination:
        A path there.
    names:
        What each source shall be called there, in place of its own name.

    Raises
    ------
    CopyError
        If two of them would have the same name, or there are too many.
    """

    def __init__(
        self,
        sources: Sequence[bytes],
        destination: bytes,
        *,
        recursive: bool = False,
        preserve: bool = False,
        several: bool = False,
        names: Sequence[bytes] | None = None,
    ) -> None:
        super().__init__()
        self._destination = destination or b"."
        self._several = several or len(sources) > 1
        self._recursive = recursive
        self._preserve = preserve
        self._entries: list[list[object]] = []
        self._paths: dict[bytes, bytes | Taken] = {}
        """By path in the image: the path here, or what was read there."""
        self._taken = TakenFiles()
        self._inside: list[int] | None = None
        """The nodes on which the destination was a directory before the copy; None: each sees for itself."""
        self.size_bytes = 0
        for number, source in enumerate(sources):
            name = names[number] if names is not None else name_of(source)
            self._add_source(source, IMAGE_ROOT + name if name else IMAGE_ROOT[:-1])
        manifest = short_msgpack.packb(["heorot-image", self._entries, b""])
        if len(manifest) > MAX_MANIFEST_BYTES:
            raise CopyError(f"the list of {len(self._entries)} files is too long ({len(manifest)} bytes): copy fewer")
        self.offer = Offer(sha256(manifest).digest(), b"/" + PUT, b"", manifest)
        self.upload = Upload(self.offer, sources=self._paths)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to copy."""
        return not self._entries

    def fields(self, nodes: str) -> dict[str, Any]:
        """Return the launch, as `heorot.core.client.messages.spawn` takes it; offer `offer` before."""
        flags = b"d" if self._several else b""
        if self._inside is not None:
            flags += b"i" + b",".join(b"%d" % bound for bound in NodeSet.of(self._inside).ranges())
        argv = [PUT, flags, self._destination]
        fields = self._fields(nodes, argv, [self._destination])
        return fields | {"image": self.offer.image, "program": self.offer.program}

    def has_to_look(self, nodes: str) -> bool:
        """Say whether it has to be known beforehand where the destination is a directory.

        One that is not there is made, under this name. Another node that has the same file system would find it, and
        make its own copy in it.
        """
        alone = nodes.removeprefix("n").isdecimal()
        entry = self._entries[0]
        named = not self._several and not self._destination.endswith(b"/")
        return named and not alone and entry[1] == DIRECTORY and entry[0] != IMAGE_ROOT[:-1]

    def look_fields(self, nodes: str) -> dict[str, Any]:
        """Return the launch of a job that looks, as `heorot.core.client.messages.spawn` takes it."""
        return self._fields(nodes, [LOOK, self._destination], [self._destination])

    def looked(self, job: JobState) -> None:
        """The job that looks is over; a node that could not say sees for itself."""
        statuses = [job.statuses[rank] for rank in range(len(job.nodes))]
        if all(status.code in (0, 1) for status in statuses) and min(job.nodes) >= 0:
            self._inside = [node for node, status in zip(job.nodes, statuses, strict=True) if status.code == 0]

    @property
    def done_bytes(self) -> int:
        """How much of it has left this host; what the cluster has already is not sent again."""
        return self.upload.sent_bytes

    def finish(self, job: JobState) -> Copied:
        """The job is over."""
        for rank, node in enumerate(job.nodes):
            self._judge(rank, node, job.statuses[rank])
        return Copied(job.nodes, self.problems, self.size_bytes)

    def _add_source(self, source: bytes, path: bytes) -> None:
        try:
            status = os.stat(source)
        except (OSError, ValueError) as error:
            self.problems.append(Problem(None, f"cannot read {shown(source)}: {reason_of(error)}"))
            return
        if stat.S_ISDIR(status.st_mode) and not self._recursive:
            self.problems.append(Problem(None, f"{shown(source)} is a directory: copied only with -r"))
            return
        self._add(source, path, status, source, None)

    def _add_file(self, source: bytes, path: bytes, opener: Callable[[bytes, int], int]) -> None:
        try:
            digest, status = digest_file(source, opener)
            self._note(source, path, FILE, status, digest.size, digest.digests)
            self.size_bytes += digest.size
        except SizeError:
            taken, status = self._taken.take(source, opener)
            self._note(taken, path, FILE, status, taken.size, taken.digests)
            self.size_bytes += taken.size

    def _add(self, source: bytes, path: bytes, status: os.stat_result, here: bytes, parent: int | None) -> None:
        """Add what is called `here` in the directory `parent`, and `source` by people.

        Only what was named itself may be a link. Whoever exchanges names below meanwhile, even where root copies, gets
        nothing sent from elsewhere: when it is sent, a file must have the digest that it has now.
        """
        if len(self._entries) >= MAX_ENTRIES:
            raise CopyError(f"more than {MAX_ENTRIES} files: copy fewer, or one archive of them")
        follow = os.O_NOFOLLOW if parent is not None else 0
        try:
            if stat.S_ISDIR(status.st_mode):
                fd = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow, dir_fd=parent)
                try:
                    self._add_directory(source, path, fd)
                finally:
                    os.close(fd)
            elif stat.S_ISLNK(status.st_mode):
                self._note(source, path, SYMLINK, status, target=os.readlink(here, dir_fd=parent))
            else:
                self._add_file(source, path, lambda _, flags: os.open(here, flags | follow, dir_fd=parent))
        except ImageError as error:
            self.problems.append(Problem(None, str(error)))
        except OSError as error:
            self.problems.append(Problem(None, f"cannot read {shown(source)}: {reason_of(error)}"))

    def _add_directory(self, source: bytes, path: bytes, fd: int) -> None:
        names = sorted(os.fsencode(name) for name in os.listdir(fd))
        self._note(source, path, DIRECTORY, os.fstat(fd))
        for name in names:
            below = source + b"/" + name
            try:
                status = os.lstat(name, dir_fd=fd)
            except OSError as error:
                self.problems.append(Problem(None, f"cannot read {shown(below)}: {reason_of(error)}"))
                continue
            self._add(below, path + b"/" + name, status, name, fd)

    def _note(
        self,
        source: bytes | Taken,
        path: bytes,
        kind: int,
        status: os.stat_result,
        size: int = 0,
        digests: bytes = b"",
        target: bytes = b"",
    ) -> None:
        if path in self._paths:
            if path == IMAGE_ROOT[:-1]:
                return  # the contents of two directories
            name = shown(path.removeprefix(IMAGE_ROOT))
            raise CopyError(f"two of the files are called {name}: copy them one after the other")
        entry: list[object] = [path, kind, status.st_mode & 0o777, size, digests, target]
        if self._preserve and kind != SYMLINK:
            entry.append([stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns])
        self._entries.append(entry)
        self._paths[path] = source


def name_of(path: bytes) -> bytes:
    """Return what a copy of this path is called; empty: only what is in this directory is meant, as for cp(1).

    Raises
    ------
    CopyError
        If it has no name.
    """
    name = os.path.basename(path.rstrip(b"/"))
    if name in (b".", b".."):
        return b""
    if not name:
        raise CopyError(f"{shown(path)} has no name under which it could be copied")
    return name
