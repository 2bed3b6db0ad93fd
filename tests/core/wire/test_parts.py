"""What is encoded in parts is what would be encoded in one, and what it carries is not copied."""

from __future__ import annotations

import pytest

from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.base import Message
from heorot.core.wire.parts import WORTH_BYTES, encode_in_parts

SIZES = [WORTH_BYTES, 65_535, 65_536, 300_000]
LARGE = [
    message
    for size in SIZES
    for message in (
        m.Up(70_000, bytes(size)),
        m.Output("1.22", 300, 2, 1 << 40, bytes(size), 77, 3, True),
        c.ClientOutput("1.22", 131_071, 1, 5, bytes(size), 9, True),
    )
]


@pytest.mark.parametrize("message", LARGE)
def test_parts_make_the_same_message(message: m.Up | m.Output | c.ClientOutput) -> None:
    parts = encode_in_parts(message)
    carried = message.payload if isinstance(message, m.Up) else message.data
    assert not isinstance(parts, bytes)
    assert any(part is carried for part in parts)
    assert b"".join(parts) == m.encode(message)


@pytest.mark.parametrize(
    "message", [m.Up(3, b"a"), m.Ping(), m.Output("1.1", 0, 1, 0, b"few"), m.Report("1.1", [], [], [])]
)
def test_what_is_short_is_not_parted(message: Message) -> None:
    assert encode_in_parts(message) == m.encode(message)
