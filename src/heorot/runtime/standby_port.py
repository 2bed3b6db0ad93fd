"""What a host whose head is on standby does at the head's port: it passes on who asks for that, and refuses all others.

Nodes that look for the next head must learn at once that it is not here. Who says in the greeting of TLS that it wants
to be passed on (`heorot.security.tls.PASS_ON`) has no other way: a host that joins, a certificate that is renewed, a
node that knows none but heads on standby. Its bytes go to the active head and back as they are: TLS is between the two
ends, and what is not a head of this cluster is noticed there.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from heorot.core.errors import HeorotError
from heorot.runtime.dial import Dial, Names
from heorot.runtime.loop import Loop, Timer
from heorot.runtime.refusals import Refusals
from heorot.runtime.sockets import Acceptor, bind_tcp, tune_tcp
from heorot.runtime.vanished import Vanished
from heorot.security.tls import PASS_ON

MAX_VISITORS = 128
"""Connections at once; two heads on standby that take each other for the active one stop here. No host may have more of
them than are free for others: then its next one takes the place of its oldest that is not passed on yet."""
GREETING_S = 2.0
"""How long somebody may take to greet."""
CONNECT_S = 3.0
"""How long the active head may take to answer."""
MAX_GREETING_BYTES = 8 * 1024
PIECE_BYTES = 64 * 1024
"""So much is read at once; no more is read while any of it waits to be sent."""
_RECORD_HEADER_BYTES = 5
_HANDSHAKE = 0x16
_RESET = struct.pack("ii", 1, 0)

Address = tuple[str, int]


class StandbyPort:
    """Listens where the head would. `active` says where the active head is; None: nobody knows.

    Raises HeorotError if the port cannot be had.
    """

    def __init__(
        self,
        loop: Loop,
        address: Address,
        active: Callable[[], Address | None],
        log: Callable[[str, str], None],
    ) -> None:
        self.loop = loop
        self.active = active
        self.log = log
        self.names = Names(loop)
        self.vanished = Vanished(loop)
        self._visitors: dict[_Visitor, None] = {}
        """The oldest first."""
        self._refusals = Refusals(loop, log)
        sock = bind_tcp(*address)
        try:
            sock.listen(MAX_VISITORS)
        except OSError as error:
            sock.close()
            raise HeorotError(f"cannot listen on {address[0]} port {address[1]}: {error.strerror}") from error
        self.port: int = sock.getsockname()[1]
        self._acceptor = Acceptor(loop, sock, self._accept)

    def _accept(self, sock: socket.socket) -> None:
        try:
            host = str(sock.getpeername()[0])
        except OSError:
            sock.close()
            return
        if not self._has_room(host):
            text = f"refused a connection from {host}: it has as many as are left for others, and all are passed on"
            self._refusals.say(f"the host {host}", "too many connections", text)
            _refuse(sock)
            return
        sock.setblocking(False)
        visitor = _Visitor(self, sock, host)
        self._visitors[visitor] = None
        visitor.begin()

    def _has_room(self, host: str) -> bool:
        """Say whether this host may have one more connection, in place of an older one if need be."""
        own = [visitor for visitor in self._visitors if visitor.host == host]
        if len(own) < MAX_VISITORS - len(self._visitors):
            return True
        for visitor in own:
            if not visitor.is_passed_on:
                visitor.close()
                return True
        return False

    def gone(self, visitor: _Visitor) -> None:
        """Its connections are closed."""
        self._visitors.pop(visitor, None)

    def close(self) -> None:
        """Close everything at once."""
        self._acceptor.close()
        for visitor in list(self._visitors):
            visitor.close()
        self.names.close()
        self._refusals.close()


def _refuse(sock: socket.socket) -> None:
    """Close a connection so that the other side sees at once that nobody is here."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    sock.close()


class _Visitor:
    """One connection: first its greeting is read, then it is passed on."""

    def __init__(self, port: StandbyPort, sock: socket.socket, host: str) -> None:
        self._port = port
        self.host = host
        self._sock: socket.socket | None = sock
        self._greeting = b""
        self._dial: Dial | None = None
        self._ways: list[_Way] = []
        loop = port.loop
        self._limit: Timer | None = loop.call_at(loop.time() + GREETING_S, self.close)

    @property
    def is_passed_on(self) -> bool:
        """The active head has answered: what follows has its limits."""
        return bool(self._ways)

    def begin(self) -> None:
        assert self._sock is not None
        self._port.loop.add_reader(self._sock.fileno(), self._greets)

    def _greets(self) -> None:
        assert self._sock is not None
        try:
            data = self._sock.recv(MAX_GREETING_BYTES - len(self._greeting))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._greeting += data
        wanted = _RECORD_HEADER_BYTES + int.from_bytes(self._greeting[3:5], "big")
        if not data or self._greeting[0] != _HANDSHAKE or wanted > MAX_GREETING_BYTES:
            self.close()
        elif len(self._greeting) >= _RECORD_HEADER_BYTES and len(self._greeting) >= wanted:
            self._pass_on()

    def _pass_on(self) -> None:
        port = self._port
        address = port.active() if PASS_ON.encode() in self._greeting else None
        if address is None:
            self.close()
            return
        assert self._sock is not None
        port.loop.remove_reader(self._sock.fileno())
        self._set_limit(CONNECT_S)
        self._dial = Dial(port.names, *address, self._connected, self._failed)
        self._dial.begin()

    def _failed(self, reason: str) -> None:
        self._port.log("warning", f"cannot pass a connection on: the active head does not answer: {reason}")
        self._dial = None
        self.close()

    def _connected(self, far: socket.socket) -> None:
        self._dial = None
        self._set_limit(None)
        near, self._sock = self._sock, None
        assert near is not None
        far.setblocking(False)
        try:
            watched = [self._port.vanished if tune_tcp(sock) else None for sock in (near, far)]
        except OSError:
            near.close()
            far.close()
            self._port.gone(self)
            return
        outward = _Way(self._port.loop, near, far, self.close, watched[1])
        inward = _Way(self._port.loop, far, near, self.close, watched[0])
        self._ways = [outward, inward]
        inward.begin(b"")
        outward.begin(self._greeting)

    def _set_limit(self, seconds: float | None) -> None:
        if self._limit is not None:
            self._limit.cancel()
        loop = self._port.loop
        self._limit = loop.call_at(loop.time() + seconds, self.close) if seconds is not None else None

    def close(self) -> None:
        """End it, whatever it was about."""
        self._set_limit(None)
        if self._dial is not None:
            self._dial.cancel()
            self._dial = None
        if self._sock is not None:
            self._port.loop.remove_reader(self._sock.fileno())
            _refuse(self._sock)
            self._sock = None
        ways, self._ways = self._ways, []
        for way in ways:
            way.stop()
        for way in ways:
            way.source.close()
        self._port.gone(self)


class _Way:
    """What one side says, to the other side: either it is waited for, or it waits to be sent."""

    def __init__(
        self, loop: Loop, source: socket.socket, to: socket.socket, end: Callable[[], None], vanished: Vanished | None
    ) -> None:
        self.source = source
        self._loop = loop
        self._to = to
        self._end = end
        self._vanished = vanished
        self._waiting = b""

    def begin(self, data: bytes) -> None:
        """Send this first."""
        self._loop.add_reader(self.source.fileno(), self._readable)
        if data:
            self._send(data)

    def _readable(self) -> None:
        try:
            data = self.source.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._send(data)
        else:
            # What it said before has been sent: nothing is read while anything waits.
            self._end()

    def _send(self, data: bytes) -> None:
        try:
            sent = self._to.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._end()
            return
        if self._vanished is not None:
            self._vanished.sent(self._to, lambda reason: self._end())
        self._waiting = data[sent:]
        if self._waiting:
            self._loop.remove_reader(self.source.fileno())
            self._loop.add_writer(self._to.fileno(), self._writable)

    def _writable(self) -> None:
        data, self._waiting = self._waiting, b""
        self._loop.remove_writer(self._to.fileno())
        self._loop.add_reader(self.source.fileno(), self._readable)
        self._send(data)

    def stop(self) -> None:
        """Neither read nor send any more."""
        self._loop.remove_reader(self.source.fileno())
        self._loop.remove_writer(self._to.fileno())
