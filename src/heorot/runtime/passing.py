"""What a host whose head is on standby does for its clients, and a node's: it passes each on to the active head.

For every client that connects to ``head.sock`` it opens a connection to the active head, says who the client is, and
relays frames both ways. Nothing is decoded, and little is buffered: a side that does not take what comes for it stops
the other one. When there is no active head, the client's connection is closed, and the client tries again by itself.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from heorot.core.errors import ProtocolError, SecurityError
from heorot.core.wire.clients import Error
from heorot.core.wire.framing import MAX_FRAME_BYTES, MAX_GREETING_BYTES
from heorot.core.wire.passing import LEFT, MAX_GROUPS, PASS_VERSION, PassAccepted, PassOn, decode_pass
from heorot.core.wire.tree import encode
from heorot.runtime.callers import Account, Accounts, ClientQuotas
from heorot.runtime.channel import Channel
from heorot.runtime.dial import Dial, Names
from heorot.runtime.loop import Loop, Timer
from heorot.runtime.refusals import Refusals
from heorot.runtime.sockets import Acceptor, listen_unix, tune_tcp
from heorot.runtime.tls_codec import TlsCodec
from heorot.runtime.vanished import Vanished
from heorot.security import tls

LOOK_S = 5.0
"""How long to look for the active head for one client."""
NEXT_AFTER_S = 0.25
"""When a head has not answered for so long, the next one is tried as well."""
PAUSE_BYTES = 1024 * 1024
"""When so much waits for one side, nothing more is read from the other."""

Address = tuple[str, int]


class Passing:
    """Listens on `path` and passes clients on.

    Parameters
    ----------
    heads
        Returns where heads of the cluster accept connections. This host's own may be among them: it takes no client
        while it is on standby.
    leader
        The name of the active head, to which clients must come and to no other; empty: not known.
    """

    def __init__(
        self,
        loop: Loop,
        path: Path,
        cluster: str,
        heads: Callable[[], tuple[Address, ...]],
        leader: str,
        context: ssl.SSLContext,
        log: Callable[[str, str], None],
        quotas: ClientQuotas | None = None,
    ) -> None:
        self.loop = loop
        self.cluster = cluster
        self.leader = leader
        self.context = context
        self.log = log
        self.names = Names(loop)
        self.vanished = Vanished(loop)
        self._path = path
        self._heads = heads
        self._last: tuple[Address, ...] = ()
        """Where the active head was found last."""
        self._identities = Accounts(loop.time)
        self._clients: set[_Client] = set()
        self._refusals = Refusals(loop, log)
        self._quotas = quotas or ClientQuotas(os.geteuid())
        self._acceptor: Acceptor | None = None
        self._inode = 0
        self._said = ""

    def listen(self) -> None:
        """Accept clients from now on. Raises HeorotError."""
        sock = listen_unix(self._path, 0o666)
        self._inode = self._path.stat().st_ino
        self._acceptor = Acceptor(self.loop, sock, self._accept)

    def listen_on(self, sock: socket.socket) -> None:
        """Accept clients from now on at a socket that somebody else removes."""
        self._acceptor = Acceptor(self.loop, sock, self._accept)

    @property
    def is_idle(self) -> bool:
        """Whether no client is here."""
        return not self._clients

    def close(self) -> None:
        """Close everything at once and remove the socket."""
        if self._acceptor is not None:
            self._acceptor.close()
            # The head may have put its own socket there.
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
        for client in list(self._clients):
            client.close()
        self.names.close()
        self._refusals.close()

    def _accept(self, sock: socket.socket) -> None:
        try:
            identity = self._identities.of(sock)
        except OSError as error:
            why = error.strerror or str(error)
            self._refusals.say("somebody", why, f"refused a client: {why}")
            sock.close()
            return
        reason = self._quotas.refusal(identity)
        if not reason and len(identity.groups) > MAX_GROUPS:
            reason = f"{identity.user} is in more than {MAX_GROUPS} groups"
        client = _Client(self, sock, identity, tuple(dict.fromkeys((*self._last, *self._heads()))))
        if reason:
            self._refusals.say(identity.user, "too many clients", f"refused a client of {identity.user}: {reason}")
            client.refuse(encode(Error(0, "busy", reason)))
            return
        self._clients.add(client)
        self._quotas.join(client.channel, identity, client.close_with)
        client.look()

    def gone(self, client: _Client) -> None:
        """A client's connection has ended."""
        self._clients.discard(client)
        self._quotas.leave(client.channel)

    def found(self, address: Address) -> None:
        """The active head is at this address: the next client begins there."""
        self._said = ""
        self._last = (address,)

    def not_found(self, reasons: list[str]) -> None:
        """Say, once for each cause, why a client was turned away."""
        text = "; ".join(reasons) or "none answers in time"
        if text != self._said:
            self._said = text
            self.log("warning", f"no active head for a client of this host: {text}")


class _Client:
    """One client: first the search for the active head, then the relay."""

    def __init__(self, passing: Passing, sock: socket.socket, identity: Account, heads: tuple[Address, ...]) -> None:
        self.passing = passing
        self.identity = identity
        self._rest = list(heads)
        self._attempts: list[_Attempt] = []
        self._reasons: list[str] = []
        self._next: Timer | None = None
        self._limit: Timer | None = None
        self._head: Channel | None = None
        # Not read before a head was found: what the client has to say waits in its socket.
        self.channel = Channel(passing.loop, sock, on_frame=self._from_client, on_closed=self._client_ended)

    def close_with(self, reason: str) -> None:
        """It takes too much."""
        self.refuse(encode(Error(0, "busy", reason)))
        self._client_ended(reason)

    def refuse(self, payload: bytes) -> None:
        self.channel.send(payload)
        self.channel.finish()

    # ------------------------------------------------------------------ the search

    def look(self) -> None:
        loop = self.passing.loop
        self._limit = loop.call_at(loop.time() + LOOK_S, self._in_vain)
        self._try_next()

    def _try_next(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if not self._rest:
            if not self._attempts:
                self._in_vain()
            return
        loop = self.passing.loop
        self._next = loop.call_at(loop.time() + NEXT_AFTER_S, self._try_next)
        attempt = _Attempt(self, self._rest.pop(0))
        self._attempts.append(attempt)
        attempt.begin()

    def failed(self, attempt: _Attempt, reason: str) -> None:
        self._attempts.remove(attempt)
        self._reasons.append(f"{attempt.name}: {reason}")
        self._try_next()

    def found(self, attempt: _Attempt, channel: Channel) -> None:
        self._attempts.remove(attempt)
        self._end_search()
        self.passing.found(attempt.address)
        self._head = channel
        channel.allow_frames_of(MAX_FRAME_BYTES)
        channel.on_drained = self.channel.resume
        self.channel.on_drained = channel.resume
        self.channel.start()

    def _in_vain(self) -> None:
        self.passing.not_found(self._reasons)
        self.close()

    def _end_search(self) -> None:
        for timer in (self._next, self._limit):
            if timer is not None:
                timer.cancel()
        self._next = self._limit = None
        for attempt in self._attempts:
            attempt.abandon()
        self._attempts.clear()

    # ------------------------------------------------------------------ the relay

    def _from_client(self, payload: bytes) -> None:
        assert self._head is not None
        if payload == LEFT:
            raise ProtocolError("a client may not say that")
        # All frames are of one kind: none overtakes another.
        self._head.send(payload, True)
        if self._head.backlog_bytes > PAUSE_BYTES:
            self.channel.pause()

    def from_head(self, payload: bytes) -> None:
        self.channel.send(payload, True)
        if self._head is not None and self.channel.backlog_bytes > PAUSE_BYTES:
            self._head.pause()

    def _client_ended(self, reason: str) -> None:
        head, self._head = self._head, None
        if head is not None:
            head.send(LEFT, True)
            # Nobody takes what still comes; it must not keep the goodbye from leaving.
            head.resume()
            head.finish()
        self.close()

    def head_ended(self, reason: str) -> None:
        self.passing.log("debug", f"the connection to the active head has ended: {reason}")
        self._head = None
        self.channel.resume()
        self.channel.finish()
        self.close()

    def close(self) -> None:
        """End everything that is not about to end by itself."""
        self._end_search()
        if self._head is not None:
            self._head.close()
        self._head = None
        if not self.channel.finishing:
            self.channel.close()
        self.passing.gone(self)


class _Attempt:
    """One connection to a host that may have the active head."""

    def __init__(self, client: _Client, address: Address) -> None:
        self._client: _Client | None = client
        self._passing = client.passing
        self.address = address
        self.name = "{} port {}".format(*address)
        self._dial = Dial(client.passing.names, *address, self._connected, self._failed)
        self._channel: Channel | None = None
        self._found = False

    def begin(self) -> None:
        self._dial.begin()

    def _connected(self, sock: socket.socket) -> None:
        try:
            remote = tune_tcp(sock)
        except OSError as error:
            sock.close()
            self._failed(error.strerror or str(error))
            return
        self._channel = Channel(
            self._passing.loop,
            sock,
            on_frame=self._frame,
            on_closed=self._closed,
            on_established=self._established,
            tls=TlsCodec(self._passing.context, server_side=False),
            limit_bytes=MAX_GREETING_BYTES,
            explain=tls.explain,
        )
        if remote:
            self._channel.vanished = self._passing.vanished
        self._channel.start()

    def _established(self) -> None:
        assert self._channel is not None
        assert self._channel.tls is not None
        assert self._client is not None
        peer = tls.peer_of(self._channel.tls.object, self._passing.cluster)
        if peer.kind != "head":
            raise SecurityError("no head, as its certificate says")
        if self._passing.leader and peer.name != self._passing.leader:
            raise SecurityError(f"this is {peer.name}; the active head is {self._passing.leader}")
        who = self._client.identity
        self._channel.send(encode(PassOn(PASS_VERSION, who.uid, who.gid, who.user, list(who.groups))))

    def _frame(self, payload: bytes) -> None:
        client, channel = self._client, self._channel
        if client is None:
            return
        if self._found:
            client.from_head(payload)
            return
        message = decode_pass(payload)
        if not isinstance(message, PassAccepted):
            raise ProtocolError("the head did not accept the client")
        assert channel is not None
        self._found = True
        client.found(self, channel)

    def _closed(self, reason: str) -> None:
        client = self._client
        if client is None:
            return
        if self._found:
            client.head_ended(reason)
        else:
            self._failed(reason)

    def _failed(self, reason: str) -> None:
        client = self._client
        self.abandon()
        if client is not None:
            client.failed(self, reason)

    def abandon(self) -> None:
        """Close it; nobody wants it any more."""
        self._client = None
        self._dial.cancel()
        if self._channel is not None:
            self._channel.close()
