"""Output that has to wait before it is shown: in memory while it is little, in one unnamed temporary file beyond."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from heorot.core.client.read_stream import ReadStream

    Piece: TypeAlias = bytes | tuple[int, int]
    """The bytes, or where they stand in the file and how many they are."""

MAX_MEMORY_BYTES = 64 * 1024 * 1024
_READ_BYTES = 256 * 1024


class Held:
    """The output of ranks, each in the order in which it came.

    Parameters
    ----------
    kept:
        Called for bytes that are in a safe place: the node may forget them.
    max_file_bytes:
        Beyond this much in the file, what comes is held in memory and not reported as kept, so that the windows of its
        streams bound it; None: the disk is the limit.
    """

    def __init__(
        self,
        kept: Callable[[ReadStream, int], None],
        max_file_bytes: int | None = None,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
    ) -> None:
        self._kept = kept
        self._max_file_bytes = max_file_bytes
        self._max_memory_bytes = max_memory_bytes
        self._memory_bytes = 0
        self._fd = -1
        self._file_end = 0
        self._file_bytes = 0
        self._pieces: dict[int, list[tuple[ReadStream, Piece]]] = {}

    def close(self) -> None:
        """Give the temporary file up."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def add(self, stream: ReadStream, data: bytes) -> None:
        """Keep bytes.

        Raises
        ------
        OSError
            If the temporary file cannot take them; `filename` is its directory.
        """
        pieces = self._pieces.setdefault(stream.rank, [])
        if self._memory_bytes + len(data) <= self._max_memory_bytes:
            self._memory_bytes += len(data)
            pieces.append((stream, data))
        elif self._max_file_bytes is not None and self._file_end + len(data) > self._max_file_bytes:
            self._memory_bytes += len(data)
            pieces.append((stream, data))
            return
        else:
            pieces.append((stream, self._spill(data)))
        self._kept(stream, len(data))

    def _spill(self, data: bytes) -> Piece:
        directory = os.environ.get("TMPDIR") or "/tmp"
        try:
            if self._fd < 0:
                self._fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
            offset = self._file_end
            view = memoryview(data)
            while view:
                written = os.pwrite(self._fd, view, self._file_end)
                self._file_end += written
                view = view[written:]
        except OSError as error:
            error.filename = directory
            raise
        self._file_bytes += len(data)
        return offset, len(data)

    def take(self, rank: int) -> Iterator[tuple[ReadStream, bytes]]:
        """Yield all of a rank's output in pieces of bounded size, and forget it."""
        for stream, piece in self._pieces.pop(rank, ()):
            for data in self._read(piece):
                yield stream, data
            if isinstance(piece, bytes):
                self._memory_bytes -= len(piece)
            else:
                self._file_bytes -= piece[1]
                if not self._file_bytes:
                    os.ftruncate(self._fd, 0)
                    self._file_end = 0

    def read(self, rank: int, number: int) -> Iterator[bytes]:
        """Yield one stream of a rank in pieces of bounded size, and keep it."""
        for stream, piece in self._pieces.get(rank, ()):
            if stream.stream == number:
                yield from self._read(piece)

    def _read(self, piece: Piece) -> Iterator[bytes]:
        if isinstance(piece, bytes):
            yield piece
            return
        offset, count = piece
        while count:
            data = os.pread(self._fd, min(count, _READ_BYTES), offset)
            assert data, "the temporary file is shorter than what was written to it"
            yield data
            offset += len(data)
            count -= len(data)

    def has(self, rank: int, number: int) -> bool:
        """Whether the rank wrote anything there."""
        return any(stream.stream == number for stream, _ in self._pieces.get(rank, ()))

    def digest(self, rank: int, number: int) -> bytes:
        """Return the same for equal outputs, and something else for others."""
        from _blake2 import blake2b

        state = blake2b(digest_size=32)
        for data in self.read(rank, number):
            state.update(data)
        return state.digest()
