"""The light codec says exactly what the typed messages say."""

from __future__ import annotations

import inspect
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.client import messages as wire
from heorot.core.client import onlooking
from heorot.core.errors import ProtocolError
from heorot.core.wire import clients as c
from heorot.core.wire.framing import HEADER_BYTES, MAX_FRAME_BYTES, FrameDecoder, encode_frame
from heorot.core.wire.launch import LaunchSpec
from heorot.core.wire.tree import Message, encode

SPEC_FIELDS: dict[str, Any] = {
    "argv": [b"echo", b"\xff"],
    "environment": [b"A=b"],
    "directory": b"/tmp",
    "umask": 0o22,
    "limits": [7, 1024, -1],
    "stdin": b"",
    "stdout": None,
    "stderr": b"/dev/null",
    "terminal": [24, 80],
    "max_processes": 9,
    "headless_ms": 5,
    "image": b"i" * 32,
    "program": b"/bin/echo",
    "program_id": b"p" * 32,
    "linger": True,
    "pmi": True,
    "ranks": 8,
    "ranks_per_node": 2,
    "patterns": True,
    "time_limit_ms": 90_000,
    "bind": "core",
    "stdin_ranks": [0, 3],
}
SPAWN_FIELDS: dict[str, Any] = {
    "nodes": "n[0-3]",
    "select": "list",
    "detached": True,
    "tell_started": False,
    "key": b"k" * 16,
    "again": True,
    "asked_at_ms": 6,
    "job": "1.2",
    "runs": [0, 4],
    "receipt": b"r",
}
IMAGE = b"i" * 32

PAIRS: list[tuple[list[object], Message]] = [
    (wire.client_hello("1.2"), c.ClientHello(wire.CLIENT_PROTOCOL_VERSION, "1.2")),
    (
        wire.spawn(1, **SPAWN_FIELDS, **SPEC_FIELDS),
        c.Spawn(request=1, spec=LaunchSpec(**SPEC_FIELDS), **SPAWN_FIELDS),
    ),
    (wire.client_stdin("1.2", -1, 5, b"x", True), c.ClientStdin("1.2", -1, 5, b"x", True)),
    (wire.client_ack("1.2", 3, 2, 77), c.ClientAck("1.2", 3, 2, 77)),
    (wire.client_resize("1.2", 24, 80), c.ClientResize("1.2", 24, 80)),
    (wire.client_release("1.2"), c.ClientRelease("1.2")),
    (wire.detach(4, "1.2"), c.Detach(4, "1.2")),
    (wire.attach_job(4, "1.2", True), c.AttachJob(4, "1.2", True)),
    (wire.resume_job(4, "1.2", [-1, 7], True), c.AttachJob(4, "1.2", False, True, [-1, 7], True)),
    (wire.wait(4, "1.2"), c.Wait(4, "1.2")),
    (wire.signal(4, "1.2", [1], None, 9), c.Signal(4, "1.2", [1], None, 9)),
    (wire.signal(4, None, None, [-5], 0, "n1"), c.Signal(4, None, None, [-5], 0, "n1")),
    (wire.resolve(4, "up", "list"), c.Resolve(4, "up", "list")),
    (wire.status(4), c.ShowStatus(4)),
    (wire.list_nodes(4, "n1"), c.ListNodes(4, "n1")),
    (wire.list_processes(4, "n1", "1.2"), c.ListProcesses(4, "n1", "1.2")),
    (wire.list_jobs(4), c.ListJobs(4)),
    (wire.list_events(4, [2, 3]), c.ListEvents(4, [2, 3])),
    (wire.set_nodes(4, "n1", "halt", "fan", 9, 8, 7, True), c.SetNodes(4, "n1", "halt", "fan", 9, 8, 7, True)),
    (wire.show_job(4, "1.2"), c.ShowJob(4, "1.2")),
    (wire.watch_topics(4, ["nodes"], 500, "n1", "1.2"), c.Watch(4, ["nodes"], 500, "n1", "1.2")),
    (wire.seen(4), c.Seen(4)),
    (wire.unwatch(4), c.Unwatch(4)),
    (onlooking.look_on_job(4, "1.2"), c.LookOn(4, "1.2")),
    (onlooking.look_took(4, 9), c.LookTook(4, 9)),
    (wire.stage(4, IMAGE), c.Stage(4, IMAGE)),
    (wire.image_manifest(IMAGE, b"data"), c.OfferedManifest(IMAGE, b"data")),
    (wire.image_piece(IMAGE, 3, [b"a", b"b"]), c.OfferedPiece(IMAGE, 3, [b"a", b"b"])),
    (wire.image_unavailable(IMAGE, "gone"), c.NotOffered(IMAGE, "gone")),
]


@pytest.mark.parametrize(("light", "typed"), PAIRS, ids=lambda value: type(value).__name__)
def test_a_light_message_is_the_typed_one(light: list[object], typed: Message) -> None:
    (payload,) = FrameDecoder().feed(wire.encode(light))
    assert c.decode_client(payload) == typed
    assert payload == encode(typed)


def test_every_typed_message_has_a_light_form() -> None:
    assert {type(typed) for _light, typed in PAIRS} == set(c.ClientMessage.__args__)


def test_a_light_spec_has_the_fields_of_the_typed_one_in_its_order_and_with_its_defaults() -> None:
    light = inspect.signature(wire.launch_spec).parameters
    typed = msgspec.structs.fields(LaunchSpec)
    assert list(light) == [field.name for field in typed] == list(SPEC_FIELDS)
    required = [name for name, parameter in light.items() if parameter.default is inspect.Parameter.empty]
    assert required == [field.name for field in typed if field.required]
    given = {name: SPEC_FIELDS[name] for name in required}
    assert wire.launch_spec(**given) == list(msgspec.structs.astuple(LaunchSpec(**given)))


def test_the_fields_that_are_changed_later_are_where_the_typed_message_has_them() -> None:
    spawn = {"SPAWN_ASKED_AT": "asked_at_ms"}
    for name in (name for name in dir(wire) if name.startswith("SPAWN_")):
        field = spawn.get(name, name.removeprefix("SPAWN_").lower())
        assert getattr(wire, name) == 1 + c.Spawn.__struct_fields__.index(field), name
    assert LaunchSpec.__struct_fields__.index("image") == wire.SPEC_IMAGE


def test_version_and_frames_agree() -> None:
    assert wire.CLIENT_PROTOCOL_VERSION == c.CLIENT_PROTOCOL_VERSION
    assert (wire.HEADER_BYTES, wire.MAX_FRAME_BYTES) == (HEADER_BYTES, MAX_FRAME_BYTES)


@given(st.lists(st.binary(max_size=2000), max_size=20), st.lists(st.integers(1, 3000), min_size=1))
def test_messages_survive_any_cutting_of_the_stream(blobs: list[bytes], cuts: list[int]) -> None:
    messages = [c.ClientOutput("1.1", rank, 1, 0, blob) for rank, blob in enumerate(blobs)]
    stream = b"".join(encode_frame(encode(message)) for message in messages)
    reader = wire.MessageReader()
    received = []
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        received += reader.feed(stream[position : position + size])
        position += size
        turn += 1
    assert received == [["output", "1.1", rank, 1, 0, blob, 0, False] for rank, blob in enumerate(blobs)]
    assert reader.buffered_bytes == 0


LARGE_SIZES = st.lists(st.sampled_from([0, 3, 5000, wire.LARGE_BYTES, 150_000, wire.LARGEST_ROOM_BYTES]), max_size=6)


@given(LARGE_SIZES, st.lists(st.sampled_from([1, 7, 3000, 70_000, 200_000]), min_size=1), st.booleans())
def test_large_messages_come_to_their_place(sizes: list[int], cuts: list[int], into_place: bool) -> None:
    blobs = [bytes([number]) * size for number, size in enumerate(sizes)]
    messages = [c.ClientOutput("1.1", rank, 1, 0, blob) for rank, blob in enumerate(blobs)]
    stream = b"".join(encode_frame(encode(message)) for message in messages)
    cuts = [max(cut, len(stream) // 50) for cut in cuts]
    reader = wire.MessageReader()
    received = []
    position = turn = 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        room = reader.rest()
        if room is not None and into_place:
            size = min(size, len(room))
            data = stream[position : position + size]
            room[: len(data)] = data
            received += reader.advance(len(data))
        else:
            received += reader.feed(stream[position : position + size])
        position += size
        turn += 1
    assert received == [["output", "1.1", rank, 1, 0, blob, 0, False] for rank, blob in enumerate(blobs)]
    assert (reader.buffered_bytes, reader.rest()) == (0, None)


@given(st.binary(max_size=300))
def test_hostile_bytes_give_messages_or_a_protocol_error(data: bytes) -> None:
    reader = wire.MessageReader()
    try:
        messages = reader.feed(encode_frame(data)) + reader.feed(data)
    except ProtocolError:
        return
    assert all(isinstance(message[0], str) for message in messages)


def test_a_frame_that_is_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="limit"):
        wire.MessageReader().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_a_request_that_is_too_long_is_refused() -> None:
    with pytest.raises(ProtocolError, match="shorten"):
        wire.encode(wire.client_stdin("1.1", 0, 0, bytes(MAX_FRAME_BYTES), False))
