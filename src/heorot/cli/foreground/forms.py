"""Where the ranks' output goes: our own stdout and stderr, and the forms it can take on the way there.

A *form* takes the bytes of ranks as they come and hands them to *sinks* in the order and shape that the user wants.
Bytes are reported as consumed, and so acknowledged to the node, when they are written, or are held within a bound.
What is not reported stays on the node for whoever reads the job next.
"""

from __future__ import annotations

import os
import stat
from select import POLLHUP, POLLOUT, poll

from heorot.core.client.job import STDERR, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from heorot.cli.foreground.held import Held
    from heorot.core.client.job import JobState
    from heorot.core.client.read_stream import ReadStream

    class Form(Protocol):
        """What the relay needs of a form."""

        def output(self, stream: ReadStream, data: bytes) -> None:
            """Bytes of a rank, in order for each stream."""

        def ended(self, rank: int) -> None:
            """The rank is over and all of its output was given to `output`."""

        def finish(self) -> None:
            """No more will come, whether or not every rank has come to its end."""


MAX_PENDING_BYTES = 4 * 1024 * 1024
"""A form that shows what it has held writes no further ahead of its file than this."""
_WRITE_PIECES = 256
_CAREFUL_BYTES = 4096
"""A pipe that polls as writable takes this much without blocking."""


class Sink:
    """One of our own output files. Writing never blocks for long, so that signals and control go on meanwhile.

    The file may be shared with other processes: its flags are left alone. A pipe or terminal is opened anew, without
    blocking; where that is impossible, small pieces are written when poll says that they fit.
    """

    def __init__(self, fd: int, consumed: Callable[[ReadStream, int], None]) -> None:
        self.fd = fd
        self.pending_bytes = 0
        self.written_bytes = 0
        self._consumed = consumed
        self._pending: list[tuple[bytes, ReadStream | None, int]] = []
        self._write_fd = -1
        self._careful = False
        self._discarding = False
        self.wait: Callable[[Sink], None] = Sink._wait
        """Called when a form must wait for the file; it may `discard` meanwhile."""

    def write(self, data: bytes, stream: ReadStream | None = None, count: int = 0) -> None:
        """Queue bytes; when they are written, `count` bytes of `stream` are consumed."""
        if not self._discarding:
            self._pending.append((data, stream, count))
            self.pending_bytes += len(data)

    def flush(self) -> bool:
        """Write as much as the file takes now; return whether all is written.

        Raises
        ------
        OSError
            BrokenPipeError if nobody reads any more; others as of write(2).
        """
        if not self._pending:
            return True
        if self._write_fd < 0:
            self._open()
        while self._pending:
            pieces = [piece[0] for piece in self._pending[:_WRITE_PIECES]]
            if self._careful:
                if not self.writable(0):
                    return False
                pieces = [pieces[0][:_CAREFUL_BYTES]]
            try:
                written = os.writev(self._write_fd, pieces)
            except BlockingIOError:
                return False
            self._written(written)
        return True

    def drain_beyond_bound(self) -> None:
        """If more is queued than may be, wait until it is written. Raises as `flush`."""
        while self.pending_bytes > MAX_PENDING_BYTES and not self.flush():
            self.wait(self)

    def discard(self) -> None:
        """Forget what is not written, and all that follows."""
        self._discarding = True
        self._pending.clear()
        self.pending_bytes = 0

    def _wait(self) -> None:
        self.writable(-1)

    def hung_up(self) -> bool:
        """Whether the file is a terminal whose window is closed: what it took last was perhaps never shown."""
        poller = poll()
        poller.register(self.fd, 0)
        return any(events & POLLHUP for _fd, events in poller.poll(0))

    def writable(self, timeout_ms: int) -> bool:
        """Whether the file takes more, or has an error to tell."""
        poller = poll()
        poller.register(self.fd, POLLOUT)
        return bool(poller.poll(timeout_ms))

    def _open(self) -> None:
        mode = os.fstat(self.fd).st_mode
        self._write_fd = self.fd
        if stat.S_ISREG(mode):
            return
        if stat.S_ISFIFO(mode) or os.isatty(self.fd):
            try:
                self._write_fd = os.open(
                    f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
                )
                return
            except OSError:
                pass
        self._careful = not stat.S_ISCHR(mode) or os.isatty(self.fd)

    def _written(self, count: int) -> None:
        self.pending_bytes -= count
        self.written_bytes += count
        done = 0
        for data, stream, consumed_bytes in self._pending:
            if len(data) > count:
                break
            count -= len(data)
            done += 1
            if stream is not None:
                self._consumed(stream, consumed_bytes)
        if count:
            data, stream, consumed_bytes = self._pending[done]
            if stream is not None and consumed_bytes == len(data):
                # The rank's own bytes and no others: whoever leaves now knows to the byte what was written.
                self._consumed(stream, count)
                consumed_bytes -= count
            self._pending[done] = (data[count:], stream, consumed_bytes)
        del self._pending[:done]


class PlainForm:
    """Bytes as they come."""

    def __init__(self, sinks: dict[int, Sink]) -> None:
        self._sinks = sinks

    def output(self, stream: ReadStream, data: bytes) -> None:
        """Pass it on as it is."""
        self._sinks[stream.stream].write(data, stream, len(data))

    def ended(self, rank: int) -> None:
        """There is nothing to add."""

    def finish(self) -> None:
        """There is nothing to add."""


class LineForm:
    """Whole lines, never mixed, with an optional prefix.

    A line is held until its end comes. One that is longer than `line_bytes` is written in pieces; if another rank
    writes in between, or a rank ends without a newline, a newline is put in, so that a line of the output is always
    of one rank.

    Parameters
    ----------
    keep_held:
        What is held counts as consumed only when it is written: nothing of it is lost with us. Only for lines much
        shorter than the head's windows, or waiting for a line's end would stop the rank.
    """

    def __init__(
        self,
        sinks: dict[int, Sink],
        consumed: Callable[[ReadStream, int], None],
        prefixes: Sequence[bytes],
        line_bytes: int,
        *,
        keep_held: bool = False,
    ) -> None:
        self._sinks = sinks
        self._consumed = consumed
        self._prefixes = prefixes
        self._line_bytes = line_bytes
        self._keep_held = keep_held
        self._partial: dict[ReadStream, list[bytes]] = {}
        self._partial_bytes: dict[ReadStream, int] = {}
        self._open: dict[int, ReadStream | None] = {STDOUT: None, STDERR: None}
        """For each sink the stream whose unfinished line stands at its end."""

    def output(self, stream: ReadStream, data: bytes) -> None:
        """Pass whole lines on, and keep what has no end yet."""
        end = data.rfind(b"\n") + 1
        if end:
            held = self._partial.pop(stream, None)
            held_bytes = self._partial_bytes.pop(stream, 0)
            whole = data[:end]
            count = end + held_bytes if self._keep_held else end
            self._write(stream, b"".join([*held, whole]) if held else whole, count)
            if end == len(data):
                return
            data = data[end:]
        self._partial.setdefault(stream, []).append(data)
        size = self._partial_bytes[stream] = self._partial_bytes.get(stream, 0) + len(data)
        # A held piece counts as consumed: it is bounded by `line_bytes`, and waiting for its end must not stop the
        # rank.
        if not self._keep_held:
            self._consumed(stream, len(data))
        if size > self._line_bytes:
            self._flush_partial(stream)

    def ended(self, rank: int) -> None:
        """Show the last line of a rank, even if it has no end."""
        for stream in [stream for stream in self._partial if stream.rank == rank]:
            self._flush_partial(stream)

    def finish(self) -> None:
        """Show what has no end."""
        for stream in list(self._partial):
            self._flush_partial(stream)
        for number, opened in self._open.items():
            if opened is not None and self._prefixes:
                self._sinks[number].write(b"\n")

    def _flush_partial(self, stream: ReadStream) -> None:
        held_bytes = self._partial_bytes.pop(stream)
        self._write(stream, b"".join(self._partial.pop(stream)), held_bytes if self._keep_held else 0)

    def _write(self, stream: ReadStream, text: bytes, count: int) -> None:
        opened = self._open[stream.stream]
        prefix = self._prefixes[stream.rank] if self._prefixes else b""
        first_prefix = prefix
        if opened is stream:
            first_prefix = b""
        elif opened is not None:
            first_prefix = b"\n" + prefix
        if prefix:
            ends = text.endswith(b"\n")
            text = (text[:-1] if ends else text).replace(b"\n", b"\n" + prefix) + (b"\n" if ends else b"")
        self._open[stream.stream] = None if text.endswith(b"\n") else stream
        self._sinks[stream.stream].write(first_prefix + text if first_prefix else text, stream, count)


class SequentialForm:
    """One rank after the other, in order; the ranks run at the same time.

    What comes before its turn is held, on disk if it is much. It is acknowledged at once, up to a limit: a rank that
    waited for its turn could not read either, and would hold up the input of those whose turn it is.
    """

    def __init__(
        self, inner: Form, job: JobState, sinks: dict[int, Sink], held: Held, divider: Callable[[int], None] | None
    ) -> None:
        self._inner = inner
        self._sinks = sinks
        self._job = job
        self._divider = divider
        self._turn = -1
        self._held = held
        self._over: set[int] = set()
        self._in_line = False
        """What was given to the inner form last for stdout has no newline at its end."""

    def _show(self, stream: ReadStream, data: bytes) -> None:
        if stream.stream == STDOUT and data:
            self._in_line = not data.endswith(b"\n")
        self._inner.output(stream, data)

    def _divide(self, rank: int) -> None:
        if self._divider is None:
            return
        if self._in_line:
            self._sinks[STDOUT].write(b"\n")
            self._in_line = False
        self._divider(rank)

    def _advance(self) -> None:
        while self._turn < 0 or self._turn in self._over:
            if self._turn >= 0:
                self._inner.ended(self._turn)
            self._turn += 1
            if self._turn >= len(self._job.nodes):
                return
            self._divide(self._turn)
            for stream, data in self._held.take(self._turn):
                self._show(stream, data)
                for sink in self._sinks.values():
                    sink.drain_beyond_bound()

    def output(self, stream: ReadStream, data: bytes) -> None:
        """Show it if it is this rank's turn, else keep it."""
        if self._turn < 0:
            self._advance()
        if stream.rank == self._turn:
            self._show(stream, data)
        else:
            assert stream.rank > self._turn, "output of a rank that was over"
            self._held.add(stream, data)

    def ended(self, rank: int) -> None:
        """It is the next rank's turn."""
        self._over.add(rank)
        if self._turn < 0 or rank == self._turn:
            self._advance()

    def finish(self) -> None:
        """Show what is there of ranks that did not come to their end."""
        for rank in range(len(self._job.nodes)):
            if rank not in self._over:
                self.ended(rank)
        self._inner.finish()
