"""Who a client is, as the kernel and this host's user database say, and what the clients of one user may take."""

from __future__ import annotations

import os
import pwd
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from heorot.core.quota import MIB, Quota
from heorot.runtime.channel import Channel
from heorot.runtime.sockets import peer_credentials

MAX_CLIENTS = 1024
MAX_CLIENT_BYTES = 512 * 1024 * 1024
IDENTITY_CACHE_S = 60.0
MAX_CACHED_IDENTITIES = 1024
NOBODYS_GROUP = 65534
"""Of whom this host does not know."""


@dataclass(frozen=True, slots=True)
class Account:
    """One client's user."""

    uid: int
    gid: int
    user: str
    groups: tuple[int, ...]


class Accounts:
    """Asks who is at the other end of a unix socket, and remembers the answers for a while."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._known: dict[tuple[int, int], tuple[float, Account]] = {}

    def of(self, sock: socket.socket) -> Account:
        """Return who has connected. Raises OSError."""
        _pid, uid, gid = peer_credentials(sock)
        return self._account(uid, gid)

    def of_uid(self, uid: int) -> Account:
        """Return who has this number on this host, with the groups that he has here."""
        try:
            gid = pwd.getpwuid(uid).pw_gid
        except KeyError:
            gid = NOBODYS_GROUP
        return self._account(uid, gid)

    def _account(self, uid: int, gid: int) -> Account:
        # A directory service may take its time to answer, and a script may connect a hundred times a second.
        now = self._time()
        known = self._known.get((uid, gid))
        if known is not None and now - known[0] < IDENTITY_CACHE_S:
            return known[1]
        try:
            user = pwd.getpwuid(uid).pw_name
            identity = Account(uid, gid, user, tuple(os.getgrouplist(user, gid)))
        except KeyError:
            identity = Account(uid, gid, str(uid), (gid,))
        if len(self._known) >= MAX_CACHED_IDENTITIES:
            self._known.clear()
        self._known[uid, gid] = (now, identity)
        return identity


class ClientQuotas:
    """The clients that are connected, and what they take together: nobody alone can keep the others out.

    Parameters
    ----------
    owner
        The uid that the head runs as.
    max_clients, max_bytes
        Connections, and memory for frames that were begun and for answers that were not read.
    what, setting
        What connections are called, and the setting that limits them; empty: there is none.
    """

    def __init__(
        self,
        owner: int,
        max_clients: int = MAX_CLIENTS,
        max_bytes: int = MAX_CLIENT_BYTES,
        what: str = "clients that are connected to the head",
        setting: str = "max_clients",
    ) -> None:
        self._clients = Quota(what, max_clients, setting, owner)
        memory = "MiB that the head holds of frames that were begun or wait, and of answers that were not read"
        self._bytes = Quota(memory, max_bytes, "max_client_bytes", owner, MIB)
        self._present: dict[Channel, Account] = {}

    @property
    def limit(self) -> int:
        """How many clients there may be."""
        return self._clients.limit

    def refusal(self, identity: Account) -> str:
        """Return why one more client of this user is too many; empty if it is not."""
        held = Counter(other.uid for other in self._present.values())
        return self._clients.refusal(identity.uid, held, name=identity.user)

    def join(self, channel: Channel, identity: Account, close: Callable[[str], None]) -> None:
        """A client is connected from now on; `close` ends it, with a reason, when it takes too much."""
        self._present[channel] = identity
        channel.on_growth = lambda: self._weigh(identity, close)

    def user_of(self, channel: Channel) -> str:
        """Return the name of the user whose client this is."""
        return self._present[channel].user

    def uid_of(self, channel: Channel) -> int:
        """Return whose client this is."""
        return self._present[channel].uid

    def goes_first(self, uid: int) -> bool:
        """Whether this user is served before others: root and the owner."""
        return self._clients.may_all(uid)

    def leave(self, channel: Channel) -> None:
        """A client is gone."""
        self._present.pop(channel, None)
        channel.on_growth = None

    def _weigh(self, identity: Account, close: Callable[[str], None]) -> None:
        held = Counter[int]()
        for channel, other in self._present.items():
            held[other.uid] += channel.held_bytes
        why = self._bytes.refusal(identity.uid, held, 0, identity.user)
        if why:
            close(why)
