"""Runs the site's ``node_up``, a program, for each node that has come; a few at once (`heorot.daemons.site_program`).

It is given the node's number, and in its environment ``HEOROT_DIR``, ``HEOROT_NODE`` and ``HEOROT_NODE_ADDRESS``, empty
if what the node says is no address. What it writes is kept for each node.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from heorot.core.head.list_of_names import host_address
from heorot.core.wire.wishes import Prepare, Prepared
from heorot.daemons.site_program import SiteProgram
from heorot.runtime.loop import Loop


class NodeUpSettings(Struct, frozen=True):
    """The site's script. `directory` takes each node's log, ``nN.log``; `clients` is where commands find the head."""

    command: Path
    directory: Path
    clients: Path
    at_once: int = 8
    limit_ms: int = 300_000


NO_NODE_UP = NodeUpSettings(Path("/bin/true"), Path("/nonexistent"), Path("/nonexistent"))
"""Of a head that has no script, and never runs it."""


class NodeUps:
    """Carries out `Prepare`."""

    def __init__(self, loop: Loop, settings: NodeUpSettings, feed: Callable[[Prepared], None]) -> None:
        self._loop = loop
        self._settings = settings
        self._feed = feed
        self._waiting: OrderedDict[int, Prepare] = OrderedDict()
        """By node."""
        self._running: dict[int, SiteProgram] = {}
        """By node."""

    def prepare(self, item: Prepare) -> None:
        """Run the script for this node, as soon as there is room, and none for a former incarnation of it."""
        self._waiting.pop(item.node, None)
        former = self._running.pop(item.node, None)
        if former is not None:
            former.close()
        self._waiting[item.node] = item
        self._next()

    def close(self) -> None:
        """End all that run; nobody is told."""
        self._waiting.clear()
        for program in self._running.values():
            program.close()
        self._running.clear()

    def _next(self) -> None:
        while self._waiting and len(self._running) < self._settings.at_once:
            _, item = self._waiting.popitem(last=False)
            try:
                self._running[item.node] = self._start(item)
            except OSError as error:
                self._feed(Prepared(item.node, item.incarnation, f"cannot be run: {error.strerror or error}"))

    def _start(self, item: Prepare) -> SiteProgram:
        settings = self._settings
        environment = {
            "HEOROT_DIR": str(settings.clients),
            "HEOROT_NODE": str(item.node),
            # The node's own word: scripts give it to a shell.
            "HEOROT_NODE_ADDRESS": host_address(item.host),
        }

        def ended(error: str) -> None:
            del self._running[item.node]
            self._feed(Prepared(item.node, item.incarnation, error))
            self._next()

        words = [str(settings.command), str(item.node)]
        log = settings.directory / f"n{item.node}.log"
        return SiteProgram(self._loop, words, environment, log, settings.limit_ms, ended)
