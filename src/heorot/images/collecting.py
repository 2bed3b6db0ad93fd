"""Making an image: the files of a program and whatever the user adds, digested, as an encoded manifest."""

from __future__ import annotations

import os
import stat
from hashlib import sha256

from heorot.core.client import short_msgpack
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.images.closure import closure
from heorot.images.files import FileDigest, open_file
from heorot.images.find import may_be_sent, plain
from heorot.images.identity import ImageError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

MAX_ENTRIES = 50_000
MAX_MANIFEST_BYTES = 6 * 1024 * 1024


def collect(
    program: bytes,
    environment: Sequence[bytes],
    directory: bytes,
    extra: Sequence[bytes],
    data: Sequence[bytes] = (),
) -> tuple[list[bytes], list[bytes]]:
    """Return the paths of an image's entries, and the files that this list depends on.

    `extra` are files and directories in `directory` or anywhere, `data` the paths of files that the program reads.

    Raises
    ------
    ImageError
        If something that is needed is missing.
    """
    needed = [*(closure(program, environment, directory) if program else ()), *data]
    paths = dict.fromkeys(needed)
    for name in extra:
        _add(paths, plain(os.path.join(directory, name)))
    return _without_ways(paths), needed


def _add(paths: dict[bytes, None], path: bytes) -> None:
    """Add a file, or a directory with everything in it."""
    if not os.path.lexists(path):
        raise ImageError(f"cannot read {shown(path)}: {os.strerror(2)}")
    paths[path] = None
    if not os.path.isdir(path) or os.path.islink(path):
        return
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        raise ImageError(f"cannot read {shown(path)}: {error.strerror}") from error
    for name in names:
        if len(paths) > MAX_ENTRIES:
            raise ImageError(f"more than {MAX_ENTRIES} files: send fewer, or one archive of them")
        _add(paths, path + b"/" + name)


def describe_image(paths: list[bytes], program: bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """Digest these files; return the image's name, its program, the name of its content, and the encoded manifest.

    Raises
    ------
    ImageError
        If one cannot be read, changes meanwhile, or may not be sent.
    """
    try:
        entries, program_id = _entries(paths, program)
    except OSError as error:
        name = error.filename if isinstance(error.filename, bytes) else program
        raise ImageError(f"cannot read {shown(name)}: {error.strerror or error}") from error
    manifest = short_msgpack.packb(["heorot-image", entries, program])
    if len(manifest) > MAX_MANIFEST_BYTES:
        text = f"the list of {len(entries)} files has {len(manifest)} bytes: send fewer, or one archive of them"
        raise ImageError(text)
    return sha256(manifest).digest(), program, program_id, manifest


def _entries(paths: list[bytes], program: bytes) -> tuple[list[list[object]], bytes]:
    needed = set(paths)
    entries: list[list[object]] = []
    program_id = b""
    for path in paths:
        if not may_be_sent(path):
            raise ImageError(f"{shown(path)} may not be sent: every node has its own {shown(path.split(b'/')[1])}")
        kind = os.lstat(path).st_mode if _within(path, needed) else os.stat(path).st_mode
        if stat.S_ISDIR(kind):
            entries.append([path, DIRECTORY, stat.S_IMODE(kind) & 0o777, 0, b"", b""])
        elif stat.S_ISLNK(kind):
            entries.append([path, SYMLINK, 0o777, 0, b"", os.readlink(path)])
        else:
            digest, status = digest_file(path)
            entries.append([path, FILE, status.st_mode & 0o777, digest.size, digest.digests, b""])
            if path == program:
                program_id = digest.file_id
    return entries, program_id


def _without_ways(paths: dict[bytes, None]) -> list[bytes]:
    """Leave out links in directories that are sent by which the program finds another file that is sent.

    An image has nothing below a link; so for the program such a link is a directory with those files.
    """
    above: set[bytes] = set()
    for path in paths:
        while (path := os.path.dirname(path)) not in above:
            above.add(path)
    return [path for path in paths if not (path in above and _within(path, paths) and os.path.islink(path))]


def _within(path: bytes, paths: Container[bytes]) -> bool:
    """Say whether this path was found in a directory that is sent as a whole: there a link stays a link."""
    return os.path.dirname(path) in paths


def digest_file(path: bytes, opener: Callable[[bytes, int], int] = os.open) -> tuple[FileDigest, os.stat_result]:
    """Return the digests of a file, and what it looked like when it was opened. Raises ImageError."""
    fd, status = open_file(path, opener)
    try:
        digest = FileDigest(path, fd, status)
        while not digest.advance(1 << 30):
            pass
    finally:
        os.close(fd)
    return digest, status
