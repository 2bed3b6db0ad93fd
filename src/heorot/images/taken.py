"""Files whose size says nothing of their content, as they were read: those of /proc and /sys, and some of FUSE.

Such a file is another one each time that it is read. So it is read once to its end, into one file without a name that
holds them all, and what is sent later is read from there.
"""

from __future__ import annotations

import os
from hashlib import sha256

from heorot.core.images.chunks import DIGEST_BYTES, chunk_bytes_of
from heorot.images.files import open_file
from heorot.images.identity import ImageError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

MAX_UNSIZED_BYTES = 64 * 1024 * 1024
"""What is read at most of one such file: some have no end."""
MAX_TAKEN_BYTES = 1 << 30
"""What all of them may have together."""
_READ_BYTES = 256 * 1024


class Taken:
    """The content of one such file.

    Parameters
    ----------
    file:
        What holds it, from `offset` on.
    digests:
        The SHA-256 of each chunk, one after the other.
    """

    __slots__ = ("digests", "file", "offset", "size")

    def __init__(self, file: IO[bytes], offset: int, size: int, digests: bytes) -> None:
        self.file = file
        self.offset = offset
        self.size = size
        self.digests = digests


class TakenFiles:
    """All that were taken for one copy."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._used_bytes = 0

    def take(self, path: bytes, opener: Callable[[bytes, int], int] = os.open) -> tuple[Taken, os.stat_result]:
        """Read a file to its end; return its content, and what it looked like when it was opened.

        Raises
        ------
        ImageError
            If it cannot be read, or has too much.
        """
        source, status = open_file(path, opener)
        try:
            return self._take(source, path), status
        except OSError as error:
            raise ImageError(f"cannot read {shown(path)}: {os.strerror(error.errno or 0)}") from error
        finally:
            os.close(source)

    def _take(self, source: int, path: bytes) -> Taken:
        file = self._open()
        out = file.fileno()
        start = self._used_bytes
        size = 0
        while data := os.read(source, _READ_BYTES):
            size += len(data)
            if size > MAX_UNSIZED_BYTES:
                raise ImageError(f"{shown(path)} does not say its size, and has more than {MAX_UNSIZED_BYTES} bytes")
            if start + size > MAX_TAKEN_BYTES:
                raise ImageError(
                    f"{shown(path)} does not say its size, and such files have more than {MAX_TAKEN_BYTES} bytes"
                    " together: copy fewer"
                )
            self._keep(out, data, start + size - len(data))
        self._used_bytes = start + size
        step = chunk_bytes_of(size)
        digests = b"".join(
            sha256(os.pread(out, min(step, size - offset), start + offset)).digest() for offset in range(0, size, step)
        )
        assert len(digests) == -(-size // step) * DIGEST_BYTES
        return Taken(file, start, size, digests)

    def _open(self) -> IO[bytes]:
        if self._file is None:
            from tempfile import TemporaryFile

            try:
                self._file = TemporaryFile(prefix="bpcp.")  # noqa: SIM115 - kept as long as we are
            except OSError as error:
                raise ImageError(f"cannot make a temporary file: {error.strerror or error}") from error
        return self._file

    @staticmethod
    def _keep(out: int, data: bytes, offset: int) -> None:
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(out, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            raise ImageError(
                f"cannot write a temporary file: {os.strerror(error.errno or 0)}; TMPDIR names where"
            ) from error
