"""Output that is shown at the end: equal outputs folded, or one JSON document."""

from __future__ import annotations

import os

from heorot.cli.messages import node_name
from heorot.core.nodeset import NodeSet
from heorot.job_state import STDERR, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from heorot.cli.output import Sink
    from heorot.job_state import InboundStream, JobState

MAX_MEMORY_BYTES = 64 * 1024 * 1024
"""What is collected beyond this goes to an unnamed temporary file."""
_READ_BYTES = 256 * 1024
_RULE = b"-" * 16 + b"\n"


class Collection:
    """The output of all ranks, in memory while it is small and in one unnamed temporary file beyond."""

    def __init__(
        self, consumed: Callable[[InboundStream, int], None], max_memory_bytes: int = MAX_MEMORY_BYTES
    ) -> None:
        self._consumed = consumed
        self._max_memory_bytes = max_memory_bytes
        self._memory_bytes = 0
        self._file_bytes = 0
        self._fd = -1
        self._pieces: dict[tuple[int, int], list[bytes | tuple[int, int]]] = {}
        """For each rank and stream its pieces in order: bytes, or where they stand in the file and how many."""

    def add(self, stream: InboundStream, data: bytes) -> None:
        """Keep bytes; they count as consumed."""
        pieces = self._pieces.setdefault((stream.rank, stream.stream), [])
        if self._memory_bytes + len(data) <= self._max_memory_bytes:
            self._memory_bytes += len(data)
            pieces.append(data)
        else:
            self._spill(pieces, data)
        self._consumed(stream, len(data))

    def _spill(self, pieces: list[bytes | tuple[int, int]], data: bytes) -> None:
        if self._fd < 0:
            directory = os.environ.get("TMPDIR") or "/tmp"
            self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        offset = self._file_bytes
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, self._file_bytes)
            self._file_bytes += written
            view = view[written:]
        last = pieces[-1] if pieces else None
        if isinstance(last, tuple) and last[0] + last[1] == offset:
            pieces[-1] = (last[0], last[1] + len(data))
        else:
            pieces.append((offset, len(data)))

    def read(self, rank: int, number: int) -> Iterator[bytes]:
        """Yield the output of a rank in pieces of bounded size."""
        for piece in self._pieces.get((rank, number), ()):
            if isinstance(piece, bytes):
                yield piece
                continue
            offset, count = piece
            while count:
                data = os.pread(self._fd, min(count, _READ_BYTES), offset)
                assert data, "the temporary file is shorter than what was written to it"
                yield data
                offset += len(data)
                count -= len(data)

    def has(self, rank: int, number: int) -> bool:
        """Whether the rank wrote anything there."""
        return (rank, number) in self._pieces

    def digest(self, rank: int, number: int) -> bytes:
        """Return the same for equal outputs, and something else for others."""
        from _blake2 import blake2b

        state = blake2b(digest_size=32)
        for data in self.read(rank, number):
            state.update(data)
        return state.digest()


class GatherForm:
    """Equal outputs of several nodes are shown once, under the list of these nodes."""

    def __init__(self, collection: Collection, job: JobState, sinks: dict[int, Sink]) -> None:
        self._collection = collection
        self._job = job
        self._sinks = sinks

    def output(self, stream: InboundStream, data: bytes) -> None:
        self._collection.add(stream, data)

    def ended(self, rank: int) -> None:
        pass

    def finish(self) -> None:
        for number in (STDOUT, STDERR):
            groups: dict[bytes, list[int]] = {}
            for rank in range(len(self._job.nodes)):
                if self._collection.has(rank, number):
                    groups.setdefault(self._collection.digest(rank, number), []).append(rank)
            sink = self._sinks[number]
            for ranks in groups.values():
                nodes = [self._job.nodes[rank] for rank in ranks]
                names = ["master"] if min(nodes) < 0 else []
                listed = str(NodeSet.of(node for node in nodes if node >= 0))
                sink.write(_RULE + ",".join([*names, listed] if listed else names).encode() + b"\n" + _RULE)
                last = b""
                for data in self._collection.read(ranks[0], number):
                    sink.write(data)
                    sink.drain_beyond_bound()
                    last = data
                if not last.endswith(b"\n"):
                    sink.write(b"\n")


class JsonForm:
    """One JSON document: ``{"job", "status", "text", "ranks": [...]}``.

    A rank has ``rank``, ``node``, ``name``, ``pid`` (null if it never ran), one of ``code``, ``signal`` and ``lost``
    (with ``error`` if it could not be started), and for each of ``stdout`` and ``stderr`` the text if it is UTF-8, else
    ``stdout_base64`` or ``stderr_base64``. Ranks that had not ended have none of the statuses.
    """

    def __init__(self, collection: Collection, job: JobState, sink: Sink) -> None:
        self._collection = collection
        self._job = job
        self._sink = sink

    def output(self, stream: InboundStream, data: bytes) -> None:
        self._collection.add(stream, data)

    def ended(self, rank: int) -> None:
        pass

    def finish(self) -> None:
        from json import dumps

        job, write = self._job, self._write
        write(f'{{"job": {dumps(job.id)}, "status": {job.exit_status}, "text": {dumps(job.done_text)}, "ranks": [')
        for rank, node in enumerate(job.nodes):
            row = {"rank": rank, "node": node, "name": node_name(node), "pid": job.pids.get(rank)}
            if rank in job.statuses:
                row.update(job.statuses[rank].as_json())
            write((", " if rank else "") + "\n  " + dumps(row)[:-1])
            for name, number in (("stdout", STDOUT), ("stderr", STDERR)):
                if self._is_text(rank, number):
                    write(f', "{name}": "')
                    self._write_text(rank, number)
                else:
                    write(f', "{name}_base64": "')
                    self._write_base64(rank, number)
                write('"')
            write("}")
        write("\n]}\n")

    def _write(self, text: str) -> None:
        self._sink.write(text.encode())
        self._sink.drain_beyond_bound()

    def _is_text(self, rank: int, number: int) -> bool:
        from codecs import getincrementaldecoder

        decoder = getincrementaldecoder("utf-8")()
        try:
            for data in self._collection.read(rank, number):
                decoder.decode(data)
            decoder.decode(b"", True)
        except UnicodeDecodeError:
            return False
        return True

    def _write_text(self, rank: int, number: int) -> None:
        from codecs import getincrementaldecoder
        from json import dumps

        decoder = getincrementaldecoder("utf-8")()
        for data in self._collection.read(rank, number):
            self._write(dumps(decoder.decode(data))[1:-1])

    def _write_base64(self, rank: int, number: int) -> None:
        from binascii import b2a_base64

        rest = b""
        for data in self._collection.read(rank, number):
            data = rest + data
            whole = len(data) - len(data) % 3
            rest = data[whole:]
            self._write(b2a_base64(data[:whole], newline=False).decode())
        self._write(b2a_base64(rest, newline=False).decode())
