"""Notices that the host at the other end of a TCP connection is gone: no power, no cable, no way there.

What tells a host from a process is who answers: the kernel of a host acknowledges bytes and probes also while the
process that they are for is stopped, swapped out or overloaded. So a host is gone when its kernel has not answered for
`SILENT_S` though it was asked again and again; a process may be silent for as long as the machine allows.

- On an idle connection the kernel asks: probes (keepalive) after `PROBE_AFTER_S` without a word, and the end of the
  connection when `PROBES` of them were not answered.
- While bytes are on their way the kernel sends no probes. Its own limit for that, TCP_USER_TIMEOUT, takes a full
  receive buffer for a lost host, and overrules the number of probes. So `Vanished` looks itself, at connections on
  which something was sent and is not acknowledged yet, and at no others: an idle daemon is not woken up.

Between two ends on one host there is nothing to notice.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

from heorot.runtime.loop import Loop

PROBE_AFTER_S, PROBE_EVERY_S, PROBES = 2, 1, 3
SILENT_S = 4.5
UNANSWERED = 3
"""So many times at least it was asked since its last answer, however long ago that was: we may have slept ourselves."""
LOOK_AFTER_S = 1.0
LOOK_AGAIN_S = 0.5
LONGEST_WAIT_MS = 1_000
"""The kernel waits no longer before it sends again what was not acknowledged (Linux 6.15)."""
REASON = "its host does not answer any more"
_TCP_RTO_MAX_MS = 44
_INFO_BYTES = 148
_NUMBER = struct.Struct("=I")
_RETRANSMITS, _PROBES_OUT, _UNACKNOWLEDGED, _LAST_ANSWER, _UNSENT = 2, 3, 24, 56, 144
"""Where these stand in ``struct tcp_info``."""


def is_remote(sock: socket.socket) -> bool:
    """Say whether the other end of a connected TCP socket is on another host. Raises OSError."""
    return bool(sock.getsockname()[0] != sock.getpeername()[0])


def probe_when_idle(sock: socket.socket) -> None:
    """Have the kernel end the connection when it is idle and the other host is gone. Raises OSError."""
    for option, value in (
        (socket.TCP_KEEPIDLE, PROBE_AFTER_S),
        (socket.TCP_KEEPINTVL, PROBE_EVERY_S),
        (socket.TCP_KEEPCNT, PROBES),
        (socket.TCP_USER_TIMEOUT, 0),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, LONGEST_WAIT_MS)


class Vanished:
    """Ends those of a daemon's connections whose other host is gone while bytes are on their way to it."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: dict[socket.socket, Callable[[str], None]] = {}
        """On which something was sent that may not have been acknowledged, and how to end them."""
        self._planned = False

    def sent(self, sock: socket.socket, give_up: Callable[[str], None]) -> None:
        """Something was sent; `give_up` takes the reason, and closes the socket."""
        self._waiting[sock] = give_up
        if not self._planned:
            self._plan(LOOK_AFTER_S)

    def _plan(self, pause_s: float) -> None:
        self._planned = True
        self._loop.call_at(self._loop.time() + pause_s, self._look)

    def _look(self) -> None:
        self._planned = False
        for sock, give_up in list(self._waiting.items()):
            if sock.fileno() < 0 or not _awaits_answer(sock):
                del self._waiting[sock]
            elif has_vanished(sock):
                del self._waiting[sock]
                give_up(REASON)
        if self._waiting and not self._planned:
            self._plan(LOOK_AGAIN_S)


def _awaits_answer(sock: socket.socket) -> bool:
    info = _info(sock)
    return bool(_number(info, _UNACKNOWLEDGED) or _number(info, _UNSENT))


def has_vanished(sock: socket.socket) -> bool:
    """Say whether the other host has been asked in vain for long enough. Raises OSError."""
    info = _info(sock)
    asked = info[_RETRANSMITS] + info[_PROBES_OUT]
    return asked >= UNANSWERED and _number(info, _LAST_ANSWER) >= SILENT_S * 1000


def _info(sock: socket.socket) -> bytes:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)


def _number(info: bytes, offset: int) -> int:
    # An older kernel tells less.
    return int(_NUMBER.unpack_from(info, offset)[0]) if len(info) >= offset + _NUMBER.size else 0
