"""What an onlooker makes of what it is shown: nothing twice, and a word on what it has taken."""

from __future__ import annotations

from heorot.core.client import messages, onlooking
from heorot.core.client.conversation import Conversation
from heorot.core.client.onlooking import OnlookRequest, begin_onlook


def begun() -> tuple[Conversation, OnlookRequest]:
    conversation = Conversation()
    request = begin_onlook(conversation, "1.2")
    show(conversation, ["welcome", 3, "1.0", "head1", 1, 0])
    conversation.outgoing.clear()
    return conversation, request


def show(conversation: Conversation, *said: list[object]) -> None:
    conversation.receive(b"".join(map(messages.encode, said)), 0)


def piece(rank: int, offset: int, data: bytes, missed_bytes: int = 0) -> list[object]:
    return ["shown", 1, rank, 1, offset, data, missed_bytes]


def taken(request: OnlookRequest) -> list[tuple[int, bytes, int]]:
    return [(stream.rank, data, missed_bytes) for stream, data, missed_bytes in request.take()]


def test_streams_begin_anywhere_and_what_comes_again_is_left_out() -> None:
    conversation, request = begun()
    show(conversation, piece(0, 100, b"abc"), piece(1, 7, b"x"), piece(0, 101, b"bcd"), piece(0, 90, b"z"))
    assert taken(request) == [(0, b"abc", 0), (1, b"x", 0), (0, b"d", 0), (0, b"", 0)]
    assert taken(request) == []


def test_what_was_missed_is_told_where_it_lacks() -> None:
    conversation, request = begun()
    show(conversation, piece(0, 0, b"ab"), piece(0, 500, b"c", 498))
    assert taken(request) == [(0, b"ab", 0), (0, b"c", 498)]


def test_all_that_was_shown_is_said_to_be_taken_in_the_end() -> None:
    conversation, request = begun()
    show(conversation, piece(0, 0, b"abc"), piece(0, 1, b"bcd"))
    request.take()
    request.written(4)
    assert bytes(conversation.outgoing) == messages.encode(onlooking.look_took(1, 6))
    conversation.outgoing.clear()
    request.written(0)
    assert not conversation.outgoing


def test_the_next_head_is_asked_by_itself_and_the_end_is_the_job() -> None:
    conversation, request = begun()
    conversation.connection_lost()
    assert (request.heads_lost, request.finished) == (1, False)
    request.written(3)
    conversation.reconnected()
    assert messages.encode(onlooking.look_on_job(1, "1.2")) in bytes(conversation.outgoing)
    show(conversation, ["result", 1, {"job": "1.2", "statuses": {}}])
    assert (request.finished, request.value[0]["job"]) == (True, "1.2")
