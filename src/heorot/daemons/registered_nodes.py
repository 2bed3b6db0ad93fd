"""Tells the active head which nodes have joined or were removed, and who has which number, as its registry says.

``heorot node remove`` and this host's head, for a node that joins, write the registry here, or a keeper does that has
read it in the store: the file is replaced as a whole, so a new one is seen by its inode.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from heorot.core.errors import SecurityError
from heorot.core.machine import NodesJoined, NodesRemoved
from heorot.runtime.loop import Loop
from heorot.security.registry import Registry, RegistryContent
from heorot.security.tls import holder_of

LOOK_EVERY_S = 0.2


class RegisteredNodes:
    """Looks at the registry again and again; the first time at once, before any node can come."""

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
        self._look()

    def _look(self) -> None:
        self._loop.call_at(self._loop.time() + LOOK_EVERY_S, self._look)
        try:
            status = self._registry.path.stat()
        except OSError:
            return  # no node has joined yet; a file that is gone removes nobody and brings nobody back
        seen = status.st_ino, status.st_mtime_ns, status.st_size
        if seen == self._seen:
            return
        try:
            content = self._registry.content()
        except (SecurityError, OSError) as error:
            # Said once, and tried again: it may be for want of a descriptor that the file cannot be read.
            if str(error) != self._said:
                self._said = str(error)
                self._log("error", f"cannot tell which nodes have joined and which were removed: {error}")
            return
        self._seen, self._said = seen, ""
        # A number that was given anew is no longer a removed one when it is known again.
        self._feed(_removed(content))
        self._feed(NodesJoined(tuple(content.nodes)))


def _removed(content: RegistryContent) -> NodesRemoved:
    given = [(number, record.public_key) for number, record in content.nodes.items()]
    return NodesRemoved(tuple(content.removed), _holders(given), _holders(content.given_before()))


def _holders(given: list[tuple[int, str]]) -> tuple[tuple[int, bytes], ...]:
    # What is no key was written by hand: nobody's certificate is for it.
    return tuple((number, holder_of(bytes.fromhex(key))) for number, key in given if re.fullmatch("[0-9a-f]{64}", key))
