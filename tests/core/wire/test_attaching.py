"""What a node says as it attaches, by this release and by others."""

from __future__ import annotations

import msgspec
import pytest

from heorot.core.errors import ProtocolError
from heorot.core.wire import tree as m


def test_an_older_release_says_nothing_of_names() -> None:
    older = msgspec.msgpack.encode([32, 3, 7, "10.0.0.3", 7734, b"", "0.1.0", 1, 2, -1, 9, []])
    attach = m.decode_node_payload(older)
    assert attach == m.Attach(3, 7, "10.0.0.3", 7734, b"", "0.1.0", 1, 2, -1, 9, [])
    assert isinstance(attach, m.Attach)
    assert (attach.host_name, attach.hears_names) == ("", False)


def test_a_host_name_has_a_limit() -> None:
    attach = m.Attach(3, 7, "10.0.0.3", 7734, b"", host_name="x" * 255, hears_names=True)
    assert m.decode_node_payload(m.encode(attach)) == attach
    with pytest.raises(ProtocolError):
        m.decode_node_payload(m.encode(m.Attach(3, 7, "10.0.0.3", 7734, b"", host_name="x" * 256)))
