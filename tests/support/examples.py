"""Makes random but valid messages from the definitions themselves, so that a new field or message is tested at once."""

from __future__ import annotations

import functools
import inspect as signatures
import random
from collections.abc import Callable
from typing import Any, get_args

import msgspec
from msgspec import inspect

from heorot.core.wire import clients, joining, tree
from heorot.core.wire.tree import Message

Decode = Callable[[bytes], Any]

DECODERS: list[tuple[Decode, tuple[type[Message], ...]]] = [
    (tree.decode_link, get_args(tree.LinkMessage)),
    (tree.decode_head_command, get_args(tree.HeadCommand)),
    (tree.decode_space_command, get_args(tree.SpaceCommand)),
    (tree.decode_node_payload, get_args(tree.NodePayload)),
    (tree.decode_space_answer, get_args(tree.SpaceAnswer)),
    (tree.decode_look, (tree.Look,)),
    (tree.decode_view, (tree.SpaceView,)),
    (tree.decode_ticket, (tree.Ticket,)),
    (tree.decode_placement, (tree.Placement,)),
    (tree.decode_signed_placement, (tree.SignedPlacement,)),
    (tree.decode_head_list, (tree.HeadList,)),
    (tree.decode_tell_heads, (tree.TellHeads,)),
    (clients.decode_client, get_args(clients.ClientMessage)),
    (joining.decode_join, get_args(joining.JoinMessage)),
]
"""Every decoder of the wire, and the messages that it accepts."""
CASES = [(decode, kind) for decode, kinds in DECODERS for kind in kinds]
EDGES = (0, 1, 127, 128, 255, 256, 65535, 65536, (1 << 32) - 1, 1 << 32, (1 << 63) - 1)
"""Where msgpack changes the size of a number, and ends."""


type_info = functools.cache(inspect.type_info)
EXAMPLES = 100


def by_chance(test: Callable[..., None]) -> Callable[..., None]:
    """Call a test with many examples of chance, its argument `chance`; a failure says the seed that repeats it.

    What is made of one number gains nothing by Hypothesis, which takes ten times as long for it.
    """
    signature = signatures.signature(test)

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        for _ in range(EXAMPLES):
            seed = random.SystemRandom().getrandbits(64)
            try:
                test(**arguments, chance=random.Random(seed))
            except BaseException as error:
                error.add_note(f"chance=random.Random({seed})")
                raise

    others = [one for name, one in signature.parameters.items() if name != "chance"]
    run.__signature__ = signature.replace(parameters=others)  # type: ignore[attr-defined]
    return run


def example(chance: random.Random, kind: type[Message]) -> Message:
    """Return a random instance of a message."""
    info = type_info(kind)
    assert isinstance(info, inspect.StructType)
    value = _value(chance, info)
    assert isinstance(value, kind)
    return value


def _length(chance: random.Random, least: int | None, most: int | None, usual: int) -> int:
    return chance.randint(least or 0, min(most if most is not None else usual, (least or 0) + usual))


def _value(chance: random.Random, info: inspect.Type) -> Any:
    if isinstance(info, inspect.StructType):
        return info.cls(**{field.name: _value(chance, field.type) for field in info.fields})
    if isinstance(info, inspect.UnionType):
        return _value(chance, chance.choice(info.types))
    if isinstance(info, inspect.IntType):
        least = info.ge if info.ge is not None else -(1 << 31)
        most = info.le if info.le is not None else (1 << 63) - 1
        if chance.random() < 0.5:
            return chance.choice([edge for edge in EDGES if least <= edge <= most] or [least])
        return chance.randint(least, most)
    if isinstance(info, inspect.StrType):
        if info.pattern is not None:
            known = r"^[0-9]+\.[0-9]+$", r"^([0-9]+\.[0-9]+)?$"
            assert info.pattern in known, "a new pattern: teach this function to make examples of it"
            if info.pattern == known[1] and chance.random() < 0.3:
                return ""
            return f"{chance.randint(0, 1 << 20)}.{chance.randint(0, 1 << 40)}"
        length = _length(chance, info.min_length, info.max_length, 40)
        return "".join(chance.choices("aZ09 ./-_'\"\n\0äß€😀", k=length))
    if isinstance(info, inspect.BytesType):
        return chance.randbytes(_length(chance, info.min_length, info.max_length, 60))
    if isinstance(info, inspect.MemoryViewType):
        return memoryview(chance.randbytes(60))
    if isinstance(info, inspect.ListType):
        return [_value(chance, info.item_type) for _ in range(_length(chance, info.min_length, info.max_length, 5))]
    if isinstance(info, inspect.TupleType):
        return tuple(_value(chance, item) for item in info.item_types)
    if isinstance(info, inspect.BoolType):
        return chance.random() < 0.5
    if isinstance(info, inspect.NoneType):
        return None
    if isinstance(info, inspect.AnyType):
        return chance.choice([None, 1, "text", [1, {"key": [True]}], {"epoch": 1, "nodes": []}])
    if isinstance(info, inspect.FloatType):
        return chance.uniform(-1e9, 1e9)
    if isinstance(info, inspect.DictType):
        keys = [_value(chance, info.key_type) for _ in range(chance.randint(0, 4))]
        return {key: _value(chance, info.value_type) for key in keys}
    raise NotImplementedError(f"teach this function to make examples of {info}")


def encoded(message: Message) -> bytes:
    """Return the message as it goes over the wire."""
    return msgspec.msgpack.encode(message)
