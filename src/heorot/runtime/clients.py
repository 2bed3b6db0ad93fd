"""The head's clients: commands and programs on the head's unix socket, and those that other heads pass on.

Of a client on this host the kernel says who it is; of one that is passed on, the head that it came to. Of one that came
to a node, the node says its user's number; everything else about the user is what this host knows.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Callable
from pathlib import Path

from heorot import __version__
from heorot.core.errors import HeorotError, ProtocolError
from heorot.core.machine import ClientClosed, ClientOpened, FromClient, HeadHeard
from heorot.core.tree.nodeset import HEAD
from heorot.core.wire.clients import ClientOutput, Error, HeadMessage, decode_client
from heorot.core.wire.framing import MAX_FRAME_BYTES
from heorot.core.wire.parts import encode_in_parts
from heorot.core.wire.passing import LEFT, MAX_OF_NODE, PASS_VERSION, PassAccepted, PassOn, decode_pass
from heorot.core.wire.tags import TAG_HELLO
from heorot.core.wire.tree import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION, Hello, decode_link, encode, tag_of
from heorot.runtime.callers import Account, Accounts, ClientQuotas
from heorot.runtime.channel import GROWTH_BYTES, Channel
from heorot.runtime.loop import Loop
from heorot.runtime.refusals import Refusals
from heorot.runtime.sockets import Acceptor, listen_unix
from heorot.runtime.turns import Turns
from heorot.security.tls import Peer

INTRODUCTION_TIMEOUT_S = 10.0
"""How long somebody who has connected may take to say whom he passes on."""
THIS_HOST = Peer("head", "", -1)


class Clients:
    """Serves ``head.sock``. `name` and `epoch` are those of the active head; `quotas` bounds what users take."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        feed: Callable[[ClientOpened | ClientClosed | FromClient | HeadHeard], None],
        log: Callable[[str, str], None],
        name: str = "",
        epoch: int = 0,
        cluster: str = "",
        quotas: ClientQuotas | None = None,
    ) -> None:
        self._hello = encode(Hello(PROTOCOL_VERSION, OLDEST_PROTOCOL_VERSION, cluster, HEAD, epoch, __version__))
        self._loop = loop
        self._path = path
        self._feed = feed
        self._log = log
        self._accepted = encode(PassAccepted(PASS_VERSION, name, epoch))
        self._channels: dict[int, Channel] = {}
        self._quotas = quotas or ClientQuotas(os.geteuid())
        self._turns = Turns(loop, self._quotas.goes_first, self._pause, self._resume)
        self._arriving: set[PassedOn] = set()
        self._nodes: dict[Channel, int] = {}
        """Which node passes on which connection."""
        self._number = 0
        self._identities = Accounts(loop.time)
        self._refusals = Refusals(loop, log)
        self._acceptor: Acceptor | None = None
        self._inode = 0

    def listen(self) -> None:
        """Accept clients from now on. Raises HeorotError."""
        sock = listen_unix(self._path, 0o666)
        self._inode = self._path.stat().st_ino
        self._acceptor = Acceptor(self._loop, sock, self._accept)

    def send(self, client: int, message: HeadMessage) -> None:
        """Queue a message."""
        channel = self._channels.get(client)
        if channel is None:
            return
        if type(message) is ClientOutput:
            channel.send(encode_in_parts(message))
            return
        payload = encode(message)
        request = getattr(message, "request", 0)
        if len(payload) > MAX_FRAME_BYTES and request:
            payload = encode(Error(request, "too-long", f"the answer has {len(payload)} bytes; ask for less at a time"))
        channel.send(payload)

    def close_client(self, client: int) -> None:
        """Send what is queued, then close."""
        channel = self._forget(client)
        if channel is not None:
            channel.finish()

    def fail_client(self, client: int, reason: str, code: str = "protocol") -> None:
        """Close a client because of what it sent, and tell it why."""
        channel = self._channels.get(client)
        if channel is not None:
            user = self._quotas.user_of(channel)
            self._forget(client)
            why = "they took too much memory" if code == "busy" else "they broke the protocol"
            self._refusals.say(user, why, f"closed client {client}, of {user}: {reason}")
            channel.send(encode(Error(0, code, reason)))
            channel.finish()
            self._feed(ClientClosed(client))

    def _takes_too_much(self, number: int, why: str) -> None:
        channel = self._channels[number]
        if channel.backlog_bytes < GROWTH_BYTES:
            self.fail_client(number, why, "busy")
            return
        # It does not read, and would not read why.
        user = self._quotas.user_of(channel)
        text = f"closed client {number}, of {user}, which does not read: {why}"
        self._refusals.say(user, "they took too much memory", text)
        self._closed(number)
        channel.close()

    def close(self, *, leave_path: bool = False) -> None:
        """Close everything at once and remove the socket. `leave_path`: somebody else is about to serve it, and clients
        that come before are to wait, which they do not where there is no socket at all.
        """
        if self._acceptor is not None:
            self._acceptor.close()
            # Another head on this host may have put its own socket there.
            with contextlib.suppress(FileNotFoundError):
                if not leave_path and self._path.stat().st_ino == self._inode:
                    self._path.unlink()
        for passed in list(self._arriving):
            passed.abandon()
        self._turns.close()
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()
        self._refusals.close()

    def _accept(self, sock: socket.socket) -> None:
        try:
            identity = self._identities.of(sock)
        except OSError as error:
            why = error.strerror or str(error)
            self._refusals.say("somebody", why, f"refused a client: {why}")
            sock.close()
            return
        self._number += 1
        number = self._number
        channel = Channel(
            self._loop,
            sock,
            on_frame=lambda payload: self.received(number, payload),
            on_closed=lambda reason: self.left(number, False),
        )
        if self._admit(number, channel, identity):
            channel.start()
            self._opened(number, identity)

    def _admit(self, number: int, channel: Channel, identity: Account) -> bool:
        reason = self._quotas.refusal(identity)
        if reason:
            self._refusals.say(identity.user, "too many clients", f"refused a client of {identity.user}: {reason}")
            channel.send(encode(Error(0, "busy", reason)))
            channel.finish()
            return False
        self._channels[number] = channel
        self._quotas.join(channel, identity, lambda why: self._takes_too_much(number, why))
        return True

    def _opened(self, number: int, identity: Account, peer: Peer = THIS_HOST) -> None:
        who = (identity.user, identity.uid, identity.gid, identity.groups)
        self._feed(ClientOpened(number, *who, peer.number, peer.holder))

    def received(self, number: int, payload: bytes) -> None:
        """Hand a message to the machine, when its user has his turn."""
        channel = self._channels.get(number)
        if channel is not None:
            channel.unserved_bytes += len(payload)
            self._turns.put(self._quotas.uid_of(channel), number, functools.partial(self._serve, number, payload))

    def _serve(self, number: int, payload: bytes) -> None:
        self._channels[number].unserved_bytes -= len(payload)
        try:
            message = decode_client(payload)
        except HeorotError as error:
            self.fail_client(number, str(error))
            return
        self._feed(FromClient(number, message))

    def _pause(self, number: int) -> None:
        """Read no more of a client that waits for its turn, and weigh what it holds meanwhile."""
        channel = self._channels[number]
        channel.pause()
        if channel.on_growth is not None:
            channel.on_growth()

    def _resume(self, number: int) -> None:
        channel = self._channels.get(number)
        if channel is not None:
            channel.resume()

    def _forget(self, number: int) -> Channel | None:
        channel = self._channels.pop(number, None)
        if channel is not None:
            self._turns.drop(self._quotas.uid_of(channel), number)
            self._quotas.leave(channel)
            self._nodes.pop(channel, None)
            channel.resume()
        return channel

    def _closed(self, number: int, lost: bool = False) -> None:
        if self._forget(number) is not None:
            self._feed(ClientClosed(number, lost))

    # ------------------------------------------------------------------ what other heads pass on

    def passed_on(self, channel: Channel, peer: Peer) -> PassedOn | None:
        """Take a connection of a head or node of this cluster, which passes a client on; None if there are too many.

        The channel is ours from then on; what comes over it goes to the returned object.
        """
        if len(self._arriving) + len(self._channels) >= self._quotas.limit + self._quotas.limit // 4:
            return None
        if peer.kind == "node":
            if sum(number == peer.number for number in self._nodes.values()) >= MAX_OF_NODE:
                return None
            self._nodes[channel] = peer.number
        passed = PassedOn(self, channel, peer)
        self._arriving.add(passed)
        return passed

    def introduced(self, passed: PassedOn, message: PassOn) -> int:
        """The peer has said who the client is: return its number, 0 if it was refused."""
        self._arriving.discard(passed)
        peer = passed.peer
        if peer.kind == "node":
            identity = self._identities.of_uid(message.uid)
        else:
            identity = Account(message.uid, message.gid, message.user, tuple(message.groups))
        self._number += 1
        passed.channel.send(self._accepted)
        if not self._admit(self._number, passed.channel, identity):
            self._nodes.pop(passed.channel, None)
            return 0
        self._log("debug", f"client {self._number} is {identity.user}, passed on by {peer.name}")
        self._opened(self._number, identity, peer)
        return self._number

    def announced(self, passed: PassedOn, hello: Hello) -> None:
        """The other head has nobody to pass on: it says that it leads. Both ends compare their epochs."""
        passed.channel.send(self._hello)
        self._feed(HeadHeard(hello.epoch))

    def left(self, number: int, lost: bool) -> None:
        """A client has ended its connection, or was lost on its way: an end like others, after all that it has sent."""
        channel = self._channels.get(number)
        if channel is None:
            return
        uid = self._quotas.uid_of(channel)
        if self._turns.is_waiting(uid, number):
            self._turns.put(uid, number, functools.partial(self._end, number, lost))
        else:
            self._end(number, lost)

    def _end(self, number: int, lost: bool) -> None:
        channel = self._channels.get(number)
        self._closed(number, lost)
        if channel is not None:
            channel.close()

    def not_introduced(self, passed: PassedOn) -> None:
        """The connection has ended before anything was said."""
        self._arriving.discard(passed)
        self._nodes.pop(passed.channel, None)


class PassedOn:
    """One client that came to another head, or to a node."""

    def __init__(self, clients: Clients, channel: Channel, peer: Peer) -> None:
        self._clients = clients
        self.channel = channel
        self.peer = peer
        self._number = 0
        loop = clients._loop
        self._limit = loop.call_at(loop.time() + INTRODUCTION_TIMEOUT_S, self.abandon)

    def frame(self, payload: bytes) -> None:
        """Take a frame. Raises ProtocolError, which ends the connection."""
        if self._number:
            if payload == LEFT:
                self._clients.left(self._number, False)
            else:
                self._clients.received(self._number, payload)
            return
        if tag_of(payload) == TAG_HELLO and self.peer.kind == "head":
            hello = decode_link(payload)
            assert isinstance(hello, Hello)
            self._clients.announced(self, hello)
            return
        message = decode_pass(payload)
        if not isinstance(message, PassOn):
            raise ProtocolError("whoever connects so must first say whom it passes on")
        self._limit.cancel()
        self.channel.allow_frames_of(MAX_FRAME_BYTES)
        self._number = self._clients.introduced(self, message)

    def closed(self, reason: str) -> None:
        """The connection was lost."""
        self._limit.cancel()
        if self._number:
            self._clients.left(self._number, True)
        else:
            self._clients.not_introduced(self)

    def abandon(self) -> None:
        """Close it, if it has not come far enough to be a client."""
        self._limit.cancel()
        self._clients.not_introduced(self)
        self.channel.close()
