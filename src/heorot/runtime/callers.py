"""Who a client is, as the kernel and this host's user database say, and how many clients one user may have."""

from __future__ import annotations

import os
import pwd
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from heorot.runtime.sockets import peer_credentials

MAX_CLIENTS = 1024
MAX_CLIENTS_OF_USER = 512
"""Of one user other than root: nobody alone can keep the others, and the administrator, out."""
IDENTITY_CACHE_S = 60.0
MAX_CACHED_IDENTITIES = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """One client's user."""

    uid: int
    gid: int
    user: str
    groups: tuple[int, ...]


class Identities:
    """Asks who is at the other end of a unix socket, and remembers the answers for a while."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._known: dict[tuple[int, int], tuple[float, Identity]] = {}

    def of(self, sock: socket.socket) -> Identity:
        """Return who has connected. Raises OSError."""
        _pid, uid, gid = peer_credentials(sock)
        # A directory service may take its time to answer, and a script may connect a hundred times a second.
        now = self._time()
        known = self._known.get((uid, gid))
        if known is not None and now - known[0] < IDENTITY_CACHE_S:
            return known[1]
        try:
            user = pwd.getpwuid(uid).pw_name
            identity = Identity(uid, gid, user, tuple(os.getgrouplist(user, gid)))
        except KeyError:
            identity = Identity(uid, gid, str(uid), (gid,))
        if len(self._known) >= MAX_CACHED_IDENTITIES:
            self._known.clear()
        self._known[uid, gid] = (now, identity)
        return identity


def crowd(uids: Iterable[int], identity: Identity) -> str:
    """Return why one more client is too many beside those of `uids`; empty if it is not."""
    present = list(uids)
    if len(present) >= MAX_CLIENTS:
        return f"{MAX_CLIENTS} clients are connected to the head"
    if identity.uid != 0 and present.count(identity.uid) >= MAX_CLIENTS_OF_USER:
        return f"{MAX_CLIENTS_OF_USER} clients of {identity.user} are connected to the head"
    return ""
