"""The few XLA protos a worker reads or writes by hand, by field number.

The worker knows no protobuf schema (the frontend does); these are small and stable.
Numbers are from `xla/xla_data.proto`, `xla/service/hlo.proto`,
`xla/pjrt/proto/executable_metadata.proto` and IFRT proxy's `StringArrayContents`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

REPLICATED = b""
"""An `OpSharding` of type REPLICATED, its default."""


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
        at = 0
        while at < len(value):
            item, at = _varint(value, at)
            found.append(item)
    return tuple(found)


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


def layout(minor_to_major: Sequence[int]) -> bytes:
    """A `LayoutProto` without tiles."""
    # XLA writes -1 for a tail padding that is not set, and so reads 0 as such; 1 is its default.
    return packed(1, minor_to_major) + number(16, 1)


def minor_to_major(layout_proto: bytes) -> tuple[int, ...]:
    """The dimension order of a `LayoutProto`."""
    return repeated(layout_proto, 1)


def tiled(
    dimensions: Sequence[int],
    reshape: Sequence[int],
    permutation: Sequence[int],
    replicate_last: bool,
) -> bytes:
    """An `OpSharding` that deals out an iota of devices."""
    return (
        number(1, 3)
        + packed(3, dimensions)
        + number(6, int(replicate_last))
        + packed(9, reshape)
        + packed(10, permutation)
    )


def strings(data: bytes | memoryview) -> list[bytes]:
    """The elements of a `StringArrayContents`."""
    return [bytes(value) for field, value in fields(data) if field == 1 and not isinstance(value, int)]


def string_contents(elements: Iterable[bytes]) -> bytes:
    """A `StringArrayContents`."""
    return b"".join(b"\x0a" + varint(len(each)) + each for each in elements)


def aliased_parameters(module: bytes) -> tuple[int, ...]:
    """The parameters of an `HloModuleProto` whose buffers its results take over."""
    found: set[int] = set()
    for field, config in fields(module):
        if field != 8 or isinstance(config, int):
            continue
        for _, entry in fields(config):
            if not isinstance(entry, int):
                found.add(next((value for name, value in _ints(entry) if name == 2), 0))
    return tuple(sorted(found))


def _ints(data: memoryview) -> Iterator[tuple[int, int]]:
    return ((name, value) for name, value in fields(data) if isinstance(value, int))
