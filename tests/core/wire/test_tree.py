"""Every message of every protocol: round trips, tags, neighbouring releases, and refusal of what is not allowed."""

from __future__ import annotations

import functools
import random
from itertools import groupby

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import ProtocolError
from heorot.core.wire import tree
from heorot.core.wire.clients import HeadMessage
from heorot.core.wire.tree import Message
from tests.support.examples import CASES, DECODERS, Decode, by_chance, encoded, example

case = pytest.mark.parametrize(
    ("decode", "kind"), [pytest.param(*case, id=f"{case[0].__name__}-{case[1].__name__}") for case in CASES]
)
chances = st.integers(0, (1 << 64) - 1).map(random.Random)
fields_of = functools.cache(msgspec.structs.fields)
head_message = msgspec.msgpack.Decoder(HeadMessage)


def tag(kind: type[Message]) -> int | str:
    """Return the tag of a message on the wire."""
    value = kind.__struct_config__.tag
    assert isinstance(value, int | str)
    return value


@case
@by_chance
def test_round_trip(decode: Decode, kind: type[Message], chance: random.Random) -> None:
    message = example(chance, kind)
    assert decode(encoded(message)) == message


@pytest.mark.parametrize("kind", HeadMessage.__args__)
@by_chance
def test_what_the_head_tells_a_client_round_trips(kind: type[Message], chance: random.Random) -> None:
    message = example(chance, kind)
    assert head_message.decode(encoded(message)) == message


@case
@by_chance
def test_a_field_that_a_newer_release_has_added_is_skipped(
    decode: Decode, kind: type[Message], chance: random.Random
) -> None:
    message = example(chance, kind)
    fields = msgspec.msgpack.decode(encoded(message))
    assert decode(msgspec.msgpack.encode([*fields, "something new", {"and": "more"}])) == message


@case
@by_chance
def test_a_field_that_an_older_release_does_not_send_has_its_default(
    decode: Decode, kind: type[Message], chance: random.Random
) -> None:
    message = example(chance, kind)
    optional = len(kind.__struct_defaults__)
    fields = msgspec.msgpack.decode(encoded(message))
    decoded = decode(msgspec.msgpack.encode(fields[: len(fields) - optional]))
    for field in fields_of(kind):
        expected = getattr(message, field.name) if field.required else field.default
        if field.default_factory is not msgspec.NODEFAULT:
            expected = field.default_factory()
        assert getattr(decoded, field.name) == expected


@case
def test_a_missing_required_field_is_refused(decode: Decode, kind: type[Message]) -> None:
    message = example(random.Random(1), kind)
    fields = msgspec.msgpack.decode(encoded(message))
    required = len(fields) - len(kind.__struct_defaults__)
    if required <= (kind.__struct_config__.tag is not None):
        return  # There is no required field.
    with pytest.raises(ProtocolError, match="not a valid"):
        decode(msgspec.msgpack.encode(fields[: required - 1]))


def test_no_tag_is_used_twice_and_each_can_be_read_without_decoding() -> None:
    kinds = sorted(
        {kind for _, kind in CASES if isinstance(kind.__struct_config__.tag, int)}, key=lambda kind: str(tag(kind))
    )
    for number, group in groupby(kinds, key=tag):
        assert len(list(group)) == 1, number
    for kind in kinds:
        assert tree.tag_of(encoded(example(random.Random(2), kind))) == tag(kind)
    words = [tag(kind) for _, kind in CASES if isinstance(tag_or_none(kind), str)]
    words += [tag(kind) for kind in HeadMessage.__args__]
    assert len(words) == len(set(words))


def tag_or_none(kind: type[Message]) -> int | str | None:
    """Return the tag, None for a message that never stands alone."""
    value = kind.__struct_config__.tag
    assert value is None or isinstance(value, int | str)
    return value


@case
@pytest.mark.parametrize("fields", [14, 15, 16, 40_000])
def test_however_many_fields_a_release_adds_the_tag_can_be_read(
    decode: Decode, kind: type[Message], fields: int
) -> None:
    if not isinstance(tag_or_none(kind), int):
        return  # Nobody passes these on.
    elements = msgspec.msgpack.decode(encoded(example(random.Random(4), kind)))
    payload = msgspec.msgpack.encode([*elements, *[None] * (1 + fields - len(elements))])
    assert type(decode(payload)) is kind
    assert tree.tag_of(payload) == tag(kind)


@pytest.mark.parametrize("header", [b"\x96", b"\xdc\x00\x06", b"\xdd\x00\x00\x00\x06"])
@pytest.mark.parametrize(
    "number", [b"\x07", b"\xcc\x07", b"\xcd\x00\x07", b"\xce" + b"\0\0\0\x07", b"\xcf" + bytes(7) + b"\x07"]
    + [b"\xd0\x07", b"\xd1\x00\x07", b"\xd2\0\0\0\x07", b"\xd3" + bytes(7) + b"\x07"],
)  # fmt: skip
def test_what_a_decoder_takes_for_a_tag_is_one(header: bytes, number: bytes) -> None:
    # Else a neighbour could have its relay take one message for another, or for none.
    payload = header + number + b"\xa31.1" + b"\x90" * 3 + b"\x00"
    assert isinstance(tree.decode_link(payload), tree.Report)
    assert tree.tag_of(payload) == 7


@given(st.binary(max_size=16))
def test_what_no_decoder_takes_for_a_tag_is_none(payload: bytes) -> None:
    tag = tree.tag_of(payload)
    try:
        first = msgspec.msgpack.decode(payload + bytes(1 << 8))[0]
    except Exception:
        return
    assert tag == (first if isinstance(first, int) and first >= 0 else -1)


@pytest.mark.parametrize(
    "payload",
    [b"", b"\x00", b"\x90", b"\x90\x20", b"\xc0", b"\x91\xff", b"\x91\xa3abc", b"\xdc", b"\xdc\0\0\x20", b"\xdc\0\x10"]
    + [b"\xdd\0\0\0\0\x20", b"\x91\xcc", b"\x91\xcd\0", b"\x91\xd0\x80", b"\x81\x20\x20"],
)  # fmt: skip
def test_what_has_no_tag_has_none(payload: bytes) -> None:
    assert tree.tag_of(payload) == -1


@pytest.mark.parametrize("decode", [decode for decode, _ in DECODERS], ids=lambda decode: decode.__name__)
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x91" * 60_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\x92\x02\xa2\xff\xff",
        b"\x92\x01\x02\x03",
        msgspec.msgpack.encode([999]),
        msgspec.msgpack.encode(["no such word"]),
        msgspec.msgpack.encode({"a": 1}),
    ],
    ids=range(10),
)
def test_hostile_bytes_give_the_one_error(decode: Decode, payload: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a valid"):
        decode(payload)


def test_a_message_of_another_protocol_is_refused() -> None:
    for decode, kinds in DECODERS:
        for _, kind in CASES:
            if kind in kinds or tag_or_none(kind) is None or len(kinds) == 1:
                continue
            with pytest.raises(ProtocolError):
                decode(encoded(example(random.Random(3), kind)))


@pytest.mark.parametrize("rank", [1 << 64, "\udcff"])
def test_what_cannot_be_encoded_is_a_protocol_error(rank: object) -> None:
    text = rank if isinstance(rank, str) else ""
    number = rank if isinstance(rank, int) else 0
    with pytest.raises(ProtocolError, match="cannot be encoded"):
        tree.encode(tree.Report("1.1", [], [], [tree.Failure(0, number, 0, text)]))
