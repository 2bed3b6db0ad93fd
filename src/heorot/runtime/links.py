"""The links of one daemon to its neighbours in the tree: TLS over TCP, numbered for the machine."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Protocol

from heorot.core.errors import SecurityError
from heorot.core.machine import ConnectFailed, LinkClosed, LinkOpened, Received
from heorot.core.wire.framing import MAX_FRAME_BYTES, MAX_GREETING_BYTES
from heorot.core.wire.parts import Parts, encode_in_parts
from heorot.core.wire.tree import Hello, LinkMessage, decode_link
from heorot.runtime.channel import Channel
from heorot.runtime.dial import Dial, Names
from heorot.runtime.link_shares import MAX_LINKS_OF_ONE, LinkShares
from heorot.runtime.loop import Loop, Timer
from heorot.runtime.refusals import Refusals
from heorot.runtime.shares import oldest_of_most
from heorot.runtime.sockets import Acceptor, tune_tcp
from heorot.runtime.tls_codec import TlsCodec
from heorot.runtime.vanished import Vanished
from heorot.security import tls

HANDSHAKE_TIMEOUT_S = 10.0
JOIN_TIMEOUT_S = 10.0
GREETING_TIMEOUT_S = 10.0
"""How long a neighbour that has connected and shown its certificate may take to say who it is."""
MAX_LINKS = 4096
"""Links of one daemon, those in their handshake included."""
MAX_HANDSHAKES = 1024
"""Of neighbours that have connected and have not shown yet who they are. One more, and the oldest of the host that has
most of them goes: whoever is honest needs a moment, and nobody's silence keeps others out."""


class JoinConversation(Protocol):
    """Serves one peer without a certificate: one greeting, one request, one answer."""

    def greeting(self) -> bytes:
        """Return what we say first."""

    def handle(self, payload: bytes, /) -> tuple[bytes, bool]:
        """Take what the host says, and return the answer."""

    def close(self) -> None:
        """The host is gone, or is to go."""


class Taker(Protocol):
    """Takes over a connection that is no link of the tree."""

    def frame(self, payload: bytes, /) -> None:
        """Take a frame."""

    def closed(self, reason: str, /) -> None:
        """The connection is closed."""


class Links:
    """Opens, accepts and closes links; turns what they bring into events.

    Parameters
    ----------
    feed
        Takes the events.
    join
        Gives the session that serves a peer without a certificate from this host (the server context must allow that),
        or None if there are too many; without it such peers are refused.
    take_head
        Takes over the channel of a head, or of a node for a client of its host; None if there are too many.
    make_passing_context
        Gives the client context of a connection that a head on standby is to pass on; without it there is none.
    """

    def __init__(
        self,
        loop: Loop,
        cluster: str,
        client_context: ssl.SSLContext,
        make_server_context: Callable[[], ssl.SSLContext],
        feed: Callable[[LinkOpened | LinkClosed | ConnectFailed | Received], None],
        log: Callable[[str, str], None],
        join: Callable[[str], JoinConversation | None] | None = None,
        take_head: Callable[[Channel, tls.Peer], Taker | None] | None = None,
        make_passing_context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._loop = loop
        self._cluster = cluster
        self._client_context = client_context
        self._make_server_context = make_server_context
        self._server_context: ssl.SSLContext | None = None
        self._make_passing_context = make_passing_context
        self._passing_context: ssl.SSLContext | None = None
        self._feed = feed
        self._log = log
        self._join = join
        self._take_head = take_head
        self._links: dict[int, _Link] = {}
        self._shares: LinkShares[_Link] = LinkShares()
        self._pending: dict[_Link | _Attempt, None] = {}
        """The oldest first."""
        self._names = Names(loop)
        self.vanished = Vanished(loop)
        self._finishing: list[_Link] = []
        self._refusals = Refusals(loop, log)
        self._number = 0
        self._acceptor: Acceptor | None = None
        self._encoded: tuple[LinkMessage | None, bytes | Parts] = (None, b"")

    # ------------------------------------------------------------------ for the shell

    def listen(self, sock: socket.socket) -> None:
        """Accept neighbours on a bound socket."""
        sock.listen(1024)
        self._acceptor = Acceptor(self._loop, sock, self._accept)

    def connect(self, key: str, host: str, port: int, timeout_ms: int, passed_on: bool = False) -> None:
        """Open a link; the answer is an event."""
        _Attempt(self, key, host, port, timeout_ms / 1000, passed_on).begin()

    def send(self, link: int, message: LinkMessage, bulk: bool, newest_of: str = "") -> None:
        """Queue a message, as `Channel.send` does; a link that is gone meanwhile is none of the machine's mistakes."""
        # The same message often goes to many children.
        if self._encoded[0] is not message:
            self._encoded = (message, encode_in_parts(message))
        self.send_encoded(link, self._encoded[1], bulk, newest_of)

    def send_encoded(self, link: int, payload: bytes | Parts, bulk: bool = False, newest_of: str = "") -> None:
        """Queue a message that is encoded already."""
        target = self._links.get(link)
        if target is not None:
            target.channel.send(payload, bulk, newest_of)

    def close_link(self, link: int, reason: str) -> None:
        """Send what is queued, then close."""
        target = self._links.pop(link, None)
        if target is not None:
            self._shares.leave(target)
            target.end_limit()
            self._log("debug", f"close the link to {target.name}: {reason}")
            target.channel.finish()
            if not target.channel.closed:
                self._finishing = [other for other in self._finishing if not other.channel.closed] + [target]

    @property
    def closing(self) -> bool:
        """Whether something that was sent before a close is still on its way out."""
        return any(not link.channel.closed for link in self._finishing)

    def close(self) -> None:
        """Close everything at once."""
        if self._acceptor is not None:
            self._acceptor.close()
        for link in [*self._links.values(), *self._pending, *self._finishing]:
            link.abandon()
        self._links.clear()
        self._pending.clear()
        self._names.close()
        self._refusals.close()

    # ------------------------------------------------------------------ for the links

    def _accept(self, sock: socket.socket) -> None:
        try:
            name = "{} port {}".format(*sock.getpeername()[:2])
        except OSError:
            sock.close()
            return
        if len(self._links) + len(self._pending) >= MAX_LINKS:
            self._say_refused(name, f"{MAX_LINKS} links are open")
            sock.close()
            return
        if len(self._pending) >= MAX_HANDSHAKES:
            self._drop_a_handshake()
        if self._server_context is None:
            # Made for the first neighbour that comes: most nodes are leaves of the tree and never need one.
            try:
                self._server_context = self._make_server_context()
            except SecurityError as error:
                self._log("error", f"refused a connection from {name}: {error}")
                sock.close()
                return
        _Link(self, sock, name, "", self._server_context, HANDSHAKE_TIMEOUT_S).begin()

    def _drop_a_handshake(self) -> None:
        shaking = [link for link in self._pending if isinstance(link, _Link) and not link.key]
        if len(shaking) >= MAX_HANDSHAKES:
            oldest = oldest_of_most(shaking, lambda link: link.host)
            oldest.abandon()
            self.closed(oldest, f"it has not shown who it is, and is the oldest of {MAX_HANDSHAKES}")

    def connected(self, attempt: _Attempt, sock: socket.socket, timeout_s: float) -> None:
        """Somebody answers at the address."""
        self._pending.pop(attempt, None)
        context = self._client_context
        if attempt.passed_on and self._make_passing_context is not None:
            if self._passing_context is None:
                try:
                    self._passing_context = self._make_passing_context()
                except SecurityError as error:
                    sock.close()
                    self.not_connected(attempt, str(error))
                    return
            context = self._passing_context
        _Link(self, sock, attempt.name, attempt.key, context, timeout_s).begin()

    def not_connected(self, attempt: _Attempt, reason: str) -> None:
        """Nobody answers at the address."""
        self._pending.pop(attempt, None)
        self._feed(ConnectFailed(attempt.key, f"{attempt.name}: {reason}"))

    def established(self, link: _Link) -> None:
        """TLS is up: find out who it is."""
        assert link.channel.tls is not None
        peer = tls.peer_of(link.channel.tls.object, self._cluster)
        self._pending.pop(link, None)
        if peer.kind == "anonymous":
            if self._join is None or link.key:
                raise SecurityError("the peer showed no certificate")
            session = self._join(link.host) or self._join_in_place(self._join, link.host)
            if session is None:
                raise SecurityError("too many hosts ask to join at this moment")
            self._pending[link] = None
            link.serve_join(session)
            return
        passes_on = peer.kind == "head" or tls.is_for_a_client(link.channel.tls.object)
        if passes_on and self._take_head is not None and not link.key:
            link.taker = self._take_head(link.channel, peer)
            if link.taker is None:
                raise SecurityError(f"the {peer.kind} {peer.name} has too many connections")
            return
        link.number = self._number = self._number + 1
        link.owner = peer.name if peer.kind == "node" else f"the head {peer.name}", peer.holder
        link.name = f"{peer.name} at {link.name}"
        self._links[link.number] = link
        if not link.key:
            self._share(link)
        self._feed(LinkOpened(link.number, peer.number, link.key, peer.holder))

    def _join_in_place(self, join: Callable[[str], JoinConversation | None], host: str) -> JoinConversation | None:
        """All sessions are taken: the oldest of the host that has most of them goes, as with handshakes."""
        joining = [link for link in self._pending if isinstance(link, _Link) and link.session is not None]
        if not joining:
            return None
        oldest = oldest_of_most(joining, lambda link: link.host)
        self._say_refused(oldest.name, "it has not asked to join yet, and others want to")
        oldest.abandon()
        self.closed(oldest, "")
        return join(host)

    def _share(self, link: _Link) -> None:
        """A neighbour has connected: it may have a few links, and some memory, and must say who it is."""
        too_many = self._shares.join(link)
        if too_many is not None:
            self._end_greedy(too_many, f"{link.owner[0]} has opened more than {MAX_LINKS_OF_ONE} links")
        link.limit_to(GREETING_TIMEOUT_S)
        link.channel.on_growth = lambda: self._weigh(link)

    def _weigh(self, link: _Link) -> None:
        why = self._shares.refusal(link)
        if why:
            self._end_greedy(link, why)

    def _end_greedy(self, link: _Link, reason: str) -> None:
        self._refusals.say(link.owner[0], "too much at a time", f"closed the link to {link.name}: {reason}")
        link.abandon()
        self.closed(link, reason)

    def received(self, link: _Link, payload: bytes | memoryview) -> None:
        """Hand a message to the machine."""
        message = decode_link(payload)
        if not link.greeted and type(message) is Hello:
            link.greeted = True
            link.end_limit()
            link.channel.allow_frames_of(MAX_FRAME_BYTES)
        self._feed(Received(link.number, message))

    def closed(self, link: _Link, reason: str) -> None:
        """The link failed or ended."""
        self._pending.pop(link, None)
        self._shares.leave(link)
        if link.number:
            if self._links.pop(link.number, None) is not None:
                self._feed(LinkClosed(link.number, reason))
        elif link.key:
            self._feed(ConnectFailed(link.key, f"{link.name}: {reason}"))
        elif link.session is None:
            self._say_refused(link.name, reason)

    def _say_refused(self, name: str, reason: str) -> None:
        self._refusals.say(f"the host {name.partition(' ')[0]}", reason, f"refused a connection from {name}: {reason}")

    def fail_link(self, link: int, reason: str) -> None:
        """Close a link because of what came over it."""
        target = self._links.get(link)
        if target is not None:
            self.warn_of(link, "a broken protocol", f"closed the link to {target.name}: {reason}")
            target.abandon()
            self.closed(target, reason)

    def warn_of(self, link: int, why: str, text: str) -> None:
        """Tell once in a while what the neighbour at a link has done; `why` and `text` as for `Refusals.say`."""
        target = self._links.get(link)
        self._refusals.say(target.owner[0] if target is not None else "neighbours that are gone", why, text)


class _Attempt:
    """A connection that is being made."""

    def __init__(self, links: Links, key: str, host: str, port: int, timeout_s: float, passed_on: bool) -> None:
        self._links = links
        self.key = key
        self.passed_on = passed_on
        self.name = f"{host} port {port}"
        loop = links._loop
        self._ends_at = loop.time() + timeout_s
        self._limit = loop.call_at(self._ends_at, self._timed_out)
        self._dial = Dial(links._names, host, port, self._connected, self._failed)
        links._pending[self] = None

    def begin(self) -> None:
        self._dial.begin()

    def _connected(self, sock: socket.socket) -> None:
        self._limit.cancel()
        self._links.connected(self, sock, self._ends_at - self._links._loop.time())

    def _failed(self, reason: str) -> None:
        self._limit.cancel()
        self._links.not_connected(self, reason)

    def _timed_out(self) -> None:
        self._dial.cancel()
        self._links.not_connected(self, "no answer in time")

    def abandon(self) -> None:
        self._limit.cancel()
        self._dial.cancel()


class _Link:
    def __init__(
        self, links: Links, sock: socket.socket, name: str, key: str, context: ssl.SSLContext, timeout_s: float
    ) -> None:
        self.links = links
        self.name = name
        self.key = key
        self.number = 0
        self.owner = "", b""
        self.greeted = False
        self.session: JoinConversation | None = None
        self.taker: Taker | None = None
        """Whose connection this is; none of the links' any more."""
        self.sock = sock
        self.host = name.partition(" ")[0]
        links._pending[self] = None
        loop = links._loop
        self.channel = Channel(
            loop,
            sock,
            on_frame=self.frame,
            on_closed=self.closed,
            on_established=self.established,
            tls=TlsCodec(context, server_side=not key),
            limit_bytes=MAX_GREETING_BYTES,
            explain=tls.explain,
            on_large_frame=self.large_frame,
        )
        self.limit: Timer | None = None
        self.limit_to(timeout_s)

    @property
    def begun_bytes(self) -> int:
        return self.channel.begun_bytes

    def limit_to(self, timeout_s: float) -> None:
        loop = self.links._loop
        self.limit = loop.call_at(loop.time() + timeout_s, self.timed_out)

    def end_limit(self) -> None:
        if self.limit is not None:
            self.limit.cancel()
            self.limit = None

    def begin(self) -> None:
        try:
            if tune_tcp(self.sock):
                self.channel.vanished = self.links.vanished
        except OSError as error:
            self.failed(error)
            return
        self.channel.start()

    def established(self) -> None:
        self.end_limit()
        self.links.established(self)

    def frame(self, payload: bytes) -> None:
        if self.taker is not None:
            self.taker.frame(payload)
            return
        if self.session is None:
            self.links.received(self, payload)
            return
        answer, last = self.session.handle(payload)
        self.channel.send(answer)
        if last:
            self.channel.finish()
            self.end()
            self.links.closed(self, "")

    def large_frame(self, payload: memoryview) -> None:
        if self.taker is None and self.session is None:
            self.links.received(self, payload)
        else:
            self.frame(bytes(payload))

    def serve_join(self, session: JoinConversation) -> None:
        self.session = session
        self.limit_to(JOIN_TIMEOUT_S)
        self.channel.send(session.greeting())

    def end(self) -> None:
        self.end_limit()
        if self.session is not None:
            self.session.close()

    def timed_out(self) -> None:
        self.limit = None
        self.failed(TimeoutError("no answer in time"))

    def failed(self, error: OSError) -> None:
        self.abandon()
        self.links.closed(self, tls.explain(error))

    def closed(self, reason: str) -> None:
        if self.taker is not None:
            self.taker.closed(reason)
            return
        self.end()
        self.links.closed(self, reason)

    def abandon(self) -> None:
        self.end()
        if not self.channel.closed:
            self.channel.close()
