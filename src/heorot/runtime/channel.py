"""A non-blocking stream socket that carries frames, in the clear or under TLS.

TLS runs over memory buffers rather than over the socket: one ``recv`` and one ``send`` then move any number of records,
where OpenSSL on a socket reads each record with two system calls.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Callable

from heorot.core.errors import HeorotError
from heorot.core.wire.framing import EAGER_BYTES, HEADER_BYTES, MAX_FRAME_BYTES, PROGRESS_MS, FrameDecoder
from heorot.core.wire.parts import Parts
from heorot.runtime.loop import Loop, Timer
from heorot.runtime.tls_codec import TlsCodec
from heorot.runtime.vanished import Vanished

READ_BYTES = 256 * 1024
"""Read at most so much before the other sockets have their turn."""
WRITE_BYTES = 256 * 1024
"""Encrypt at most so much at once: what comes later but is more urgent waits behind no more than this."""
DRAINED_BYTES = 512 * 1024
"""`Channel.on_drained` is called while no more than this waits."""
BACKLOG_BYTES = 64 * 1024 * 1024
"""Close a channel on which more than this waits. Windows bound every stream, so an honest peer never gets here."""
GROWTH_BYTES = 1024 * 1024
"""`Channel.on_growth` is called whenever so much more waits to be sent."""
CLOSE_TIMEOUT_S = 5.0
"""How long a closing channel may take to send what is queued."""

RECORD_BYTES = 16 * 1024
"""What a TLS record holds at most, and so what is decrypted at once."""
LARGE_BYTES = 16 * 1024
"""A frame from this size on is encrypted where it is; smaller ones are put together first."""

# Shared by all channels of the process: what is read is copied out at once.
_buffer = bytearray(READ_BYTES)
_view = memoryview(_buffer)
_record = memoryview(bytearray(RECORD_BYTES))


class Channel:
    """Frames over a connected (or connecting) stream socket.

    Parameters
    ----------
    on_frame
        Called with the payload of each frame. A HeorotError that it raises closes the channel with that reason.
    on_closed
        Called once with the reason, unless `close` or `finish` ended the channel.
    on_established
        Called once TLS is established, before any frame; with plain sockets never.
    on_large_frame
        Called instead of `on_frame` for large frames, most of which are never copied then.
    progress_ms
        How long a begun frame may make no progress before the channel is closed; None: for ever, for a peer that is
        trusted and may be stopped.
    """

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        *,
        on_frame: Callable[[bytes], None],
        on_closed: Callable[[str], None],
        on_established: Callable[[], None] | None = None,
        tls: TlsCodec | None = None,
        limit_bytes: int = MAX_FRAME_BYTES,
        explain: Callable[[BaseException], str] = str,
        on_large_frame: Callable[[memoryview], None] | None = None,
        progress_ms: int | None = PROGRESS_MS,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._on_frame = on_frame
        self._on_large_frame = on_large_frame or (lambda payload: on_frame(bytes(payload)))
        self._on_closed = on_closed
        self._on_established = on_established
        self._explain = explain
        self.tls = tls
        self.closed = False
        self.vanished: Vanished | None = None
        """Looks whether the other host is gone while it does not acknowledge what was sent."""
        self.on_drained: Callable[[], None] | None = None
        """Called, again and again, while little waits to be sent: whoever paused another channel may resume it."""
        self.on_growth: Callable[[], None] | None = None
        """Called when `held_bytes` has grown, by steps. It may close or finish the channel."""
        self._paused = False
        self._decoder = FrameDecoder(limit_bytes)
        self._room_bytes = 0
        self._backlog_step = 0
        self._progress_s = progress_ms / 1000 if progress_ms is not None else None
        self._progressed_at = self._progress_due_s = 0.0
        self._progress_timer: Timer | None = None
        self._control: list[bytes | Parts] = []
        self._newest: dict[str, int] = {}
        """Where among them those are that something newer may replace, by name."""
        self._bulk: deque[bytes | Parts] = deque()
        self._begun: deque[bytes | memoryview] = deque()
        """The rest of a large frame whose beginning was encrypted or sent."""
        self._unsent: list[bytes | memoryview] = []
        self.backlog_bytes = 0
        self.unserved_bytes = 0
        """Of frames that came and wait for their turn; whoever lets them wait counts."""
        self._flush_planned = False
        self._writer_watched = False
        self._finishing: Timer | None = None
        sock.setblocking(False)

    def start(self) -> None:
        """Begin to read; a TLS client greets."""
        self._loop.add_reader(self._fd, self._readable)
        if self.tls is not None and not self.tls.object.server_side:
            self.tls.handshake()
            self._send_now(self.tls.pending())

    def pause(self) -> None:
        """Read no more for now: what the peer sends waits in the network, and soon at the peer."""
        if not self.closed and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read again."""
        if not self.closed and self._paused:
            self._paused = False
            self._progressed_at = self._loop.time()
            self._loop.add_reader(self._fd, self._readable)

    def allow_frames_of(self, limit_bytes: int) -> None:
        """Set the largest frame that is accepted from now on: the peer has said who it is."""
        self._decoder.limit_bytes = limit_bytes
        self._decoder.eager_bytes = EAGER_BYTES

    # ------------------------------------------------------------------ out

    def send(self, payload: bytes | Parts, bulk: bool = False, newest_of: str = "") -> None:
        """Queue one frame, of which large parts are not copied; `bulk` frames wait for all others. It leaves once the
        current wake-up's work is done.

        If one that is `newest_of` the same name waits, which is not bulk, this one takes its place.
        """
        if self.closed or self._finishing is not None:
            return
        length = _length(payload)
        if length > MAX_FRAME_BYTES:
            self._fail(f"a frame of {length} bytes was to be sent; the limit is {MAX_FRAME_BYTES}")
            return
        place = self._newest.get(newest_of) if newest_of else None
        if place is not None:
            self.backlog_bytes += length - _length(self._control[place])
            self._control[place] = payload
            return
        self.backlog_bytes += length + HEADER_BYTES
        if self.backlog_bytes > BACKLOG_BYTES:
            self._fail(f"the peer does not read: more than {BACKLOG_BYTES >> 20} MiB wait for it")
            return
        if newest_of:
            self._newest[newest_of] = len(self._control)
        (self._bulk if bulk and not newest_of else self._control).append(payload)
        if self.backlog_bytes >= self._backlog_step + GROWTH_BYTES:
            self._backlog_step = self.backlog_bytes
            if self.on_growth is not None:
                self.on_growth()
        if not self._flush_planned and not self._writer_watched:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        if not self.closed and not self._writer_watched:
            self._write()

    def _gather(self) -> list[bytes | memoryview]:
        """Return what goes out next: about `WRITE_BYTES` at most, and control before bulk between two frames."""
        parts: list[bytes | memoryview] = []
        small: list[bytes | memoryview] = []
        room = WRITE_BYTES
        if self._begun:
            room = self._go_on(room, small, parts)
        control, bulk = self._control, self._bulk
        taken = 0
        while not self._begun and (taken < len(control) or (bulk and room > 0)):
            if taken < len(control):
                payload = control[taken]
                taken += 1
            else:
                payload = bulk.popleft()
            small.append(_length(payload).to_bytes(HEADER_BYTES, "big"))
            if isinstance(payload, bytes) and len(payload) < LARGE_BYTES:
                small.append(payload)
                room -= len(payload)
            else:
                self._begun.extend((payload,) if isinstance(payload, bytes) else payload)
                room = self._go_on(room, small, parts)
        if taken:
            self._control = control[taken:]
            if self._newest:
                self._newest = {name: at - taken for name, at in self._newest.items() if at >= taken}
        if small:
            parts.append(b"".join(small))
        self.backlog_bytes -= sum(map(len, parts))
        self._backlog_step = min(self._backlog_step, self.backlog_bytes)
        if self.on_drained is not None and self.backlog_bytes <= DRAINED_BYTES:
            self._loop.call_soon(self.on_drained)
        return parts

    def _go_on(self, room: int, small: list[bytes | memoryview], parts: list[bytes | memoryview]) -> int:
        """Take as much of a large frame as there is room for, and leave the rest; return how much room is left."""
        begun = self._begun
        while begun:
            part = begun.popleft()
            if len(part) < LARGE_BYTES:
                small.append(part)
                room -= len(part)
                continue
            if small:
                parts.append(b"".join(small))
                small.clear()
            size = max(room, RECORD_BYTES)
            if len(part) > size:
                view = memoryview(part)
                parts.append(view[:size])
                begun.appendleft(view[size:])
                return 0
            parts.append(part)
            room -= len(part)
        return room

    def _write(self) -> None:
        tls = self.tls
        for _ in range(4):
            if not self._unsent:
                if (tls is not None and not tls.established) or not self._is_waiting:
                    self._unwatch_writer()
                    if self._finishing is not None:
                        self.close()
                    return
                parts = self._gather()
                self._unsent = [tls.encrypt(parts)] if tls is not None else parts
            unsent = self._unsent
            try:
                sent = self._sock.send(unsent[0]) if len(unsent) == 1 else self._sock.sendmsg(unsent)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                self._fail(self._explain(error))
                return
            if self.vanished is not None:
                self.vanished.sent(self._sock, self._fail)
            if _take_sent(unsent, sent):
                break
        else:
            if not self._unsent and not self._is_waiting and self._finishing is None:
                self._unwatch_writer()
                return
        if not self._writer_watched:
            self._writer_watched = True
            self._loop.add_writer(self._fd, self._write)

    @property
    def _is_waiting(self) -> bool:
        return bool(self._control or self._bulk or self._begun)

    def _unwatch_writer(self) -> None:
        if self._writer_watched:
            self._writer_watched = False
            self._loop.remove_writer(self._fd)

    # ------------------------------------------------------------------ in

    def _readable(self) -> None:
        # Without TLS, the rest of a large frame comes to its place at once.
        rest = self._decoder.rest() if self.tls is None else None
        try:
            count = self._sock.recv_into(_buffer if rest is None else rest)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(self._explain(error))
            return
        if not count:
            self._fail(
                "the peer closed the connection"
                if self.tls is None or self.tls.established
                else "the peer closed the connection before TLS was established"
            )
            return
        if self._finishing is not None:
            return
        tls = self.tls
        try:
            if tls is None:
                if rest is None:
                    self._deliver(_view[:count])
                elif (payload := self._decoder.advance(count)) is not None:
                    self._on_large_frame(payload)
                self._look_at_begun()
                return
            tls.feed(_view[:count])
            if not tls.established:
                complete = tls.handshake()
                self._send_now(tls.pending())
                if not complete or self.closed:
                    return
                if self._on_established is not None:
                    self._on_established()
                if self.closed:
                    return
                if self._control or self._bulk:
                    self._flush()
            self._read_records(tls)
            self._look_at_begun()
        except ssl.SSLError as error:
            if tls is not None:
                self._send_now(tls.pending())
            self._fail(self._explain(error))
        except HeorotError as error:
            self._fail(str(error))

    def _read_records(self, tls: TlsCodec) -> None:
        decoder = self._decoder
        while not self.closed:
            rest = decoder.rest()
            count = tls.decrypt_into(_record if rest is None else rest)
            if not count:
                if count is None:
                    self._fail("the peer closed the connection")
                return
            if rest is None:
                self._deliver(_record[:count])
            elif (payload := decoder.advance(count)) is not None and self._finishing is None:
                self._on_large_frame(payload)

    def _look_at_begun(self) -> None:
        """Something has come: watch a frame that is not complete, and say when it takes more memory."""
        decoder = self._decoder
        if self.closed or not decoder.buffered_bytes:
            self._room_bytes = 0
            return
        self._progressed_at = self._loop.time()
        if self._progress_timer is None and self._progress_s is not None:
            self._plan_look(self._progressed_at + self._progress_s)
        room_bytes = decoder.room_bytes
        has_grown, self._room_bytes = room_bytes > self._room_bytes, room_bytes
        if has_grown and self.on_growth is not None:
            self.on_growth()

    def _plan_look(self, due_s: float) -> None:
        self._progress_due_s = due_s
        self._progress_timer = self._loop.call_at(due_s, self._look_at_progress)

    def _look_at_progress(self) -> None:
        self._progress_timer = None
        if self._progress_s is None or not self._decoder.buffered_bytes:
            return
        now_s = self._loop.time()
        if self._paused or now_s - self._progress_due_s >= self._progress_s / 2:
            # We did not read, or have slept ourselves: it may have come long ago, or may be about to come again.
            self._progressed_at = now_s
        due_s = self._progressed_at + self._progress_s
        if due_s <= now_s:
            self._fail(f"a frame was begun, and nothing more of it came for {self._progress_s:g} s")
        else:
            self._plan_look(due_s)

    def _deliver(self, data: bytes | memoryview) -> None:
        for payload in self._decoder.feed(data):
            # Keep nothing back for a peer that was told to go, and nothing of one that said something wrong.
            if self.closed or self._finishing is not None:
                return
            self._on_frame(payload)

    def _send_now(self, data: bytes) -> None:
        if data and not self.closed:
            self._unsent.append(data)
            self._write()

    # ------------------------------------------------------------------ end

    @property
    def begun_bytes(self) -> int:
        """How much memory is taken for a large frame that the peer has begun."""
        return self._room_bytes

    @property
    def held_bytes(self) -> int:
        """How much memory the peer takes: of a large frame that it has begun, of frames that wait to be
        served, and of what it has not read.
        """
        return self._room_bytes + self.unserved_bytes + self.backlog_bytes

    @property
    def finishing(self) -> bool:
        """Whether it sends what is queued before it closes by itself."""
        return self._finishing is not None and not self.closed

    def finish(self) -> None:
        """Send what is queued, then close."""
        if self.closed or self._finishing is not None:
            return
        self._finishing = self._loop.call_at(self._loop.time() + CLOSE_TIMEOUT_S, self.close)
        self._drop_begun()
        if not self._writer_watched:
            self._write()

    def close(self) -> None:
        """Close now. No callback is called any more."""
        if self.closed:
            return
        self.closed = True
        self._drop_begun()
        if self._finishing is not None:
            self._finishing.cancel()
        self._loop.remove_reader(self._fd)
        self._unwatch_writer()
        try:
            if self.tls is not None and self.tls.established and not self._unsent:
                self._sock.send(self.tls.end())
        except (OSError, ssl.SSLError):
            pass
        self._sock.close()
        self._control = []
        self._newest.clear()
        self._bulk.clear()
        self._begun.clear()
        self._unsent.clear()
        self.backlog_bytes = 0
        # The callbacks' owner holds us: without this cycle the 40 KB of a TLS connection are free at once, not at some
        # later collection that does not even know of them.
        self.tls = None
        self._on_frame = self._on_large_frame = self._on_closed = _ignore
        self._on_established = self.on_drained = self.on_growth = None

    def _drop_begun(self) -> None:
        """Nothing of what still comes is wanted."""
        self._decoder = FrameDecoder(self._decoder.limit_bytes)
        self._room_bytes = 0
        if self._progress_timer is not None:
            self._progress_timer.cancel()
            self._progress_timer = None

    def _fail(self, reason: str) -> None:
        if not self.closed:
            told = self._finishing is not None
            on_closed = self._on_closed
            self.close()
            if not told:
                on_closed(reason)


def _length(payload: bytes | Parts) -> int:
    return len(payload) if isinstance(payload, bytes) else sum(map(len, payload))


def _take_sent(unsent: list[bytes | memoryview], sent: int) -> bool:
    """Take what was sent from the beginning of a list; return whether something is left."""
    done = 0
    for part in unsent:
        if sent < len(part):
            break
        sent -= len(part)
        done += 1
    del unsent[:done]
    if sent:
        unsent[0] = memoryview(unsent[0])[sent:]
    return bool(unsent)


def _ignore(_: object) -> None:
    """Nobody listens any more."""
