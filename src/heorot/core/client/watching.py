"""A watch as its client has it: the rows as they are now, and what the last update has changed.

The head sends no update before it hears that the last one was taken: so no more than one waits here. When a head is
lost, what has not been taken of its last update is dropped, and the next head tells everything anew.
"""

from __future__ import annotations

from heorot.core.client import messages
from heorot.core.client.conversation import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from heorot.core.client.conversation import Conversation

    Key: TypeAlias = int | str | tuple[int, int]
    Row: TypeAlias = dict[str, Any]


class Update:
    """What has changed of a topic."""

    __slots__ = ("changed", "full", "gone")

    def __init__(self) -> None:
        self.full = False
        """All rows were told."""
        self.changed: list[Key] = []
        """Of rows that are new, or other than before."""
        self.gone: list[Key] = []


class WatchRequest(Request):
    """See the module. `tables` and what stands beside them change only when an update is taken."""

    __slots__ = ("_conversation", "_is_whole", "_owes_word", "_parts", "missing", "named", "over", "tables")

    def __init__(self, conversation: Conversation) -> None:
        super().__init__()
        self._conversation = conversation
        self._parts: list[tuple[str, bool, dict[Key, Row], list[Key], list[int], list[int]]] = []
        self._is_whole = False
        self._owes_word = False
        """The head waits to hear that the last update was taken."""
        self.over = False
        """Nobody wants to know more."""
        self.tables: dict[str, dict[Key, Row]] = {}
        """By topic and key: the rows."""
        self.missing: list[int] = []
        """Nodes that do not answer when they are asked for their processes."""
        self.named: list[int] = []
        """The nodes that were named, in order: flat runs, first node and count."""

    @property
    def number(self) -> int:
        """The number of the request."""
        return int(self.message[1])

    @property
    def has_news(self) -> bool:
        """Whether there is an update to be taken."""
        return self._is_whole

    def changed(self, message: list[Any]) -> None:
        """See `Request`."""
        if self.over:
            return
        _tag, _number, topic, full, rows, gone, more, missing, named = message[:9]
        keys = [fields[0] if len(fields) == 1 else (fields[0], fields[1]) for fields in gone]
        self._parts.append((topic, full, {key_of(topic, row): row for row in rows}, keys, missing, named))
        self._is_whole = not more

    def interrupted(self) -> bool:
        """See `Request`."""
        self._parts, self._is_whole, self._owes_word = [], False, False
        return not self.over

    def take(self) -> dict[str, Update]:
        """Take the update that is there; return what it has changed, by topic."""
        updates: dict[str, Update] = {}
        for topic, full, rows, gone, missing, named in self._parts:
            update = updates.setdefault(topic, Update())
            if full:
                self.tables[topic] = {}
                update.full = True
                if topic == "nodes":
                    self.named = named
            table = self.tables.setdefault(topic, {})
            table.update(rows)
            update.changed += rows
            update.gone += [key for key in gone if table.pop(key, None) is not None]
            if topic == "processes":
                self.missing = missing
        self._parts, self._is_whole, self._owes_word = [], False, True
        return updates

    def go_on(self) -> None:
        """Ask for the next update, if one was taken: what has changed up to then becomes one."""
        if self._owes_word and not self.over:
            self._owes_word = False
            self._say(messages.seen(self.number))

    def end(self) -> None:
        """Watch no longer."""
        if not (self.over or self.finished):
            self.over = True
            self._parts, self._is_whole = [], False
            if not self._conversation.connected:
                # The head that knew of it is gone.
                self._conversation.unanswered.pop(self.number, None)
                self.finished = True
            self._say(messages.unwatch(self.number))

    def _say(self, message: list[object]) -> None:
        if not self.finished:
            self._conversation.outgoing += messages.encode(message)


def begin_watch(
    conversation: Conversation, topics: list[str], interval_ms: int, nodes: str = "", job: str | None = None
) -> WatchRequest:
    """Queue a watch; the fields are those of `heorot.core.client.messages.watch_topics`."""
    request = WatchRequest(conversation)
    conversation.ask(messages.watch_topics, topics, interval_ms, nodes, job, into=request)
    return request


def key_of(topic: str, row: Row) -> Key:
    """Return what a row of a topic is known by."""
    if topic == "processes":
        return row["node"], row["pid"]
    key: Key = row["id" if topic == "nodes" else "job"]
    return key
