"""Messages of PMI-2, as MPICH's and Slurm's clients write them and read them."""

from __future__ import annotations

import pytest

from heorot.core.errors import ProtocolError
from heorot.core.pmi.lines import MAX_LINE_BYTES, MAX_VALUE_BYTES
from heorot.core.pmi.messages import answer_message, message_fields, take_message


def test_a_message_has_its_length_before_it_and_comes_in_pieces() -> None:
    heard = bytearray()
    taken = []
    for byte in b"8     cmd=abc;    10cmd=de;x=;":
        heard.append(byte)
        taken.append(take_message(heard))
    assert [(place, body) for place, body in enumerate(taken, 1) if body is not None] == [
        (14, b"cmd=abc;"), (30, b"cmd=de;x=;"),
    ]  # fmt: skip
    assert heard == b""


@pytest.mark.parametrize(
    "length", [b"      ", b"abcdef", b"-1    ", b"1 2   ", b"99999 ", b"999999", b"1.5   ", b"\0\0\0\0\0\0"]
)
def test_a_length_that_is_none_or_too_long_is_refused_before_more_is_heard(length: bytes) -> None:
    with pytest.raises(ProtocolError):
        take_message(bytearray(length))


def test_the_longest_message_is_taken() -> None:
    heard = bytearray(b"%-6d" % MAX_LINE_BYTES + b"x" * MAX_LINE_BYTES)
    assert len(take_message(heard) or b"") == MAX_LINE_BYTES


def test_a_value_may_hold_what_it_likes() -> None:
    assert message_fields(b"cmd=kvs-put;thrid=0x12;key=card-1;value=a=b;;c d;;;") == {
        b"cmd": b"kvs-put", b"thrid": b"0x12", b"key": b"card-1", b"value": b"a=b;c d;",
    }  # fmt: skip
    assert message_fields(b"cmd=x;y=;") == {b"cmd": b"x", b"y": b""}
    # Of two with one name clients take the first.
    assert message_fields(b"cmd=x;cmd=y;") == {b"cmd": b"x"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b";", b"cmd", b"cmd=", b"cmd=;", b"cmd=x", b"cmd=x;y", b"cmd=x;y;", b"cmd=x;=z;", b"key=a;cmd=x;",
        b"cmd=x;;", b"cmd=x;;;y;", b"cmd=x;y=\0;", b"cmd=x;;;;y=z", b"cmd=x;a;;b=c;", b"\xff\xfe;", b"cmd=x;\n",
    ],
)  # fmt: skip
def test_what_is_no_message_of_pmi_2_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        message_fields(body)


def test_an_answer_names_the_thread_that_asks_and_reads_as_it_was_meant() -> None:
    said = answer_message(b"kvs-get", b"0x7f", found=b"TRUE", value=b"a;b;")
    assert said == b"    61cmd=kvs-get-response;thrid=0x7f;rc=0;found=TRUE;value=a;;b;;;"
    assert message_fields(take_message(bytearray(said)) or b"")[b"value"] == b"a;b;"
    assert answer_message(b"fullinit", pmi_version=2) == b"    41cmd=fullinit-response;rc=0;pmi-version=2;"
    assert answer_message(b"kvs-put", b"", "no room", value=b"x") == b"    42cmd=kvs-put-response;rc=-1;errmsg=no room;"
    assert len(answer_message(b"kvs-get", value=b"v" * MAX_VALUE_BYTES)) < MAX_LINE_BYTES
