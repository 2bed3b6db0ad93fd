"""Questions and answers without a job, and without a head: bytes in, state and bytes out."""

from __future__ import annotations

import pytest

from heorot.core.client import messages as wire
from heorot.core.client.conversation import Conversation
from heorot.core.errors import ConnectionLost, ProtocolError, RequestError
from heorot.core.wire import clients as c
from heorot.core.wire.framing import FrameDecoder, encode_frame
from heorot.core.wire.tree import Message, encode


def said(conversation: Conversation) -> list[Message]:
    """Return, and take, what is to be sent."""
    frames = FrameDecoder().feed(bytes(conversation.outgoing))
    conversation.outgoing.clear()
    return [c.decode_client(frame) for frame in frames]


def hear(conversation: Conversation, *messages: Message) -> None:
    assert conversation.receive(b"".join(encode_frame(encode(message)) for message in messages), 0) == []


@pytest.fixture
def conversation() -> Conversation:
    return Conversation()


def test_questions_go_along_with_the_greeting(conversation: Conversation) -> None:
    conversation.ask(wire.list_nodes, "up")
    hello, question = said(conversation)
    assert isinstance(hello, c.ClientHello)
    assert question == c.ListNodes(1, "up")


def test_a_long_answer_comes_in_parts(conversation: Conversation) -> None:
    table = conversation.ask(wire.list_processes, "", None)
    jobs = conversation.ask(wire.list_jobs)
    hear(conversation, c.Rows(1, [1, 2]), c.Rows(2, ["a"]), c.Rows(1, [3]))
    assert not table.finished
    hear(conversation, c.Result(1, {"processes": [4], "missing": [7]}), c.Result(2, ["b"]))
    assert table.value == [{"processes": [1, 2, 3, 4], "missing": [7]}]
    assert jobs.value == [["a", "b"]]


def test_the_next_head_hears_what_is_unanswered_under_its_number(conversation: Conversation) -> None:
    status, table = conversation.ask(wire.status), conversation.ask(wire.list_processes, "", None)
    kill = conversation.ask(wire.signal, None, None, [7], 15)
    kill.repeatable = False
    hear(conversation, c.Rows(2, ["old"]))
    assert conversation.connection_lost() == [kill]
    assert isinstance(kill.error, ConnectionLost)
    later = conversation.ask(wire.list_jobs)
    assert said(conversation) == []
    conversation.reconnected()
    assert said(conversation)[1:] == [c.ShowStatus(1), c.ListProcesses(2, "", None), c.ListJobs(4)]
    hear(conversation, c.Rows(2, ["new"]), c.Result(2, {"processes": [], "missing": []}), c.Result(1, {}))
    assert table.value == [{"processes": ["new"], "missing": []}]
    assert (status.finished, later.finished) == (True, False)


def test_a_refusal_is_the_answer(conversation: Conversation) -> None:
    request = conversation.ask(wire.show_job, "1.1")
    hear(conversation, c.Error(1, "no-such-job", "there is no job 1.1"))
    assert request.error is not None
    assert (request.finished, request.error.code, conversation.closed) == (True, "no-such-job", None)


def test_a_refused_connection_fails_all_that_is_and_will_be_asked(conversation: Conversation) -> None:
    request = conversation.ask(wire.status)
    hear(conversation, c.Error(0, "version", "too old"))
    assert request.error is conversation.closed
    with pytest.raises(RequestError, match="too old"):
        conversation.ask(wire.status)


def test_what_is_told_of_jobs_is_of_no_interest(conversation: Conversation) -> None:
    hear(conversation, c.Welcome(1, "0", "h", 7), c.Started("7.1", [0, 12]), c.Done("7.1", ""))
    assert (conversation.head, conversation.epoch) == ("h", 7)


def test_an_answer_that_nobody_waits_for_breaks_the_protocol(conversation: Conversation) -> None:
    with pytest.raises(ProtocolError, match="request 5"):
        hear(conversation, c.Result(5, {}))
    assert conversation.closed is not None
