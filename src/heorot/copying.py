"""Copies to and from nodes, without I/O of their own towards the head: `bpcp` and both forms of the library drive this.

To nodes: the files are made an image, which travels as programs do (`heorot.images`), and a job in which bpinit itself
puts them at their place. From nodes: a job in which bpinit writes the files to stdout, and a receiver for each rank.
"""

from __future__ import annotations

import os
import stat
from hashlib import sha256

from heorot import caller, short_msgpack, wire
from heorot.core.chunks import DIRECTORY, FILE, SYMLINK
from heorot.core.errors import HeorotError, ProtocolError
from heorot.core.nodeset import NodeSet
from heorot.images.collecting import MAX_ENTRIES, MAX_MANIFEST_BYTES, digest_file
from heorot.images.copy_stream import Receiver
from heorot.images.identity import ImageError, shown
from heorot.images.offer import Offer, Upload
from heorot.images.placing import Placer, PlacingError
from heorot.job_state import STDERR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from heorot.job_state import JobState
    from heorot.status import Status

PUT = b"heorot:put"
GET = b"heorot:get"
IMAGE_ROOT = b"/copy/"
"""These three are those of `heorot.procs.builtins`, which a short command does not load."""
MAX_COMPLAINT_BYTES = 64 * 1024
"""What is kept of the words of one rank."""


class CopyError(HeorotError):
    """A copy was not made, or not all of it; the text says what, where and why, a line each."""


class Problem:
    """Something that was not copied: `node` is None for a file of this host, else the number of the node."""

    __slots__ = ("node", "text")

    def __init__(self, node: int | None, text: str) -> None:
        self.node = node
        self.text = text


def folded(problems: Sequence[Problem]) -> list[str]:
    """Return a line for each thing that went wrong, with all the nodes where it did."""
    groups: dict[str, list[int]] = {}
    lines: list[str] = []
    for problem in problems:
        if problem.node is None:
            lines.append(problem.text)
        else:
            groups.setdefault(problem.text, []).append(problem.node)
    for text, nodes in groups.items():
        names = ["master"] if min(nodes) < 0 else []
        listed = str(NodeSet.of(node for node in nodes if node >= 0))
        lines.append(",".join([*names, listed] if listed else names) + f": {text}")
    return lines


class Copied:
    """What became of a copy.

    Attributes
    ----------
    nodes:
        The nodes that it went to or came from, in order.
    problems:
        What was not copied, and why.
    size_bytes:
        The size of all files for one node; from nodes: what came.
    """

    __slots__ = ("nodes", "problems", "size_bytes")

    def __init__(self, nodes: Sequence[int], problems: Sequence[Problem], size_bytes: int) -> None:
        self.nodes = list(nodes)
        self.problems = list(problems)
        self.size_bytes = size_bytes

    def check(self) -> Copied:
        """Return this if everything was copied. Raises CopyError otherwise."""
        if self.problems:
            raise CopyError("\n".join(folded(self.problems)))
        return self


class _Copy:
    """What both directions have in common: a job, and what its ranks say on stderr."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._words: dict[int, bytearray] = {}

    def take(self, rank: int, stream: int, data: bytes) -> None:
        """A rank has written something."""
        words = self._words.setdefault(rank, bytearray())
        words += data[: max(0, MAX_COMPLAINT_BYTES - len(words))]

    def _judge(self, rank: int, node: int, status: Status) -> None:
        """A rank is over: take down what went wrong there."""
        said = self._words.pop(rank, b"").decode("utf-8", "backslashreplace").splitlines()
        self.problems += [Problem(node, line) for line in said]
        if status.success or (said and status.code is not None and status.error is None):
            return
        if status.lost:
            text = f"the node was lost: {status.text}" if status.text else "the node was lost"
        elif status.error is not None:
            text = status.text or f"the copy could not be started, error {status.error}"
        else:
            text = f"the copy ended with status {status.exit_status}"
        self.problems.append(Problem(node, text))

    def _fields(self, nodes: str, argv: list[bytes], paths: Sequence[bytes]) -> dict[str, Any]:
        # A relative path is relative to the directory of the same name there; an absolute one needs no such directory.
        relative = any(not path.startswith(b"/") for path in paths)
        return {
            "nodes": nodes,
            "select": "list",
            "argv": argv,
            "environment": [],
            "directory": caller.directory() if relative else b"/",
            "umask": caller.umask(),
            "limits": caller.limits(),
            "stdin": None,
            "stdout": None,
            "stderr": b"",
            "terminal": [],
            "detached": False,
            "max_processes": 0,
            "key": os.urandom(wire.KEY_BYTES),
        }


# ------------------------------------------------------------------ to nodes


class Put(_Copy):
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
        self._paths: dict[bytes, bytes] = {}
        """By path in the image: the path here."""
        self.size_bytes = 0
        for number, source in enumerate(sources):
            name = names[number] if names is not None else name_of(source)
            if IMAGE_ROOT + name in self._paths:
                raise CopyError(f"two of the files are called {shown(name)}: copy them one after the other")
            self._add_source(source, IMAGE_ROOT + name)
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
        """Return the launch, as `heorot.wire.spawn` takes it; offer `offer` before."""
        flags = b"d" if self._several else b""
        argv = [PUT, flags, self._destination]
        fields = self._fields(nodes, argv, [self._destination])
        return fields | {"image": self.offer.image, "program": self.offer.program}

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
            self.problems.append(Problem(None, f"cannot read {shown(source)}: {_reason(error)}"))
            return
        if stat.S_ISDIR(status.st_mode) and not self._recursive:
            self.problems.append(Problem(None, f"{shown(source)} is a directory: copied only with -r"))
            return
        self._add(source, path, status)

    def _add(self, source: bytes, path: bytes, status: os.stat_result) -> None:
        if len(self._entries) >= MAX_ENTRIES:
            raise CopyError(f"more than {MAX_ENTRIES} files: copy fewer, or one archive of them")
        try:
            if stat.S_ISDIR(status.st_mode):
                names = sorted(os.listdir(source))
                self._note(source, path, DIRECTORY, status)
                for name in names:
                    below = source + b"/" + name
                    self._add(below, path + b"/" + name, os.lstat(below))
            elif stat.S_ISLNK(status.st_mode):
                self._note(source, path, SYMLINK, status, target=os.readlink(source))
            else:
                digest, status = digest_file(source)
                self._note(source, path, FILE, status, digest.size, digest.digests)
                self.size_bytes += digest.size
        except ImageError as error:
            self.problems.append(Problem(None, str(error)))
        except OSError as error:
            self.problems.append(Problem(None, f"cannot read {shown(source)}: {_reason(error)}"))

    def _note(
        self,
        source: bytes,
        path: bytes,
        kind: int,
        status: os.stat_result,
        size: int = 0,
        digests: bytes = b"",
        target: bytes = b"",
    ) -> None:
        entry: list[object] = [path, kind, status.st_mode & 0o777, size, digests, target]
        if self._preserve and kind != SYMLINK:
            entry.append([stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns])
        self._entries.append(entry)
        self._paths[path] = source


def node_name(node: int) -> str:
    """Return how a node is called."""
    return "master" if node < 0 else f"n{node}"


def name_of(path: bytes) -> bytes:
    """Return what a copy of this path is called.

    Raises
    ------
    CopyError
        If it has no name.
    """
    name = os.path.basename(path.rstrip(b"/"))
    if name in (b"", b".", b".."):
        name = os.path.basename(os.path.realpath(path))
    if not name:
        raise CopyError(f"{shown(path)} has no name under which it could be copied")
    return name


# ------------------------------------------------------------------ from nodes


class Get(_Copy):
    """Files of nodes on their way to this host.

    Parameters
    ----------
    sources:
        Paths there.
    destination:
        A path here. From one node a file keeps its name; from several, ``.NODE`` is added to it, as clush(1) does.

    Raises
    ------
    CopyError
        If two of them would have the same name, or the destination has to be a directory and is none.
    """

    def __init__(
        self,
        sources: Sequence[bytes],
        destination: bytes,
        *,
        recursive: bool = False,
        preserve: bool = False,
        several: bool = False,
    ) -> None:
        super().__init__()
        self._sources = list(sources)
        self._names = [_remote_name(source) for source in sources]
        if len(set(self._names)) < len(self._names):
            raise CopyError("two of the files have the same name: copy them one after the other")
        self._destination = destination
        self._recursive = recursive
        self._preserve = preserve
        self._several = several or len(sources) > 1
        self._receivers: dict[int, Receiver] = {}
        self._broken: set[int] = set()
        self._nodes: list[int] = []

    def fields(self, nodes: str) -> dict[str, Any]:
        """Return the launch, as `heorot.wire.spawn` takes it."""
        flags = b"r" if self._recursive else b""
        fields = self._fields(nodes, [GET, flags, *self._sources], self._sources)
        return fields | {"stdout": b""}

    def begin(self, nodes: Sequence[int]) -> None:
        """The job exists, with these nodes.

        Raises
        ------
        CopyError
            If the destination cannot take what will come.
        """
        self._nodes = list(nodes)
        several = self._several or len(nodes) > 1
        if len(set(nodes)) < len(nodes):
            raise CopyError("a node is named twice: its files would be copied twice to the same place")
        for rank, node in enumerate(nodes):
            suffix = b"." + node_name(node).encode() if len(nodes) > 1 else b""
            try:
                placer = Placer(self._destination, several)
            except PlacingError as error:
                raise CopyError(str(error)) from error
            self._receivers[rank] = Receiver(placer, self._renamer(suffix), self._preserve, self._complainer(node))

    def _renamer(self, suffix: bytes) -> Callable[[bytes], bytes]:
        def rename(first: bytes) -> bytes:
            number = int(first)
            if not 0 <= number < len(self._names):
                raise ValueError(f"file number {number}")
            return self._names[number] + suffix

        return rename

    def _complainer(self, node: int) -> Callable[[str], None]:
        def complain(text: str) -> None:
            self.problems.append(Problem(None, f"{text} (from {node_name(node)})"))

        return complain

    @property
    def done_bytes(self) -> int:
        """How much has come."""
        return sum(receiver.received_bytes for receiver in self._receivers.values())

    def take(self, rank: int, stream: int, data: bytes) -> None:
        """A rank has written something."""
        if stream == STDERR:
            super().take(rank, stream, data)
            return
        if rank in self._broken:
            return
        try:
            self._receivers[rank].feed(data)
        except ProtocolError as error:
            self._broken.add(rank)
            self.problems.append(Problem(self._nodes[rank], str(error)))

    def finish(self, job: JobState) -> Copied:
        """The job is over."""
        for rank, node in enumerate(job.nodes):
            before = len(self.problems)
            self._judge(rank, node, job.statuses[rank])
            receiver = self._receivers[rank]
            if not receiver.ended and rank not in self._broken and len(self.problems) == before:
                self.problems.append(Problem(node, "what it sent has no end"))
        self.close()
        return Copied(job.nodes, self.problems, self.done_bytes)

    def close(self) -> None:
        """Drop what is not complete."""
        for receiver in self._receivers.values():
            receiver.close()


def _remote_name(path: bytes) -> bytes:
    name = os.path.basename(path.rstrip(b"/"))
    if name in (b"", b".", b".."):
        raise CopyError(f"{shown(path)} has no name under which it could be copied: name the directory")
    return name


def _reason(error: OSError | ValueError) -> str:
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
