"""What a client offers with a launch: the image of its program, of which the head asks for what the nodes lack.

Finding a program's libraries and digesting them all takes milliseconds, which a short command does not have. So what
was found is saved in the user's cache directory, with the times of every file and directory that it depends on, and
is used again as long as they are the same.
"""

from __future__ import annotations

import os
import stat
from binascii import crc32

from heorot.core.client import messages as wire
from heorot.core.client import short_msgpack
from heorot.core.client.end import EXIT_NO_COMMAND, EXIT_NOT_EXECUTABLE
from heorot.core.errors import SecurityError
from heorot.images.identity import CommandError, ImageError, identity, is_settled, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from heorot.images.taken import Taken

WINDOW_BYTES = 1024 * 1024
"""What may be on its way to the head unacknowledged."""
PIECE_BYTES = 512 * 1024
FORMAT = "heorot image 2"
MAX_SAVED_BYTES = 256 * 1024
_VARIABLES = (b"PATH", b"LD_LIBRARY_PATH", b"LD_PRELOAD", b"LD_AUDIT", b"LD_ORIGIN_PATH", b"GLIBC_TUNABLES")
"""Of the environment: what the search for a program's files depends on."""


class Offer:
    """An image that this process can supply."""

    __slots__ = ("image", "manifest", "program", "program_id")

    def __init__(self, image: bytes, program: bytes, program_id: bytes, manifest: bytes) -> None:
        self.image = image
        self.program = program
        """The path by which it is started; the manifest has that of its file, which differs if this one is a link."""
        self.program_id = program_id
        """Empty: the nodes' own files shall not be run even if they are the same."""
        self.manifest = manifest


def offer_command(
    command: bytes,
    environment: Sequence[bytes],
    directory: bytes,
    *,
    extra: Sequence[bytes] = (),
    always_send: bool = False,
    terminal: bool = False,
    say: Callable[[str], object] = lambda text: None,
) -> Offer | None:
    """Return the image of a command as it is found here; None: the nodes are to run what they have under this name.

    That is if the command is not here, or not all that it needs, and it need not be sent. Of the latter, and of what
    goes without something that it needs, `say` is told a line for people.

    Raises
    ------
    ImageError
        As `offer_program` does, if it is to be sent or `extra` is.
    CommandError
        If the command is here and cannot be executed, or is to be sent and is not here.
    """
    from heorot.images.find import DEFAULT_PATH, find_command, obstacle

    search = DEFAULT_PATH
    for entry in environment:
        if entry.startswith(b"PATH="):
            search = entry[5:]
    program = find_command(command, search, directory)
    if program is not None:
        try:
            return offer_program(
                program, environment, directory, extra=extra, always_send=always_send, terminal=terminal, say=say
            )
        except ImageError as error:
            if always_send or extra:
                raise
            say(f"{error}; it is not sent: nodes run their own")
            return None
    found = obstacle(command, search, directory)
    if found is not None:
        raise CommandError(EXIT_NOT_EXECUTABLE, f"cannot execute {shown(found[0])}: {found[1]}")
    if always_send or extra:
        raise CommandError(EXIT_NO_COMMAND, f"no such command here: {shown(command)}")
    return None


def offer_program(
    program: bytes,
    environment: Sequence[bytes],
    directory: bytes,
    *,
    extra: Sequence[bytes] = (),
    always_send: bool = False,
    terminal: bool = False,
    say: Callable[[str], object] = lambda text: None,
) -> Offer:
    """Return the image of a program at an absolute path with all that it needs, and with `extra` files and directories.

    With `terminal` that is also the description of the caller's terminal, if there is one here.

    Raises
    ------
    ImageError
        If one of these files is missing or cannot be read, or the program is for another kind of machine.
    """
    key = [program, directory, *(entry for entry in environment if entry.partition(b"=")[0] in _VARIABLES)]
    described = _terminal_files(environment) if terminal else []
    key += described
    saved = _saved_path(b"\0".join([program, *described]))
    offer = None if extra else _recall(saved, program, key)
    if offer is None:
        from heorot.images import collecting

        collected = collecting.collect(program, environment, directory, extra, described, say)
        image, program_id, manifest = collecting.describe_image(collected)
        offer = Offer(image, program, program_id, manifest)
        if not extra:
            _save(saved, key, offer, collected.depends)
    if always_send:
        offer.program_id = b""
    return offer


def _terminal_files(environment: Sequence[bytes]) -> list[bytes]:
    from heorot.images.terminfo import entry

    path = entry(environment)
    return [path] if path is not None else []


# ------------------------------------------------------------------ what was found before


def _saved_path(name: bytes) -> bytes | None:
    base = os.environb.get(b"XDG_CACHE_HOME", b"")
    if not base.startswith(b"/"):
        home = os.environb.get(b"HOME", b"")
        if not home.startswith(b"/"):
            return None
        base = home + b"/.cache"
    return base + b"/heorot/images/%08x" % crc32(name)


def _recall(path: bytes | None, program: bytes, key: list[bytes]) -> Offer | None:
    if path is None:
        return None
    try:
        # Root may have been given another user's HOME: neither wait for what is there, nor believe it.
        with open(path, "rb", buffering=0, opener=_open_saved) as file:
            status = os.fstat(file.fileno())
            if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode):
                return None
            saved = short_msgpack.unpackb(memoryview(file.read(MAX_SAVED_BYTES + 1)))
        kind, saved_key, depends, image, program_id, manifest = saved
        if kind != FORMAT or saved_key != key:
            return None
        for name, expected in depends:
            status = os.stat(name)
            seen = identity(status) if stat.S_ISREG(status.st_mode) else _times(status)
            if seen != expected:
                return None
        return Offer(bytes(image), program, bytes(program_id), bytes(manifest))
    except (OSError, ValueError, TypeError, IndexError, KeyError):
        return None  # nothing was saved, or what was is of no use


def _open_saved(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _times(status: os.stat_result) -> list[int]:
    """Return what changes whenever a name in a directory appears or goes."""
    return [status.st_dev, status.st_ino, status.st_mtime_ns]


def _save(path: bytes | None, key: list[bytes], offer: Offer, files: Iterable[bytes]) -> None:
    if path is None:
        return
    from heorot.linux.trusted_path import make_directory

    try:
        depends: list[Any] = []
        names = list(dict.fromkeys(files))
        folders = dict.fromkeys(os.path.dirname(name) for name in names)
        for name in names:
            status = os.stat(name)
            if not is_settled(status):
                return
            depends.append([name, identity(status)])
        depends += [[folder, _times(os.stat(folder))] for folder in folders]
        data = short_msgpack.packb([FORMAT, key, depends, offer.image, offer.program_id, offer.manifest])
        if len(data) > MAX_SAVED_BYTES:
            return
        # Nor write where that user could lead us.
        folder = os.path.dirname(path)
        for place in (os.path.dirname(os.path.dirname(folder)), os.path.dirname(folder), folder):
            make_directory(os.fsdecode(place), 0o700, parents=True)
        temporary = path + b".%d" % os.getpid()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except (OSError, SecurityError):
        pass  # the next command looks for itself


# ------------------------------------------------------------------ sending


class Upload:
    """Sends of an offer what the head asks for. `takes` messages go out as plain lists
    (`heorot.core.client.messages`).
    """

    def __init__(
        self,
        offer: Offer,
        read: Callable[[int], bytes] | None = None,
        sources: Mapping[bytes, bytes | Taken] | None = None,
    ) -> None:
        self._offer = offer
        self._sources = sources
        """Where files are here that are called otherwise in the image, or what was read of them; None: each is called
        there as it is here."""
        self.sent_bytes = 0
        self._read = read or self._read_file
        """Returns the bytes of a chunk; raises ImageError."""
        self._files: list[tuple[int, bytes, int, bytes]] | None = None
        """Of each file: its first chunk, path, size and digests."""
        self._wanted: list[int] = []
        """Flat ranges: first, count."""
        self._unacknowledged_bytes = 0

    def wanted(self, manifest: bool, chunks: list[int]) -> list[list[object]]:
        """The head lacks this, too; with neither manifest nor chunks: nothing more. Return what to send now."""
        messages: list[list[object]] = []
        if manifest:
            messages.append(wire.image_manifest(self._offer.image, self._offer.manifest))
        elif not chunks:
            self._wanted = []
        self._wanted += chunks
        return messages + self._pieces()

    def took(self, size_bytes: int) -> list[list[object]]:
        """The head has taken so many bytes. Return what to send now."""
        self._unacknowledged_bytes = max(0, self._unacknowledged_bytes - size_bytes)
        return self._pieces()

    def reset(self) -> None:
        """There is another head: it asks anew."""
        self._wanted = []
        self._unacknowledged_bytes = 0

    def _pieces(self) -> list[list[object]]:
        messages: list[list[object]] = []
        while self._wanted and self._unacknowledged_bytes < WINDOW_BYTES:
            first, count = self._wanted[:2]
            chunks: list[bytes] = []
            size = 0
            try:
                while len(chunks) < count and size < PIECE_BYTES:
                    chunks.append(self._read(first + len(chunks)))
                    size += len(chunks[-1])
            except ImageError as error:
                self._wanted = []
                return [*messages, wire.image_unavailable(self._offer.image, str(error))]
            self._wanted[:2] = [first + len(chunks), count - len(chunks)] if len(chunks) < count else []
            self._unacknowledged_bytes += size
            self.sent_bytes += size
            messages.append(wire.image_piece(self._offer.image, first, chunks))
        return messages

    def _read_file(self, chunk: int) -> bytes:
        from bisect import bisect_right
        from hashlib import sha256

        from heorot.core.images.chunks import DIGEST_BYTES, chunk_bytes_of
        from heorot.images.files import open_file, read_exactly

        if self._files is None:
            self._files = _files_of(self._offer.manifest)
        index = bisect_right(self._files, chunk, key=_first_of) - 1
        first, path, size, digests = self._files[index]
        source = path if self._sources is None else self._sources[path]
        at = (chunk - first) * DIGEST_BYTES
        if not 0 <= at < len(digests):
            raise ImageError(f"the head asks for chunk {chunk} of an image that has none")
        step = chunk_bytes_of(size)
        offset = (chunk - first) * step
        length = min(step, size - offset)
        if isinstance(source, bytes):
            path = source
            fd, _ = open_file(path)
            try:
                data = read_exactly(fd, path, offset, length)
            finally:
                os.close(fd)
        else:
            data = read_exactly(source.file.fileno(), path, source.offset + offset, length)
        if sha256(data).digest() != digests[at : at + DIGEST_BYTES]:
            raise ImageError(f"{shown(path)} has changed while it was read")
        return data


def _first_of(file: tuple[int, bytes, int, bytes]) -> int:
    return file[0]


def _files_of(manifest: bytes) -> list[tuple[int, bytes, int, bytes]]:
    from heorot.core.images.chunks import DIGEST_BYTES

    files = []
    chunks = 0
    for path, _kind, _mode, size, digests, *_rest in short_msgpack.unpackb(memoryview(manifest))[1]:
        if digests:
            files.append((chunks, bytes(path), size, bytes(digests)))
            chunks += len(digests) // DIGEST_BYTES
    return files
