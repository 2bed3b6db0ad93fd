"""Making an image: the files of a program and whatever the user adds, digested, as an encoded manifest."""

from __future__ import annotations

import os
import stat
from hashlib import sha256

from heorot.core.client import short_msgpack
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.images.closure import Closure
from heorot.images.files import FileDigest, open_file
from heorot.images.find import may_be_sent
from heorot.images.identity import ImageError, shown
from heorot.images.named import NamedFiles, may_not_be_sent

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MAX_MANIFEST_BYTES = 6 * 1024 * 1024


class Collection:
    """What an image is made of.

    Attributes
    ----------
    paths:
        Of its entries, each with the target of a link; empty: a file or directory.
    program:
        The path of the program's file, which has no link in it.
    depends:
        The files, by the names by which they were found, that all of this depends on.
    """

    __slots__ = ("depends", "paths", "program")

    def __init__(self, paths: dict[bytes, bytes], program: bytes, depends: list[bytes]) -> None:
        self.paths = paths
        self.program = program
        self.depends = depends


def collect(
    program: bytes,
    environment: Sequence[bytes],
    directory: bytes,
    extra: Sequence[bytes] = (),
    data: Sequence[bytes] = (),
    say: Callable[[str], object] = lambda text: None,
) -> Collection:
    """Return what belongs into the image of a program.

    Parameters
    ----------
    extra:
        Files and directories, in `directory` or anywhere (`heorot.images.named`).
    data:
        The paths of files that the program reads.
    say:
        Takes a line for people about what of `extra` goes without something that it needs.

    Raises
    ------
    ImageError
        If something that is needed is missing.
    """
    closure = Closure(environment, directory)
    file = closure.add(program)
    for path in data:
        closure.paths.setdefault(path, b"")
    depends = list(closure.paths)
    if extra:
        closure.careful = True
        named = NamedFiles(closure, directory, say)
        for name in extra:
            named.add(name)
        named.finish()
    return Collection(_without_ways(closure.paths), file, depends)


def _without_ways(paths: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """Return entries of which none lies below a link: an image has nothing there.

    What is sent under its own name, too, is left out below the link. If anything is not, the link is: for the program
    it is a directory then, with those files.
    """
    above: set[bytes] = set()
    for path in paths:
        while (path := os.path.dirname(path)) not in above:
            above.add(path)
    for way in [path for path, target in paths.items() if target and path in above]:
        below = [path for path in paths if path.startswith(way + b"/")]
        ends = [os.path.realpath(path) for path in below]
        if all(end in paths and end != path for path, end in zip(below, ends, strict=True)):
            paths = {path: target for path, target in paths.items() if not path.startswith(way + b"/")}
        else:
            paths = {path: target for path, target in paths.items() if path != way}
    return paths


def describe_image(collection: Collection) -> tuple[bytes, bytes, bytes]:
    """Digest these files; return the image's name, the name of the content of its program, and the encoded manifest.

    Raises
    ------
    ImageError
        If one cannot be read, changes meanwhile, or may not be sent.
    """
    try:
        entries, program_id = _entries(collection)
    except OSError as error:
        name = error.filename if isinstance(error.filename, bytes) else collection.program
        raise ImageError(f"cannot read {shown(name)}: {error.strerror or error}") from error
    manifest = short_msgpack.packb(["heorot-image", entries, collection.program])
    if len(manifest) > MAX_MANIFEST_BYTES:
        text = f"the list of {len(entries)} files has {len(manifest)} bytes: send fewer, or one archive of them"
        raise ImageError(text)
    return sha256(manifest).digest(), program_id, manifest


def _entries(collection: Collection) -> tuple[list[list[object]], bytes]:
    entries: list[list[object]] = []
    program_id = b""
    for path, target in collection.paths.items():
        if not may_be_sent(path):
            raise ImageError(may_not_be_sent(path))
        if target:
            entries.append([path, SYMLINK, 0o777, 0, b"", target])
            continue
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            entries.append([path, DIRECTORY, stat.S_IMODE(mode) & 0o777, 0, b"", b""])
            continue
        digest, status = digest_file(path)
        entries.append([path, FILE, status.st_mode & 0o777, digest.size, digest.digests, b""])
        if path == collection.program:
            program_id = digest.file_id
    return entries, program_id


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
