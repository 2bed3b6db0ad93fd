"""Keeps what is wanted of nodes for a head that leads: on this host's disk, and in the store by way of its keeper.

The head's event loop never speaks to the store. It writes the file and asks its keeper, which answers when the
store has what the file says. Where all heads are on this host, the file itself is the store.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heorot.core.errors import HeorotError
from heorot.core.wire.events import KeepEvents
from heorot.core.wire.wishes import KeepWishes, WishesKept
from heorot.runtime.loop import Loop, Timer
from heorot.runtime.sockets import connect_unix, peer_credentials
from heorot.security.events import EventFile
from heorot.security.tokens import TokenStore
from heorot.security.wishes import WishFile

ANSWER_TIMEOUT_S = 10.0
"""The keeper bounds what it asks of the store below this."""
MAX_ANSWER_BYTES = 65536
SHARE = json.dumps({"do": "share"}).encode()


class KeptWishes:
    """Carries out `KeepWishes`, one after the other.

    Parameters
    ----------
    directory
        The cluster's; None: nothing is kept, which is for heads without one.
    keeper
        The socket of this head's keeper; None: the file is all that other heads need.
    """

    def __init__(
        self, loop: Loop, directory: Path | None, keeper: Path | None, feed: Callable[[WishesKept], None]
    ) -> None:
        self._loop = loop
        self._directory = directory
        self._keeper = keeper
        self._feed = feed
        self._waiting: deque[KeepWishes] = deque()
        self._question: KeeperQuestion | None = None

    def keep(self, item: KeepWishes) -> None:
        """Keep these."""
        self._waiting.append(item)
        if len(self._waiting) == 1:
            self._next()

    def keep_events(self, item: KeepEvents) -> None:
        """Write these down; the keeper finds them there. A disk that does not take them costs no more than them."""
        if self._directory is not None:
            with contextlib.suppress(OSError, HeorotError), TokenStore(self._directory).lock():
                EventFile(self._directory).put(item.events)

    def close(self) -> None:
        """Ask no more."""
        self._waiting.clear()
        if self._question is not None:
            self._question.close()
            self._question = None

    def _next(self) -> None:
        while self._waiting and self._question is None:
            item = self._waiting[0]
            problem = self._write(item)
            if problem or self._keeper is None:
                self._done(WishesKept(item.serial, problem, written=not problem))
                continue
            try:
                self._question = KeeperQuestion(self._loop, self._keeper, self._answered)
            except (OSError, HeorotError) as error:
                self._done(WishesKept(item.serial, f"its keeper does not answer: {error}"))

    def _write(self, item: KeepWishes) -> str:
        """Write them down; return what went wrong."""
        if self._directory is None:
            return ""
        try:
            with TokenStore(self._directory).lock():
                WishFile(self._directory).put(item.wishes)
        except OSError as error:
            return f"cannot write into {self._directory}: {error.strerror or error}"
        except HeorotError as error:
            return str(error)
        return ""

    def _answered(self, problem: str) -> None:
        self._question = None
        self._done(WishesKept(self._waiting[0].serial, problem))
        self._next()

    def _done(self, answer: WishesKept) -> None:
        self._waiting.popleft()
        self._feed(answer)


class KeeperQuestion:
    """Asks a keeper to share what is on the disk; `answered` is told what went wrong, empty if nothing did, once.

    Raises OSError or HeorotError if it cannot be asked.
    """

    def __init__(self, loop: Loop, path: Path, answered: Callable[[str], None]) -> None:
        self._loop = loop
        self._told = answered
        self._data = b""
        self._socket = connect_unix(path)
        try:
            if peer_credentials(self._socket)[1] not in (0, os.geteuid()):
                raise HeorotError(f"another user serves {path}")
            self._socket.setblocking(False)
            self._socket.send(len(SHARE).to_bytes(4, "big") + SHARE)
        except BaseException:
            self._socket.close()
            raise
        loop.add_reader(self._socket.fileno(), self._read)
        self._limit: Timer = loop.call_at(loop.time() + ANSWER_TIMEOUT_S, self._end, "its keeper does not answer")

    def _read(self) -> None:
        try:
            part = self._socket.recv(MAX_ANSWER_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._end(f"its keeper does not answer: {error.strerror or error}")
            return
        self._data += part
        if len(self._data) >= 4 and len(self._data) >= 4 + int.from_bytes(self._data[:4], "big"):
            self._end(_problem(self._data[4:]))
        elif not part or len(self._data) > MAX_ANSWER_BYTES:
            self._end("its keeper has not answered")

    def _end(self, problem: str) -> None:
        self.close()
        self._told(problem)

    def close(self) -> None:
        """Ask no more; nobody is told."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._limit.cancel()


def _problem(answer: bytes) -> str:
    try:
        value: Any = json.loads(answer)
        return "" if value.get("shared") is True else str(value.get("error") or "its keeper does not say that it is")
    except (ValueError, AttributeError):
        return "its keeper has answered what is no answer"
