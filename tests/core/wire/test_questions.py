"""What may be watched is said in words of which a later release may know more: none of them ends a connection."""

from __future__ import annotations

import msgspec
import pytest

from heorot.core.errors import ProtocolError
from heorot.core.wire import clients as c


def test_a_topic_of_another_release_is_a_watch_all_the_same() -> None:
    payload = msgspec.msgpack.encode(["watch", 1, ["weather"], 1000])
    assert c.decode_client(payload) == c.Watch(1, ["weather"], 1000)


@pytest.mark.parametrize("topics", [["nodes"] * 9, [1], "nodes"])
def test_what_is_no_list_of_topics_is_a_breach_of_the_protocol(topics: object) -> None:
    with pytest.raises(ProtocolError):
        c.decode_client(msgspec.msgpack.encode(["watch", 1, topics, 1000]))
