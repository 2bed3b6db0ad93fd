"""The small msgpack of the commands against the compiled one."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.client import short_msgpack

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.sampled_from(
        [sign * (1 << bits) + step for bits in (5, 7, 8, 15, 16, 31, 32) for sign in (1, -1) for step in (-1, 0, 1)]
    )
    | st.floats(allow_nan=False)
    | st.text(max_size=40)
    | st.binary(max_size=300)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=5), inner, max_size=20)
)
LONG = [
    b"x" * 70_000,
    "y" * 70_000,
    "z" * 300,
    [0] * 70_000,
    [1] * 16,
    {str(i): i for i in range(70_000)},
    {},
    [],
    b"",
    "",
]


@given(VALUES)
def test_both_say_the_same(value: Any) -> None:
    packed = short_msgpack.packb(value)
    assert packed == msgpack.packb(value)
    assert short_msgpack.unpackb(memoryview(packed)) == value


@pytest.mark.parametrize("value", LONG, ids=lambda value: f"{type(value).__name__}-{len(value)}")
def test_long_values_too(value: Any) -> None:
    packed = short_msgpack.packb(value)
    assert packed == msgpack.packb(value)
    assert short_msgpack.unpackb(memoryview(packed)) == value


@given(st.binary(max_size=60))
def test_what_is_no_msgpack_is_refused_or_means_the_same(data: bytes) -> None:
    try:
        value = short_msgpack.unpackb(memoryview(data))
    except (ValueError, IndexError, TypeError, RecursionError):
        return
    assert repr(value) == repr(msgpack.unpackb(data, strict_map_key=False))


@given(VALUES, st.data())
def test_a_part_is_refused(value: Any, data: st.DataObject) -> None:
    packed = short_msgpack.packb(value)
    part = packed[: data.draw(st.integers(0, len(packed) - 1))]
    with pytest.raises((ValueError, IndexError)):
        short_msgpack.unpackb(memoryview(part))


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        short_msgpack.packb(1 << 64)
    with pytest.raises(TypeError, match="complex"):
        short_msgpack.packb(1j)


def test_a_deep_nest_is_refused() -> None:
    with pytest.raises(RecursionError):
        short_msgpack.unpackb(memoryview(b"\x91" * 100_000 + b"\xc0"))
