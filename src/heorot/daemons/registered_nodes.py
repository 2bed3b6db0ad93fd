"""Tells the active head which nodes have joined or were removed, and who has which number, as its registry says.

``heorot node remove`` and this host's head, for a node that joins, write the registry here, or a keeper does that has
read it in the store: the file is replaced as a whole, so a new one is seen by its inode. The kernel says when; a rare
look makes up for what it may not see, such as another host's writes on a file system in common.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from heorot.core.errors import SecurityError
from heorot.core.machine import NodesJoined, NodesRemoved
from heorot.runtime.file_watch import FileWatch
from heorot.runtime.loop import Loop, Timer
from heorot.security.registry import Registry, RegistryContent
from heorot.security.tls import holder_of

LOOK_EVERY_S = 10.0
UNWATCHED_S = 0.2
"""Between two looks, if the kernel says nothing, or when the file could not be read."""


class RegisteredNodes:
    """Looks at the registry when it changes; the first time at once, before any node can come."""

    def __init__(
        self,
        loop: Loop,
        registry: Registry,
        feed: Callable[[NodesJoined | NodesRemoved], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._loop = loop
        self._registry = registry
        self._feed = feed
        self._log = log
        self._seen: object = None
        """What the file looked like that was read last."""
        self._said = ""
        self._watch: FileWatch | None = None
        self._next: Timer | None = None
        try:
            self._watch = FileWatch(loop, registry.path, self._look)
        except OSError as error:
            log(
                "info", f"the kernel does not say when the registry of nodes changes, so the head looks itself: {error}"
            )
        self._look()

    def close(self) -> None:
        """Look no more."""
        if self._watch is not None:
            self._watch.close()
        if self._next is not None:
            self._next.cancel()

    def _look(self) -> None:
        is_read = self._read()
        if self._next is not None:
            self._next.cancel()
        pause_s = LOOK_EVERY_S if is_read and self._watch is not None else UNWATCHED_S
        self._next = self._loop.call_at(self._loop.time() + pause_s, self._look)

    def _read(self) -> bool:
        """Tell what is new; say whether there is nothing that could not be read."""
        try:
            status = self._registry.path.stat()
        except FileNotFoundError:
            return True  # no node has joined yet; a file that is gone removes nobody and brings nobody back
        except OSError:
            return False
        seen = status.st_ino, status.st_mtime_ns, status.st_size
        if seen == self._seen:
            return True
        try:
            content = self._registry.content()
        except (SecurityError, OSError) as error:
            # Said once, and tried again: it may be for want of a descriptor that the file cannot be read.
            if str(error) != self._said:
                self._said = str(error)
                self._log("error", f"cannot tell which nodes have joined and which were removed: {error}")
            return False
        self._seen, self._said = seen, ""
        # A number that was given anew is no longer a removed one when it is known again.
        self._feed(_removed(content))
        in_order = sorted(content.nodes.values(), key=lambda record: (record.joined_at_ms, record.number))
        hosts = tuple((record.number, str(record.host)) for record in in_order)
        masters = tuple((record.number, str(record.head)) for record in in_order if record.head)
        self._feed(NodesJoined(tuple(content.nodes), hosts, masters))
        return True


def _removed(content: RegistryContent) -> NodesRemoved:
    given = [(number, record.public_key) for number, record in content.nodes.items()]
    return NodesRemoved(tuple(content.removed), _holders(given), _holders(content.given_before()))


def _holders(given: list[tuple[int, str]]) -> tuple[tuple[int, bytes], ...]:
    # What is no key was written by hand: nobody's certificate is for it.
    return tuple((number, holder_of(bytes.fromhex(key))) for number, key in given if re.fullmatch("[0-9a-f]{64}", key))
