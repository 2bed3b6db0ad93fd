"""A head that somebody watches, for tests: what it is told, as the client's own code understands it."""

from __future__ import annotations

from typing import Any

import msgspec

from heorot.core.client.conversation import Conversation
from heorot.core.client.watching import Update, WatchRequest, begin_watch
from heorot.core.machine import HeadInstruction, SetTimer
from heorot.core.timers import AwakeDue
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.framing import FrameDecoder, encode_frame
from tests.core.rigs import HeadRig, process


class Watcher:
    """A client that watches a head, by hand: it takes nothing before it is asked to."""

    def __init__(self, head: HeadRig, *topics: str, client: int = 1, every_ms: int = 1000, **which: Any) -> None:
        self._head = head
        self.client = client
        self._conversation = Conversation()
        self._conversation.outgoing.clear()
        self.request: WatchRequest = begin_watch(self._conversation, list(topics), every_ms, **which)
        self.parts: list[c.Changed] = []
        """What has come in all, message by message."""
        self.errors: list[c.Error] = []
        self._say()

    def _say(self) -> None:
        for frame in FrameDecoder().feed(bytes(self._conversation.outgoing)):
            self._head.ask(c.decode_client(frame), self.client)
        self._conversation.outgoing.clear()

    def hear(self) -> None:
        """Take in what the head has said, and look at no more."""
        for message in self._head.told(self.client):
            if isinstance(message, c.Changed):
                self.parts.append(message)
            if isinstance(message, c.Error):
                self.errors.append(message)
            self._conversation.receive(encode_frame(msgspec.msgpack.encode(message)), 0)
        self._head.looked()

    def take(self) -> dict[str, Update] | None:
        """Take an update, if there is one, and say so; return what it has changed."""
        self.hear()
        if not self.request.has_news:
            return None
        updates = self.request.take()
        self.request.go_on()
        self._say()
        return updates

    def end(self) -> None:
        """Watch no longer."""
        self.request.end()
        self._say()


class Nodes:
    """The nodes of a head, which have processes and answer questions about them."""

    def __init__(self, head: HeadRig, *nodes: int) -> None:
        self._head = head
        self.processes: dict[int, list[m.Process]] = {node: [process(100 + node)] for node in nodes}
        self.silent: set[int] = set()
        self.asked: list[int] = []
        """Nodes, in the order in which they were asked."""
        for node in nodes:
            head.attach(node)

    def answer(self) -> None:
        """Answer what was asked and not looked at yet."""
        for item in list(self._head.commands(m.Query)):
            node, query = int(item[0][1:]), item[1]
            self.asked.append(node)
            if node not in self.silent:
                self.reply(node, query)

    def reply(self, node: int, query: m.Query) -> None:
        """Answer this question, as this node."""
        rows = [row for row in self.processes[node] if query.job in (None, row.job)]
        self._head.up(node, m.Reply(query.id, len(rows), rows))


def wanted(head: HeadRig) -> list[HeadInstruction]:
    """Return what the head wants, but for its looks at the clock."""
    return [item for item in head.sent if not (isinstance(item, SetTimer) and item.key == AwakeDue())]
