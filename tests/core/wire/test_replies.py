"""Replies as a relay reads them: it needs not know what processes are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import ProtocolError
from heorot.core.wire.replies import NodeTable, Process, Reply, decode_opaque, decode_table
from heorot.core.wire.tree import encode

ROWS = [Process(pid, "1.1", 0, 0, "S", 0, [b"a", b"\xff"], True) for pid in range(3)]


def test_the_processes_are_passed_on_as_they_came() -> None:
    opaque = decode_opaque(encode(Reply(9, 3, ROWS, True)))
    assert (opaque.id, opaque.matched, opaque.more) == (9, 3, True)
    assert decode_table(NodeTable(0, bytes(opaque.processes))) == ROWS


@given(st.binary(max_size=200))
def test_hostile_bytes_give_a_protocol_error_or_a_reply(data: bytes) -> None:
    for decode in (decode_opaque, lambda some: decode_table(NodeTable(0, some))):
        try:
            decode(data)
        except ProtocolError:
            continue


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_reply_that_is_cut_off_is_a_breach_of_the_protocol(cut: int) -> None:
    with pytest.raises(ProtocolError):
        decode_opaque(encode(Reply(9, 3, ROWS))[:-cut])
