"""Files of nodes on their way to this host. See `heorot.client.copies`."""

from __future__ import annotations

import os
from errno import EACCES, EROFS

from heorot.client.copies import Copied, CopyError, CopyJob, Problem, node_name
from heorot.client.put import name_of
from heorot.core.client.job import STDERR
from heorot.core.errors import ProtocolError
from heorot.core.wire.path_patterns import NODE, expand
from heorot.images.copy_stream import Receiver
from heorot.images.identity import shown
from heorot.images.new_file import PlacingError
from heorot.images.placing import Placer
from heorot.images.spot import CONTENTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from heorot.core.client.job import JobState

GET = b"heorot:get"
"""That of `heorot.bpinit.own_commands`, which a short command does not load."""


class Get(CopyJob):
    """Files of nodes on their way to this host.

    Parameters
    ----------
    sources:
        Paths there.
    destination:
        A path here, in which ``%n`` is the name of the node and ``%%`` is ``%``. Without ``%n``, a file of one node
        keeps its name, and to those of several ``.NODE`` is added, as clush(1) does.

    Raises
    ------
    CopyError
        If two of them would have the same name, the destination has to be a directory and is none, or is no pattern.
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
        self._names = [name_of(source) or CONTENTS for source in sources]
        named = [name for name in self._names if name != CONTENTS]
        if len(set(named)) < len(named):
            raise CopyError("two of the files have the same name: copy them one after the other")
        self._destination = destination
        try:
            self._names_node = self._destination_of(0) != self._destination_of(1)
        except ValueError as error:
            raise CopyError(str(error)) from error
        self._recursive = recursive
        self._preserve = preserve
        self._several = several or len(sources) > 1
        self._receivers: dict[int, Receiver] = {}
        self._broken: set[int] = set()
        self._nodes: list[int] = []

    def fields(self, nodes: str) -> dict[str, Any]:
        """Return the launch, as `heorot.core.client.messages.spawn` takes it."""
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
        mixed = len(nodes) > 1 and not self._names_node
        several = self._several or mixed
        if len(set(nodes)) < len(nodes):
            raise CopyError("a node is named twice: its files would be copied twice to the same place")
        if mixed and CONTENTS in self._names:
            source = shown(self._sources[self._names.index(CONTENTS)])
            raise CopyError(f"what is in {source} of {len(nodes)} nodes would be mixed: name the directory itself")
        for rank, node in enumerate(nodes):
            suffix = b"." + node_name(node).encode() if mixed else b""
            destination = self._destination_of(node)
            self._check_destination(destination, suffix)
            try:
                placer = Placer(destination, several)
            except PlacingError as error:
                raise CopyError(str(error)) from error
            self._receivers[rank] = Receiver(placer, self._renamer(suffix), self._preserve, self._complainer(node))

    def _destination_of(self, node: int) -> bytes:
        """Return where the files of a node go. Raises ValueError."""
        if b"%" not in self._destination:
            return self._destination
        return expand(self._destination, {NODE: node_name(node).encode()})

    def _check_destination(self, destination: bytes, suffix: bytes) -> None:
        """See that what comes can be made where it shall be, before any of it comes. Raises CopyError."""
        folder, names = destination or b".", [name + suffix for name in self._names]
        if not os.path.isdir(folder):
            folder, name = os.path.split(folder.rstrip(b"/"))
            folder, names = folder or b".", [name]
        if CONTENTS in names or any(os.path.isdir(os.path.join(folder, name)) for name in names):
            return  # nothing need be made in this very directory
        if os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            return
        try:
            read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
            why = os.strerror(EROFS if read_only else EACCES)
        except OSError as error:
            why = error.strerror or str(error)
        raise CopyError(f"cannot write {shown(os.path.join(folder, names[0]))}: {why}")

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
