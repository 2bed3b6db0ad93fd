"""Programs and libraries with search paths of their own, made of those that every system has: no compiler is needed."""

from __future__ import annotations

import os
from pathlib import Path

from heorot.images.closure import Closure

_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_RUNPATH = 0, 1, 5, 29
_PT_LOAD, _PT_DYNAMIC = 1, 2
_UNUSED = b"_ITM_deregisterTMCloneTable\0", b"_ITM_registerTMCloneTable\0"
"""Names of weak symbols in each program that a GNU compiler has made, which nothing defines and nobody misses."""
ECHO, READLINK = Path("/bin/echo"), Path("/bin/readlink")


def a_library() -> bytes:
    """Return a library that needs nothing but the C library, and is found under whatever name it is given."""
    closure = Closure([b"PATH=/usr/bin:/bin"], b"/")
    closure.add(b"/bin/echo")
    folder = next(os.path.dirname(path) for path in closure.paths if os.path.basename(path).startswith(b"libc.so"))
    return Path(os.fsdecode(folder), "libutil.so.1").read_bytes()


def with_library(source: bytes, name: bytes, search: bytes = b"") -> bytes:
    """Return a program or library that needs one more library, and looks for it in these directories, too.

    The texts stand where two names that nobody needs were, and the entries at the end of the dynamic section, where
    the linker has left some free.
    """
    data = bytearray(source)
    strings = _offset_of_strings(data)
    start, size = next((offset, size) for kind, offset, _, size in _segments(data) if kind == _PT_DYNAMIC)
    free = next(at for at in range(start, start + size, 16) if _number(data, at) == _DT_NULL)
    for tag, text, unused in zip((_DT_NEEDED, _DT_RUNPATH), (name, search), _UNUSED, strict=True):
        if text:
            assert len(text) < len(unused)
            assert free + 32 <= start + size, "the linker has left no entries free"
            at = data.index(unused, strings)
            data[at : at + len(text) + 1] = text + b"\0"
            data[free : free + 16] = tag.to_bytes(8, "little") + (at - strings).to_bytes(8, "little")
            free += 16
    return bytes(data)


def laid_out(folder: Path, program: Path = READLINK, *, library: bool = True) -> Path:
    """Lay out a program as Java is: ``home/bin/prog`` needs ``home/lib/libown.so.1``, which it finds from where it is,
    and is started by ``bin/prog``, a link to a link. Return that link."""
    home = folder / "home"
    for name in (home / "bin", home / "lib", folder / "alternatives", folder / "bin"):
        name.mkdir(parents=True)
    file = home / "bin" / "prog"
    file.write_bytes(with_library(program.read_bytes(), b"libown.so.1", b"$ORIGIN/../lib"))
    file.chmod(0o755)
    if library:
        (home / "lib" / "libown.so.1").write_bytes(a_library())
    (folder / "alternatives" / "prog").symlink_to(file)
    (folder / "bin" / "prog").symlink_to(folder / "alternatives" / "prog")
    return folder / "bin" / "prog"


def _number(data: bytes | bytearray, at: int, size: int = 8) -> int:
    return int.from_bytes(data[at : at + size], "little")


def _segments(data: bytes | bytearray) -> list[tuple[int, int, int, int]]:
    """Return kind, offset, address and size of each segment."""
    table, size, count = _number(data, 32), _number(data, 54, 2), _number(data, 56, 2)
    return [
        (_number(data, at, 4), _number(data, at + 8), _number(data, at + 16), _number(data, at + 32))
        for at in range(table, table + size * count, size)
    ]


def _offset_of_strings(data: bytes | bytearray) -> int:
    segments = _segments(data)
    start, size = next((offset, size) for kind, offset, _, size in segments if kind == _PT_DYNAMIC)
    address = next(_number(data, at + 8) for at in range(start, start + size, 16) if _number(data, at) == _DT_STRTAB)
    return next(
        address - begin + offset
        for kind, offset, begin, size in segments
        if kind == _PT_LOAD and begin <= address < begin + size
    )
