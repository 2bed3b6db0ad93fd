"""The server of a control socket that every user of the host can reach: who is let in, how long, and what is said.

Commands come and answers go as JSON, a frame each. Anybody may ask how things stand; to change something is for root
and for the daemon's own user. So that nobody can shut others out, connections are shared (`heorot.core.quota`), and
one on which no command comes is closed.
"""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heorot.core.errors import HeorotError
from heorot.core.quota import Quota
from heorot.runtime.callers import Accounts
from heorot.runtime.channel import Channel
from heorot.runtime.loop import EpollLoop, Timer
from heorot.runtime.refusals import Refusals
from heorot.runtime.sockets import Acceptor

MAX_CONNECTIONS = 64
SILENCE_S = 30.0
"""A connection on which no whole command has come for so long, since it began or since the last one, is closed."""
FRAME_BYTES = 64 * 1024

Obey = Callable[[dict[str, Any], bool], dict[str, Any]]
"""Carries a command out and returns the answer. The second argument: whether it comes from root or the owner. Raises
HeorotError or OSError if it is refused, and ValueError, TypeError or KeyError if it is none.
"""


@dataclass(slots=True)
class _Visitor:
    uid: int
    channel: Channel
    heard_s: float
    """When it came, or when its last command did."""
    limit: Timer | None = None


class ControlServer:
    """Serves one control socket.

    Parameters
    ----------
    who:
        What the daemon is called in messages: ``the warden``.
    silence_s:
        As `SILENCE_S`.
    """

    def __init__(
        self,
        loop: EpollLoop,
        sock: socket.socket,
        who: str,
        obey: Obey,
        log: Callable[[str, str], None],
        silence_s: float = SILENCE_S,
    ) -> None:
        self._loop = loop
        self._who = who
        self._obey = obey
        self._silence_s = silence_s
        self._quota = Quota(f"connections to {who}", MAX_CONNECTIONS, owner=os.geteuid())
        self._identities = Accounts(loop.time)
        self._refusals = Refusals(loop, log)
        self._visitors: dict[int, _Visitor] = {}
        self._number = 0
        self.leaving = False
        """The daemon ends: whoever waits for that is not sent away."""
        self._acceptor = Acceptor(loop, sock, self._accept)

    def close(self) -> None:
        """Close the socket and all connections."""
        self._acceptor.close()
        self._refusals.close()
        for number in list(self._visitors):
            channel = self._visitors[number].channel
            self._closed(number)
            channel.close()

    def _accept(self, sock: socket.socket) -> None:
        try:
            identity = self._identities.of(sock)
        except OSError:
            sock.close()
            return
        self._number += 1
        number = self._number
        channel = Channel(
            self._loop,
            sock,
            on_frame=lambda payload: self._command(number, payload),
            on_closed=lambda reason: self._closed(number),
            limit_bytes=FRAME_BYTES,
        )
        held = Counter(visitor.uid for visitor in self._visitors.values())
        why = self._quota.refusal(identity.uid, held, name=identity.user)
        if why:
            text = f"refused a connection of {identity.user}: {why}"
            self._refusals.say(identity.user, "too many connections", text)
            self._send_away(channel, why)
            return
        self._visitors[number] = _Visitor(identity.uid, channel, self._loop.time())
        self._await_command(number)
        channel.start()

    def _await_command(self, number: int) -> None:
        visitor = self._visitors[number]
        due_s = visitor.heard_s + self._silence_s
        if self._loop.time() < due_s or self.leaving:
            later_s = max(due_s, self._loop.time() + self._silence_s / 30)
            visitor.limit = self._loop.call_at(later_s, self._await_command, number)
            return
        self._closed(number)
        self._send_away(visitor.channel, f"no command has come to {self._who} for {self._silence_s:g} s")

    def _closed(self, number: int) -> None:
        visitor = self._visitors.pop(number)
        if visitor.limit is not None:
            visitor.limit.cancel()

    def _send_away(self, channel: Channel, reason: str) -> None:
        channel.send(json.dumps({"error": reason}).encode())
        channel.finish()

    def _command(self, number: int, payload: bytes) -> None:
        visitor = self._visitors.get(number)
        if visitor is None:
            return
        if visitor.channel.backlog_bytes:
            # Whoever asks again and again without reading would have us keep all the answers.
            self._closed(number)
            self._send_away(visitor.channel, f"{self._who} takes one command at a time: read the answer first")
            return
        visitor.heard_s = self._loop.time()
        try:
            request = json.loads(payload)
            answer = self._obey(request, self._quota.may_all(visitor.uid))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            answer = {"error": f"not a command: {error}"}
        except (HeorotError, OSError) as error:
            answer = {"error": str(error)}
        visitor.channel.send(json.dumps(answer).encode())
