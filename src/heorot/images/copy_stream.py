"""Files as one stream of bytes, from a node to the head: a header for each, and its content in pieces.

::

    LENGTH(4) [kind, path, mode, uid, gid, modified_ns, target]     msgpack; LENGTH 0: the stream is at its end
    LENGTH(4) bytes ...  LENGTH 0                                    content of a file; LENGTH 0xffffffff: give it up

A stream that ends without its end, and a file whose content was given up, leave nothing.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, ENAMETOOLONG, EOVERFLOW

from heorot.core.client import short_msgpack
from heorot.core.errors import ProtocolError
from heorot.core.images.chunks import DIRECTORY, FILE, SYMLINK
from heorot.images.identity import identity, shown
from heorot.images.new_file import Item, PlacingError, write_all
from heorot.images.placing import Placer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator

PIECE_BYTES = 256 * 1024
MAX_HEADER_BYTES = 16 * 1024
GIVE_UP = 0xFFFF_FFFF
MAX_DEPTH = 200
MAX_UNSIZED_BYTES = 64 * 1024 * 1024
"""What is read at most of a file beyond the bytes that it says it has: those of /proc say that they have none."""
MAX_ENTRIES = 1 << 20
MAX_NAMES_BYTES = 64 * 1024 * 1024
"""Of one stream: how many files, directories and links it may have, and how long all their paths may be together."""
MAX_COMPLAINTS = 20
"""What is said of one stream, and by one command on a node."""
_MAX_ID = 0xFFFF_FFFE


class Sender:
    """Reads files and writes them into a stream.

    Parameters
    ----------
    fd:
        Where the stream goes.
    complain:
        Takes what cannot be sent, and why.
    is_closed:
        Says whether an open file or directory is none that may be sent.
    """

    def __init__(
        self, fd: int, complain: Callable[[str], None], is_closed: Callable[[int], bool] = lambda fd: False
    ) -> None:
        self._fd = fd
        self._is_closed = is_closed
        self._complain = complain

    def send(self, path: bytes, name: bytes, recursive: bool) -> None:
        """Send a file, or with `recursive` a directory with all that is in it, under a name.

        A link is followed only if `path` itself is one. Below it each directory is opened in the one above: whoever
        exchanges names meanwhile, even where root copies, gets nothing sent from elsewhere.
        """
        try:
            status = os.stat(path)
        except OSError as error:
            self._fail(path, error)
            return
        if stat.S_ISDIR(status.st_mode) and not recursive:
            self._complain(f"{shown(path)} is a directory: copied only with -r")
            return
        self._send(path, name, status, 0, path, None)

    def end(self) -> None:
        """Say that this was all."""
        write_all(self._fd, bytes(4))

    def _fail(self, path: bytes, error: OSError) -> None:
        self._complain(f"cannot read {shown(path)}: {os.strerror(error.errno or 0)}")

    def _send(
        self, path: bytes, name: bytes, status: os.stat_result, depth: int, here: bytes, parent: int | None
    ) -> None:
        """Send what is called `here` in the directory `parent`, and `path` by people."""
        try:
            if stat.S_ISDIR(status.st_mode):
                self._directory(path, name, depth, here, parent)
            elif stat.S_ISLNK(status.st_mode):
                self._header(SYMLINK, name, status, os.readlink(here, dir_fd=parent))
            elif stat.S_ISREG(status.st_mode):
                self._content(path, name, here, parent)
            else:
                self._complain(f"{shown(path)} is not a regular file: left out")
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            self._fail(path, error)

    def _directory(self, path: bytes, name: bytes, depth: int, here: bytes, parent: int | None) -> None:
        fd = os.open(here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | _links(parent), dir_fd=parent)
        try:
            if self._is_closed(fd):
                raise PermissionError(EACCES, os.strerror(EACCES))
            names = sorted(os.fsencode(below) for below in os.listdir(fd))
            if depth >= MAX_DEPTH:
                self._complain(f"{shown(path)} is deeper than {MAX_DEPTH} directories")
                return
            self._header(DIRECTORY, name, os.fstat(fd), b"")
            for below in names:
                inner, called = path + b"/" + below, name + b"/" + below
                try:
                    status = os.lstat(below, dir_fd=fd)
                except OSError as error:
                    self._fail(inner, error)
                    continue
                self._send(inner, called, status, depth + 1, below, fd)
        finally:
            os.close(fd)

    def _header(self, kind: int, name: bytes, status: os.stat_result, target: bytes) -> None:
        fields = [kind, name, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, target]
        try:
            header = short_msgpack.packb(fields)
        except (ValueError, OverflowError):
            # A modification time that 64 bits do not hold.
            raise OSError(EOVERFLOW, os.strerror(EOVERFLOW)) from None
        if len(header) > MAX_HEADER_BYTES:
            raise OSError(ENAMETOOLONG, os.strerror(ENAMETOOLONG))
        write_all(self._fd, len(header).to_bytes(4, "big") + header)

    def _content(self, path: bytes, name: bytes, here: bytes, parent: int | None) -> None:
        # Opening a FIFO would wait for its other end. A link that has come into a tree meanwhile is not followed.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        fd = os.open(here, flags | _links(parent), dir_fd=parent)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                self._complain(f"{shown(path)} is not a regular file: left out")
                return
            if self._is_closed(fd):
                raise PermissionError(EACCES, os.strerror(EACCES))
            self._header(FILE, name, status, b"")
            why = ""
            try:
                why = self._pieces(fd, path, status)
            except OSError as error:
                if isinstance(error, BrokenPipeError):
                    raise
                why = f"cannot read {shown(path)}: {os.strerror(error.errno or 0)}"
            write_all(self._fd, (GIVE_UP if why else 0).to_bytes(4, "big"))
            if why:
                self._complain(why)
        finally:
            os.close(fd)

    def _pieces(self, fd: int, path: bytes, status: os.stat_result) -> str:
        """Send an open file to its end; return why that was not possible. Raises OSError."""
        said, read = status.st_size, 0
        while True:
            # One byte more than it says: there is none, unless the file has grown or never says what it has.
            data = os.read(fd, min(PIECE_BYTES, said - read) if read < said else PIECE_BYTES if read > said else 1)
            if not data or (read >= said and identity(os.fstat(fd)) != identity(status)):
                break
            read += len(data)
            if read >= said + MAX_UNSIZED_BYTES:
                return f"{shown(path)} says that it has {said} bytes, and has {read} or more"
            write_all(self._fd, len(data).to_bytes(4, "big"))
            write_all(self._fd, data)
        return f"{shown(path)} has changed while it was read" if identity(os.fstat(fd)) != identity(status) else ""


def _links(parent: int | None) -> int:
    """Return how a link is opened: only what was named itself is followed."""
    return os.O_NOFOLLOW if parent is not None else 0


class Receiver:
    """Takes a stream as it comes, and puts the files at their places.

    Parameters
    ----------
    rename:
        Returns how something is to be called here that is called so there.
    keep:
        Keep mode and time, and as root the owner.
    """

    def __init__(
        self, placer: Placer, rename: Callable[[bytes], bytes], keep: bool, complain: Callable[[str], None]
    ) -> None:
        self._placer = placer
        self._rename = rename
        self._keep = keep
        self._complain_to = complain
        self._complaints = 0
        self._entries = 0
        self._names_bytes = 0
        self.received_bytes = 0
        self.ended = False
        """The stream has come to its end."""
        self._buffer = bytearray()
        self._steps = self._run()
        self._needed = next(self._steps)

    def feed(self, data: bytes) -> None:
        """Take more of the stream.

        Raises
        ------
        ProtocolError
            If it is no such stream, or has more than it may have.
        """
        if self.ended and data:
            raise ProtocolError("the node sent more after the end")
        self.received_bytes += len(data)
        self._buffer += data
        position = 0
        while not self.ended and len(self._buffer) - position >= self._needed:
            piece = bytes(self._buffer[position : position + self._needed])
            position += self._needed
            try:
                self._needed = self._steps.send(piece)
            except StopIteration:
                self.ended = True
        del self._buffer[:position]
        if self.ended and self._buffer:
            self._buffer.clear()
            raise ProtocolError("the node sent more after the end")

    def close(self) -> None:
        """There is no more: drop a file that is not complete, and say how many complaints were too many."""
        self._steps.close()
        if self._complaints > MAX_COMPLAINTS:
            self._complain_to(f"... and {self._complaints - MAX_COMPLAINTS} more")
            self._complaints = 0

    def _complain(self, text: str) -> None:
        self._complaints += 1
        if self._complaints <= MAX_COMPLAINTS:
            self._complain_to(text)

    def _run(self) -> Generator[int, bytes, None]:
        while length := int.from_bytes((yield 4), "big"):
            if length > MAX_HEADER_BYTES:
                raise ProtocolError(f"the node sent a header of {length} bytes")
            item = self._item((yield length))
            if item.kind == FILE:
                yield from self._file(item)
            else:
                try:
                    self._placer.place(item)
                except PlacingError as error:
                    self._complain(str(error))
        for failure in self._placer.finish():
            self._complain(str(failure))

    def _item(self, header: bytes) -> Item:
        try:
            kind, path, mode, uid, gid, modified_ns, target = short_msgpack.unpackb(memoryview(header))
            if type(path) is not bytes or type(target) is not bytes:
                raise ValueError("a path is bytes")
            if any(type(number) is not int for number in (kind, mode, uid, gid, modified_ns)):
                raise ValueError("what describes a file is integers")
            if not (0 <= mode < 1 << 32 and 0 <= uid <= _MAX_ID and 0 <= gid <= _MAX_ID):
                raise ValueError("a mode or an owner is out of range")
            first, slash, rest = path.partition(b"/")
            name = self._rename(first) + slash + rest
        except (ValueError, TypeError, IndexError, RecursionError) as error:
            raise ProtocolError(f"the node sent a header that cannot be read: {error}") from error
        self._entries += 1
        self._names_bytes += len(path)
        if self._entries > MAX_ENTRIES or self._names_bytes > MAX_NAMES_BYTES:
            text = f"the node sent more than {MAX_ENTRIES} files, or {MAX_NAMES_BYTES} bytes of paths"
            raise ProtocolError(f"{text}: copy fewer, or one archive of them")
        return Item(name, kind, mode, target, [mode, uid, gid, modified_ns] if self._keep else [])

    def _file(self, item: Item) -> Generator[int, bytes, None]:
        try:
            new = self._placer.begin(item)
        except PlacingError as error:
            self._complain(str(error))
            new = None
        try:
            while length := int.from_bytes((yield 4), "big"):
                if length == GIVE_UP:
                    return
                if length > PIECE_BYTES:
                    raise ProtocolError(f"the node sent a piece of {length} bytes")
                data = yield length
                if new is not None:
                    try:
                        new.write(data)
                    except PlacingError as error:
                        self._complain(str(error))
                        new.drop()
                        new = None
            if new is not None:
                try:
                    new.finish()
                except PlacingError as error:
                    self._complain(str(error))
                new = None
        finally:
            if new is not None:
                new.drop()
