"""The head's clients: commands and programs on the head's unix socket; the kernel says who they are."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
from collections.abc import Callable
from pathlib import Path

from heorot.core.client_messages import Error, HeadMessage, decode_client
from heorot.core.errors import HeorotError
from heorot.core.framing import MAX_FRAME_BYTES
from heorot.core.machine import ClientClosed, ClientOpened, FromClient
from heorot.core.messages import encode
from heorot.runtime.channel import Channel
from heorot.runtime.loop import Loop
from heorot.runtime.sockets import Acceptor, listen_unix, peer_credentials

MAX_CLIENTS = 1024
MAX_CLIENTS_OF_USER = 512
"""Of one user other than root: nobody alone can keep the others, and the administrator, out."""
IDENTITY_CACHE_S = 60.0
MAX_CACHED_IDENTITIES = 1024


class Clients:
    """Serves ``head.sock``."""

    def __init__(
        self,
        loop: Loop,
        path: Path,
        feed: Callable[[ClientOpened | ClientClosed | FromClient], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._path = path
        self._feed = feed
        self._log = log
        self._channels: dict[int, Channel] = {}
        self._user_of: dict[int, int] = {}
        self._number = 0
        self._identities: dict[tuple[int, int], tuple[float, str, tuple[int, ...]]] = {}
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

    def fail_client(self, client: int, reason: str) -> None:
        """Close a client because of what it sent, and tell it why."""
        channel = self._forget(client)
        if channel is not None:
            self._log("warning", f"closed client {client}: {reason}")
            channel.send(encode(Error(0, "protocol", reason)))
            channel.finish()
            self._feed(ClientClosed(client))

    def close(self) -> None:
        """Close everything at once and remove the socket."""
        if self._acceptor is not None:
            self._acceptor.close()
            # Another head on this host may have put its own socket there.
            with contextlib.suppress(FileNotFoundError):
                if self._path.stat().st_ino == self._inode:
                    self._path.unlink()
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def _accept(self, sock: socket.socket) -> None:
        try:
            _pid, uid, gid = peer_credentials(sock)
            user, groups = self._identify(uid, gid)
        except OSError as error:
            self._log("warning", f"refused a client: {error.strerror or error}")
            sock.close()
            return
        self._number += 1
        number = self._number
        channel = Channel(
            self._loop,
            sock,
            on_frame=lambda payload: self._received(number, payload),
            on_closed=lambda reason: self._closed(number),
        )
        crowd = ""
        if len(self._channels) >= MAX_CLIENTS:
            crowd = f"{MAX_CLIENTS} clients are connected to the head"
        elif uid != 0 and sum(self._user_of[other] == uid for other in self._channels) >= MAX_CLIENTS_OF_USER:
            crowd = f"{MAX_CLIENTS_OF_USER} clients of {user} are connected to the head"
        if crowd:
            self._log("warning", f"refused a client of {user}: {crowd}")
            channel.send(encode(Error(0, "busy", f"{crowd}; try again later")))
            channel.finish()
            return
        self._channels[number] = channel
        self._user_of[number] = uid
        channel.start()
        self._feed(ClientOpened(number, user, uid, gid, groups))

    def _identify(self, uid: int, gid: int) -> tuple[str, tuple[int, ...]]:
        # A directory service may take its time to answer, and a script may connect a hundred times a second.
        now = self._loop.time()
        known = self._identities.get((uid, gid))
        if known is not None and now - known[0] < IDENTITY_CACHE_S:
            return known[1], known[2]
        try:
            user = pwd.getpwuid(uid).pw_name
            groups = tuple(os.getgrouplist(user, gid))
        except KeyError:
            user, groups = str(uid), (gid,)
        if len(self._identities) >= MAX_CACHED_IDENTITIES:
            self._identities.clear()
        self._identities[uid, gid] = (now, user, groups)
        return user, groups

    def _received(self, number: int, payload: bytes) -> None:
        if number not in self._channels:
            return
        try:
            message = decode_client(payload)
        except HeorotError as error:
            self.fail_client(number, str(error))
            return
        self._feed(FromClient(number, message))

    def _forget(self, number: int) -> Channel | None:
        self._user_of.pop(number, None)
        return self._channels.pop(number, None)

    def _closed(self, number: int) -> None:
        if self._forget(number) is not None:
            self._feed(ClientClosed(number))
