"""A watch as its client has it: an update counts as a whole, is taken once, and begins anew under the next head."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from heorot.core.client.conversation import Conversation
from heorot.core.client.watching import WatchRequest, begin_watch
from heorot.core.errors import ProtocolError, RequestError
from heorot.core.wire import clients as c
from heorot.core.wire.framing import FrameDecoder, encode_frame


class Client:
    """A conversation with a watch in it."""

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.watch: WatchRequest = begin_watch(self.conversation, ["nodes", "processes"], 500)
        self.said()

    def said(self) -> list[c.ClientMessage]:
        """Return, and take, what it wants to send."""
        frames = FrameDecoder().feed(bytes(self.conversation.outgoing))
        self.conversation.outgoing.clear()
        return [c.decode_client(frame) for frame in frames]

    def hear(self, message: Any) -> None:
        """Let the head say something."""
        self.conversation.receive(encode_frame(msgspec.msgpack.encode(message)), 0)

    def update(self, topic: str, rows: list[dict[str, Any]], **fields: Any) -> None:
        """Let the head send a part of an update."""
        given: dict[str, Any] = {"full": False, "gone": [], "more": False, "missing": [], "named": []} | fields
        self.hear(c.Changed(self.watch.number, topic, rows=rows, **given))


def test_an_update_is_there_when_its_last_part_is() -> None:
    client = Client()
    client.update("nodes", [{"id": 1}], full=True, more=True, named=[1, 1])
    assert not client.watch.has_news
    client.update("processes", [{"node": 1, "pid": 7}], full=True, missing=[2])
    assert client.watch.has_news
    updates = client.watch.take()
    assert (updates["nodes"].changed, updates["processes"].changed) == ([1], [(1, 7)])
    assert client.watch.tables == {"nodes": {1: {"id": 1}}, "processes": {(1, 7): {"node": 1, "pid": 7}}}
    assert (client.watch.missing, client.watch.named, client.watch.has_news) == ([2], [1, 1], False)


def test_the_next_is_asked_for_when_its_owner_goes_on_and_once() -> None:
    client = Client()
    client.watch.go_on()
    client.update("nodes", [], full=True)
    assert client.said() == []
    client.watch.take()
    assert client.said() == []
    client.watch.go_on()
    client.watch.go_on()
    assert client.said() == [c.Seen(client.watch.number)]


def test_what_has_gone_is_gone_and_what_was_never_there_is_not_told() -> None:
    client = Client()
    client.update("processes", [{"node": 1, "pid": 7}, {"node": 1, "pid": 8}], full=True)
    client.watch.take()
    client.update("processes", [], gone=[[1, 7], [1, 9]])
    update = client.watch.take()["processes"]
    assert (update.gone, list(client.watch.tables["processes"])) == ([(1, 7)], [(1, 8)])


def test_the_next_head_is_asked_anew_and_what_its_predecessor_had_begun_to_say_is_dropped() -> None:
    client = Client()
    client.update("nodes", [{"id": 1}, {"id": 2}], full=True)
    client.watch.take()
    client.update("nodes", [{"id": 3}], more=True)
    assert client.conversation.connection_lost() == []
    client.watch.go_on()
    assert list(client.watch.tables["nodes"]) == [1, 2], "what was shown stays until there is something else"
    client.conversation.reconnected()
    _hello, watch = client.said()
    assert isinstance(watch, c.Watch)
    assert (watch.request, watch.topics) == (client.watch.number, ["nodes", "processes"])
    client.update("nodes", [{"id": 2}], full=True)
    update = client.watch.take()["nodes"]
    assert (update.full, list(client.watch.tables["nodes"])) == (True, [2])


def test_a_watch_that_ends_is_answered_once_and_what_was_on_its_way_is_ignored() -> None:
    client = Client()
    client.watch.end()
    client.watch.end()
    assert client.said() == [c.Unwatch(client.watch.number)]
    client.update("nodes", [{"id": 1}], full=True)
    assert not client.watch.has_news
    client.hear(c.Result(client.watch.number, None))
    assert client.watch.finished
    assert client.conversation.unanswered == {}


@pytest.mark.parametrize("lost_first", [True, False])
def test_a_watch_that_ends_while_its_head_is_lost_is_not_asked_for_again(lost_first: bool) -> None:
    client = Client()
    if lost_first:
        client.conversation.connection_lost()
        client.watch.end()
    else:
        client.watch.end()
        client.conversation.connection_lost()
    client.conversation.reconnected()
    assert [type(message) for message in client.said()] == [c.ClientHello]


def test_a_refusal_ends_it_with_what_the_head_says() -> None:
    client = Client()
    client.hear(c.Error(client.watch.number, "no-such-job", "there is no job 1.1"))
    assert isinstance(client.watch.error, RequestError)
    client.watch.end()
    assert client.said() == []


@pytest.mark.parametrize("rows", [[{"no": 1}], [7], [None]])
def test_rows_that_are_none_are_a_breach_of_the_protocol(rows: list[Any]) -> None:
    client = Client()
    with pytest.raises(ProtocolError):
        client.update("nodes", rows, full=True)


def test_an_update_of_what_is_no_watch_is_a_breach_of_the_protocol() -> None:
    client = Client()
    request = client.conversation.ask(lambda number: ["status", number])
    with pytest.raises(ProtocolError):
        client.hear(c.Changed(request.message[1], "nodes", True, [], [], False, [], []))
