"""Mutated frames: a decoder gives messages or `ProtocolError`, never another exception, and keeps nothing.

The number of mutations is `HEOROT_FUZZ_FRAMES`, 100,000 if it is not set; the seed `HEOROT_FUZZ_SEED`. A million::

    HEOROT_FUZZ_FRAMES=1000000 make test PYTEST_OPTIONS=tests/fuzz
"""

from __future__ import annotations

import gc
import os
import random
import struct

from heorot.core.errors import ProtocolError
from heorot.core.wire.framing import HEADER_BYTES, MAX_FRAME_BYTES, FrameDecoder
from tests.support.examples import CASES, DECODERS, encoded, example

FRAMES = int(os.environ.get("HEOROT_FUZZ_FRAMES", "100000"))
SEED = int(os.environ.get("HEOROT_FUZZ_SEED", "1"))
ALLOWED_GROWTH_BYTES = 8 * 1024 * 1024
"""The noise of the allocator; keeping every mutated frame would take ten times this with 100,000."""
NASTY = (
    b"\xc1",
    b"\xdd\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\x91" * 2000,
    b"\xa2\xff\xfe",
    b"\xcf" + b"\xff" * 8,
)


def resident_bytes() -> int:
    """Return this process's resident memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def mutate(chance: random.Random, payload: bytes, other: bytes) -> bytes:
    """Return the payload with one to three things wrong."""
    data = bytearray(payload)
    for _ in range(chance.randint(1, 3)):
        place = chance.randint(0, len(data))
        match chance.randrange(7):
            case 0 if data:
                data[place % len(data)] ^= 1 << chance.randrange(8)
            case 1 if data:
                data[place % len(data)] = chance.randrange(256)
            case 2:
                del data[place:]
            case 3:
                data[place:place] = chance.randbytes(chance.randint(1, 8))
            case 4:
                del data[place : place + chance.randint(1, 8)]
            case 5:
                data[place:] = other[chance.randint(0, len(other)) :]
            case _:
                data[place:place] = chance.choice(NASTY)
    return bytes(data)


def frame(chance: random.Random, payload: bytes) -> bytes:
    """Return the payload in a frame, whose length is a lie now and then."""
    length = len(payload)
    if chance.random() < 0.02:
        length = chance.choice([0, length - 1, length + 1, MAX_FRAME_BYTES, MAX_FRAME_BYTES + 1, (1 << 32) - 1])
    return struct.pack(">I", max(length, 0)) + payload


def run(chance: random.Random, corpus: list[bytes], count: int) -> tuple[int, int]:
    """Decode `count` mutated frames; return how many were accepted by some decoder and how many refused by one."""
    accepted = refused = 0
    decoder = FrameDecoder()
    for _ in range(count):
        data = frame(chance, mutate(chance, chance.choice(corpus), chance.choice(corpus)))
        place = chance.randint(0, len(data))
        try:
            payloads = decoder.feed(data[:place]) + decoder.feed(memoryview(data)[place:])
        except ProtocolError:
            decoder = FrameDecoder()
            refused += 1
            continue
        assert decoder.buffered_bytes <= HEADER_BYTES + MAX_FRAME_BYTES
        if decoder.buffered_bytes:
            decoder = FrameDecoder()  # After a lie about the length everything that follows would be read shifted.
        for payload in payloads:
            for decode, _ in DECODERS:
                try:
                    decode(payload)
                    accepted += 1
                except ProtocolError:
                    refused += 1
    return accepted, refused


def test_mutated_frames_give_messages_or_the_one_error_and_leave_nothing() -> None:
    chance = random.Random(SEED)
    corpus = [encoded(example(chance, kind)) for _, kind in CASES for _ in range(8)]
    run(chance, corpus, 5000)  # The allocator and caches of the interpreter reach their size.
    gc.collect()
    before_bytes = resident_bytes()
    accepted, refused = run(chance, corpus, FRAMES)
    gc.collect()
    assert resident_bytes() - before_bytes < ALLOWED_GROWTH_BYTES
    # Both kinds must have been met often, or the mutations test nothing.
    assert accepted > FRAMES // 20
    assert refused > FRAMES
