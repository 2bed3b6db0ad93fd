"""What an ELF file says of itself: for which machine it is, which loader it wants, which libraries it names.

The format is that of elf(5). Where these libraries are is for the loader to say (`heorot.images.loader`).
"""

from __future__ import annotations

import os

from heorot.images.files import open_file
from heorot.images.identity import ImageError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

MAGIC = b"\x7fELF"
HEAD_BYTES = 4096
MAX_NAME_BYTES = 4096
_MAX_DYNAMIC_BYTES = 64 * 1024
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29


class DamagedError(ImageError):
    """A file begins as an ELF file does, and is none that could be loaded."""


class _Segment:
    """An entry of an ELF file's program header table."""

    __slots__ = ("address", "end", "kind", "offset", "size")

    def __init__(self, kind: int, offset: int, address: int, size: int) -> None:
        self.kind = kind
        self.offset = offset
        self.address = address
        """Where it comes to lie in memory."""
        self.size = size
        self.end = offset + size
        """So long the file has to be."""


class Elf:
    """An ELF file, as far as its head tells.

    Attributes
    ----------
    machine:
        Its ``e_machine``.
    loader:
        The path of the dynamic loader that it names; None: it names none.
    """

    __slots__ = ("_order", "_path", "_segments", "_wide", "loader", "machine")

    def __init__(self, path: bytes, fd: int, head: bytes) -> None:
        self._path = path
        self._order: Literal["big", "little"] = "big" if head[5:6] == b"\x02" else "little"
        self._wide = head[4:5] == b"\x02"
        self.machine = int.from_bytes(head[18:20], self._order)
        try:
            self._segments = self._table(head)
        except ValueError as error:
            raise DamagedError(f"{shown(path)} is no program that can be run: its header is damaged") from error
        size, wanted = os.fstat(fd).st_size, max((segment.end for segment in self._segments), default=0)
        if wanted > size:
            raise DamagedError(f"{shown(path)} is incomplete: it has {size} of {wanted} bytes; build or copy it again")
        self.loader: bytes | None = None
        for segment in self._of_kind(_PT_INTERP)[:1]:
            self.loader = os.pread(fd, min(segment.size, MAX_NAME_BYTES), segment.offset).rstrip(b"\0")

    def _table(self, head: bytes) -> list[_Segment]:
        """Return the segments. Raises ValueError if the header is damaged."""

        def number(at: int, size: int) -> int:
            if at + size > len(head):
                raise ValueError("beyond the header")
            return int.from_bytes(head[at : at + size], self._order)

        table = number(32, 8) if self._wide else number(28, 4)
        size, count = (number(54, 2), number(56, 2)) if self._wide else (number(42, 2), number(44, 2))
        segments: list[_Segment] = []
        for at in range(table, table + count * size, max(size, 1)):
            places = ((8, 8), (16, 8), (32, 8)) if self._wide else ((4, 4), (8, 4), (16, 4))
            segments.append(_Segment(number(at, 4), *(number(at + place, width) for place, width in places)))
        return segments

    def _of_kind(self, kind: int) -> list[_Segment]:
        return [segment for segment in self._segments if segment.kind == kind]

    def needed(self) -> list[bytes] | None:
        """Return the names of the libraries that it wants; None: it says itself where to look for them.

        Raises
        ------
        ImageError
            If it cannot be read any more, or is damaged.
        """
        fd, _ = open_file(self._path)
        try:
            return self._needed(fd)
        except (OSError, OverflowError) as error:
            raise DamagedError(f"{shown(self._path)} is damaged: {error}") from error
        finally:
            os.close(fd)

    def _needed(self, fd: int) -> list[bytes] | None:
        names: list[int] = []
        strings = 0
        width = 8 if self._wide else 4
        for segment in self._of_kind(_PT_DYNAMIC)[:1]:
            data = os.pread(fd, min(segment.size, _MAX_DYNAMIC_BYTES), segment.offset)
            for at in range(0, len(data) - 2 * width + 1, 2 * width):
                tag = int.from_bytes(data[at : at + width], self._order)
                value = int.from_bytes(data[at + width : at + 2 * width], self._order)
                if tag in (_DT_RPATH, _DT_RUNPATH):
                    return None
                if tag == _DT_NEEDED:
                    names.append(value)
                elif tag == _DT_STRTAB:
                    strings = value
                elif not tag:
                    break
        at = self._offset_of(strings)
        return [os.pread(fd, MAX_NAME_BYTES, at + name).partition(b"\0")[0] for name in names]

    def _offset_of(self, address: int) -> int:
        """Return where in the file is what comes to lie there in memory."""
        for segment in self._of_kind(_PT_LOAD):
            if segment.address <= address < segment.address + segment.size:
                return address - segment.address + segment.offset
        return address


def look_at(path: bytes) -> tuple[bytes, Elf | None]:
    """Return how a file begins, and what it says of itself if it is an ELF file.

    Raises
    ------
    ImageError
        If it cannot be read, or is an ELF file that is damaged.
    """
    fd, _ = open_file(path)
    try:
        head = os.pread(fd, HEAD_BYTES, 0)
        return head, Elf(path, fd, head) if head.startswith(MAGIC) else None
    except OSError as error:
        raise ImageError(f"cannot read {shown(path)}: {error.strerror or error}") from error
    finally:
        os.close(fd)
