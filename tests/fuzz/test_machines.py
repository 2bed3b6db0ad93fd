"""Well-formed messages that mean harm: whatever clients and nodes say, a head answers or refuses.

A daemon ends with an exception other than `ProtocolError`, and what everybody wants of it stops. So the head's machine
is told valid messages whose numbers, jobs and nodes are drawn from what it knows, from the edges of their types and
from nonsense; a connection that breaks the protocol is closed and another one comes. The number of messages is
`HEOROT_FUZZ_WORDS`, the seed `HEOROT_FUZZ_SEED`.
"""

from __future__ import annotations

import functools
import os
import random
from typing import Any, get_args

import pytest
from msgspec import inspect
from msgspec.structs import replace

from heorot.core.errors import ProtocolError
from heorot.core.machine import (
    ClientClosed,
    ClientOpened,
    FromClient,
    LinkClosed,
    NodesRemoved,
    Received,
    SetTimer,
    TimerFired,
    ToClient,
)
from heorot.core.tickets import seal_ticket
from heorot.core.timers import Due
from heorot.core.wire import clients as c
from heorot.core.wire import tree as m
from heorot.core.wire.launch import IMAGE_ID_BYTES, LaunchSpec
from tests.core.rigs import HeadRig, placement, sign, ticket
from tests.core.successors import launch_up

WORDS = int(os.environ.get("HEOROT_FUZZ_WORDS", "4000"))
SEED = int(os.environ.get("HEOROT_FUZZ_SEED", "1"))
FEW = (-2, -1, 0, 1, 2, 3, 7, 64)
EDGES = (*FEW, 255, 4096, 131_071, 131_072, 1 << 20, (1 << 31) - 1, -(1 << 31), 1 << 62, (1 << 63) - 1)
JOBS = ("1.1", "1.2", "1.3", "1.4", "2.1", "2.2", "2.3", "2.4", "3.1", "0.0", "9" * 38 + ".1")
LISTS = ("n0", "n[0-2]", "up", "all!n1", "n1,n1", "", "n9", "n[", "@rack", "-1", "head")
"""Of nodes."""


@functools.cache
def described(kind: Any) -> inspect.StructType:
    """Return what msgspec knows of a message."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    return info


class Speaker:
    """Makes messages. `bytes_known` and `jobs` grow with what the machine has given away."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.jobs = list(JOBS)
        self.bytes_known = [b"", b"k" * 16, b"j" * 16, b"/bin/true", b"x" * 32, b"y" * 32]
        for job in JOBS[:7]:
            launch = seal_ticket(sign, ticket(job, [0, 3], key=b"k" * 16, uid=chance.choice([0, 1000])))
            self.bytes_known += [launch.ticket, launch.signature]
        self.bytes_known += [placement(node, [0]) for node in range(3)]

    def say(self, kind: Any, **fixed: Any) -> Any:
        """Return a message of this kind."""
        info = described(kind)
        fields = {field.name: fixed[field.name] if field.name in fixed else self._field(field) for field in info.fields}
        return kind(**fields)

    def _field(self, field: inspect.Field) -> Any:
        if field.name == "request":
            return self.chance.randint(1, 1 << 20)
        if field.name == "job" and self.chance.random() < 0.9:
            return self.chance.choice(self.jobs)
        if field.name == "nodes" and isinstance(field.type, inspect.StrType):
            return self.chance.choice(LISTS)
        if field.name == "select":
            return self.chance.choice(("list", "up", "notdown", "?"))
        if field.name == "incarnation" and self.chance.random() < 0.8:
            return 7
        if field.name == "spec" and self.chance.random() < 0.7:
            return self._plausible(self.say(LaunchSpec))
        if field.name == "argv":
            return [b"prog"]
        return self._value(field.type)

    def _plausible(self, spec: LaunchSpec) -> LaunchSpec:
        """Return it with what a head and a process space do not refuse at first sight."""
        limits = spec.limits[:3] if len(spec.limits) >= 3 else []
        terminal = spec.terminal[:2] if len(spec.terminal) >= 2 else []
        image = spec.image if len(spec.image) == IMAGE_ID_BYTES else b""
        program_id = spec.program_id if len(spec.program_id) == IMAGE_ID_BYTES else b""
        return replace(
            spec, limits=limits, terminal=terminal, image=image, program=b"/bin/true", program_id=program_id
        )  # fmt: skip

    def _value(self, info: inspect.Type) -> Any:
        chance = self.chance
        match info:
            case inspect.StructType():
                return self.say(info.cls)
            case inspect.UnionType():
                return self._value(chance.choice(info.types))
            case inspect.IntType():
                least = info.ge if info.ge is not None else -(1 << 63)
                most = info.le if info.le is not None else (1 << 63) - 1
                edges = [edge for edge in EDGES if least <= edge <= most]
                # What a job of three ranks on three nodes has.
                few = [edge for edge in edges if -1 <= edge <= 3]
                return chance.choice(few if few and chance.random() < 0.7 else edges)
            case inspect.StrType():
                if info.pattern is not None:
                    return chance.choice(self.jobs)
                return chance.choice(("", "text", *LISTS))
            case inspect.BytesType():
                known = [
                    value
                    for value in self.bytes_known
                    if (info.min_length or 0) <= len(value) <= (info.max_length or 1 << 20)
                ]
                return chance.choice(known or [bytes(info.min_length or 0)])
            case inspect.MemoryViewType():
                return memoryview(chance.choice((b"", b"piece")))
            case inspect.ListType():
                count = chance.choice((0, 0, 1, 2, 3, 4, 5, 6, 9))
                count = min(max(count, info.min_length or 0), info.max_length or count)
                return [self._value(info.item_type) for _ in range(count)]
            case inspect.TupleType():
                return tuple(self._value(item) for item in info.item_types)
            case inspect.BoolType():
                return chance.random() < 0.5
            case inspect.NoneType() | inspect.AnyType():
                return None
            case _:
                raise NotImplementedError(f"teach this function to say {info}")


class Timers:
    """Those that a machine has set; fired in any order."""

    def __init__(self) -> None:
        self._keys: dict[Due, int] = {}

    def note(self, out: list[Any]) -> None:
        """Keep what was set."""
        self._keys.update({item.key: item.at_ms for item in out if isinstance(item, SetTimer)})

    def next(self, chance: random.Random) -> tuple[Due, int] | None:
        """Return one that is set, and when it is due."""
        if not self._keys:
            return None
        key = chance.choice(sorted(self._keys, key=repr))
        return key, self._keys.pop(key)


def acknowledged_before(uid: int) -> list[c.Spawn]:
    """Return launches of a user as their client hands them to a new head."""
    former = HeadRig(3)
    for node in range(3):
        former.attach(node)
    former.give(ClientOpened(1, f"u{uid}", uid, 1, ()))
    former.give(FromClient(1, c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test")))
    launches = []
    for number, key in enumerate((b"k" * 16, b"j" * 16), 1):
        ask = launch_up(request=number, key=key)
        former.looked()
        former.give(FromClient(1, ask))
        (spawned,) = former.told()
        launches.append(replace(ask, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt))
    return launches


def head_under_fire(chance: random.Random, count: int, epoch: int) -> tuple[int, int]:
    """Let clients and nodes say so much to a head; return how much was taken, and how much broke the protocol."""
    speaker, timers = Speaker(chance), Timers()
    head = HeadRig(3, epoch=epoch, max_finished_jobs=4, max_jobs=64)
    users = {1: 0, 2: 1000, 3: 1001}
    taken = broken = 0

    def client(number: int) -> None:
        head.give(ClientOpened(number, f"u{users[number]}", users[number], 1, ()))
        head.give(FromClient(number, c.ClientHello(c.CLIENT_PROTOCOL_VERSION, "test")))

    def sent_by_client() -> None:
        number = chance.choice(sorted(users))
        kinds = (*get_args(c.ClientMessage), c.Spawn, c.Spawn, c.AttachJob, c.ClientRelease)
        message = speaker.say(chance.choice(kinds))
        if isinstance(message, c.Spawn) and given and chance.random() < 0.5:
            message = replace(chance.choice(given), again=chance.random() < 0.5)
        if isinstance(message, c.Spawn):
            asked[message.request] = message
        try:
            head.give(FromClient(number, message))
        except ProtocolError:
            head.give(ClientClosed(number, chance.random() < 0.5))
            client(number)
            raise

    def sent_by_node() -> None:
        node = chance.randrange(3)
        if chance.random() < 0.05:
            head.attach(node, [speaker.say(m.JobInventory) for _ in range(chance.randrange(3))])
            return
        kind = chance.choice((*get_args(m.LinkMessage), *[m.Up] * 20, *[m.Report] * 5))
        if kind is m.Up:
            payload = speaker.say(chance.choice(get_args(m.NodePayload)))
            message: Any = m.Up(chance.choice((node, node, node, 0, 1, 2, 99, 1 << 40)), m.encode(payload))
        else:
            message = speaker.say(kind)
        try:
            head.give(Received(head.links[node], message))
        except ProtocolError:
            head.give(LinkClosed(head.links[node], "broken"))
            head.attach(node)
            raise

    def time_passes() -> None:
        due = timers.next(chance)
        if due is not None:
            head.now = max(head.now, due[1])
            head.give(TimerFired(due[0]))

    def trouble() -> None:
        number = chance.choice(sorted(users))
        head.give(ClientClosed(number, chance.random() < 0.5))
        client(number)
        if chance.random() < 0.1:
            head.give(NodesRemoved(chance.choice(((), (1,), (9,)))))

    asked: dict[int, c.Spawn] = {}
    given = [launch for uid in users.values() for launch in acknowledged_before(uid)]
    for node in range(3):
        head.attach(node)
    for number in users:
        client(number)
    for _ in range(count):
        head.looked()
        step = chance.choices((sent_by_client, sent_by_node, time_passes, trouble), (45, 45, 9, 1))[0]
        try:
            step()
            taken += 1
        except ProtocolError:
            broken += 1
        timers.note(head.sent)
        for node in range(3):
            if head.links[node] not in head.machine.context.below.by_link:
                head.attach(node)
        for item in head.sent:
            if isinstance(item, ToClient) and isinstance(item.message, c.Spawned):
                spawned = item.message
                speaker.jobs = [*JOBS, spawned.job]
                if spawned.receipt and spawned.request in asked:
                    again = asked[spawned.request]
                    given.append(replace(again, job=spawned.job, runs=spawned.runs, receipt=spawned.receipt))
                    del given[20:]
    return taken, broken


@pytest.mark.parametrize("epoch", [1, 2])
def test_whatever_clients_and_nodes_say_a_head_answers_or_refuses(epoch: int) -> None:
    taken, broken = head_under_fire(random.Random(SEED + epoch), WORDS, epoch)
    # Both must have been met often, or the words test nothing.
    assert taken > WORDS // 2
    assert broken > WORDS // 200
