"""Protobuf's wire format, for the few small and stable messages that are read or written by field number.

Only the frontend has schemas and protobuf's library: the controller and the workers know neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def fields(data: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The fields of a message: number, and a varint's value or the bytes of anything longer.

    Raises:
        ValueError: the message is truncated or malformed.
    """
    view, at = memoryview(data), 0
    while at < len(view):
        key, at = _varint(view, at)
        match key & 7:
            case 0:
                value, at = _varint(view, at)
                yield key >> 3, value
                continue
            case 1:
                size = 8
            case 2:
                size, at = _varint(view, at)
            case 5:
                size = 4
            case kind:
                raise ValueError(f"a protobuf message has a field of unknown wire type {kind}")
        if at + size > len(view):
            raise ValueError("a protobuf message is truncated")
        yield key >> 3, view[at : at + size]
        at += size


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(view) or shift > 63:
            raise ValueError("a protobuf message is truncated")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def repeated(data: bytes | memoryview, number: int) -> tuple[int, ...]:
    """A repeated integer field, packed or not."""
    found: list[int] = []
    for field, value in fields(data):
        if field != number:
            continue
        if isinstance(value, int):
            found.append(value)
            continue
        found.extend(varints(value))
    return tuple(found)


def varints(packed: memoryview) -> Iterator[int]:
    """The numbers in a packed field.

    Raises:
        ValueError: they are truncated.
    """
    at = 0
    while at < len(packed):
        value, at = _varint(packed, at)
        yield value


def varint(value: int) -> bytes:
    """A non-negative number, as the wire has it (a negative one as its 64-bit complement)."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """An integer field; absent where it is zero, as proto3 has it."""
    return varint(field << 3) + varint(value) if value else b""


def packed(field: int, values: Sequence[int]) -> bytes:
    """A packed repeated integer field."""
    body = b"".join(map(varint, values))
    return varint(field << 3 | 2) + varint(len(body)) + body if body else b""
