"""msgpack for short messages, in Python: a command that says little starts 5 ms sooner without the compiled module.

Format: https://github.com/msgpack/msgpack/blob/master/spec.md, without its extension types.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_FLOATS = {0xCA: (4, ">f"), 0xCB: (8, ">d")}
_LENGTH_BYTES = {
    0xC4: 1, 0xC5: 2, 0xC6: 4,
    0xD9: 1, 0xDA: 2, 0xDB: 4,
    0xDC: 2, 0xDD: 4,
    0xDE: 2, 0xDF: 4,
}  # fmt: skip
"""How long the length is: of bytes, strings, arrays and maps."""
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


def packb(value: Any) -> bytes:
    """Return the value as msgpack.

    Raises
    ------
    TypeError, ValueError
        If it has a type that we never send, or an integer beyond 64 bits.
    """
    out = bytearray()
    _write(out, value)
    return bytes(out)


def _write(out: bytearray, value: Any) -> None:
    kind = type(value)
    if kind is bytes:
        _write_head(out, len(value), 0, -1, 0xC4)
        out += value
    elif kind is int:
        _write_integer(out, value)
    elif kind is str:
        data = value.encode()
        _write_head(out, len(data), 0xA0, 31, 0xD9)
        out += data
    elif value is None or kind is bool:
        out.append(0xC0 if value is None else 0xC3 if value else 0xC2)
    elif kind is list or kind is tuple:
        _write_head(out, len(value), 0x90, 15, 0xDB)
        for item in value:
            _write(out, item)
    elif kind is dict:
        _write_head(out, len(value), 0x80, 15, 0xDD)
        for key, item in value.items():
            _write(out, key)
            _write(out, item)
    elif kind is bytearray or kind is memoryview:
        _write(out, bytes(value))
    elif kind is float:
        from struct import pack  # an import that most messages do not need

        out += b"\xcb" + pack(">d", value)
    else:
        raise TypeError(f"cannot pack a {kind.__name__}")


def _write_head(out: bytearray, length: int, short: int, short_limit: int, first: int) -> None:
    """Write type and length; `first` is the code of the form with a length of one byte, whether it exists or not."""
    if length <= short_limit:
        out.append(short | length)
    elif length < 0x100 and first in _LENGTH_BYTES and _LENGTH_BYTES[first] == 1:
        out += bytes((first, length))
    elif length < 0x10000:
        out.append(first + 1)
        out += length.to_bytes(2, "big")
    else:
        out.append(first + 2)
        out += length.to_bytes(4, "big")


def _write_integer(out: bytearray, value: int) -> None:
    if -0x20 <= value < 0x80:
        out.append(value & 0xFF)
        return
    for code, size in (0xCC, 1), (0xCD, 2), (0xCE, 4), (0xCF, 8):
        if value > 0 and value >> 8 * size == 0:
            out.append(code)
            out += value.to_bytes(size, "big")
            return
        if value < 0 and value >= -1 << 8 * size - 1:
            out.append(code + 4)
            out += value.to_bytes(size, "big", signed=True)
            return
    raise ValueError(f"the integer {value} has more than 64 bits")


def unpackb(data: memoryview) -> Any:
    """Return the value of which `data` is the msgpack.

    Raises
    ------
    ValueError, IndexError, TypeError, RecursionError
        If it is not, or has an extension type.
    """
    value, end = _read(data, 0)
    if end != len(data):
        raise ValueError(f"{len(data) - end} bytes follow the value")
    return value


def _read(data: memoryview, at: int) -> tuple[Any, int]:
    code = data[at]
    at += 1
    if code < 0x80:
        return code, at
    if code >= 0xE0:
        return code - 0x100, at
    if code >= 0xC0:
        if 0xCC <= code <= 0xD3:
            size = 1 << (code & 3)
            return int.from_bytes(_slice(data, at, size), "big", signed=code >= 0xD0), at + size
        if code in _FLOATS:
            from struct import unpack

            size, form = _FLOATS[code]
            return unpack(form, _slice(data, at, size))[0], at + size
        if code in _CONSTANTS:
            return _CONSTANTS[code], at
        if code not in _LENGTH_BYTES:
            raise ValueError(f"the type {code:#x} is not used here")
        size = _LENGTH_BYTES[code]
        length = int.from_bytes(_slice(data, at, size), "big")
        at += size
        if code <= 0xC6:
            return _slice(data, at, length), at + length
    elif code >= 0xA0:
        length, code = code & 31, 0xD9
    elif code >= 0x90:
        length, code = code & 15, 0xDC
    else:
        length, code = code & 15, 0xDE
    if code <= 0xDB:
        return _slice(data, at, length).decode(), at + length
    if code <= 0xDD:
        items = []
        for _ in range(length):
            item, at = _read(data, at)
            items.append(item)
        return items, at
    entries: dict[Any, Any] = {}
    for _ in range(length):
        key, at = _read(data, at)
        entries[key], at = _read(data, at)
    return entries, at


def _slice(data: memoryview, at: int, length: int) -> bytes:
    if at + length > len(data):
        raise ValueError("the data ends within a value")
    return bytes(data[at : at + length])
