"""Where each shard of an array lies in the whole, from XLA's `OpSharding`.

The controller needs it to cut arrays anew (`Reshard`) and to know the shape of a single shard.
Field numbers are those of `xla.OpSharding`; a test holds them against the installed jaxlib.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Final

from polypath import protos
from polypath.errors import ProtocolError
from polypath.link.protocol import Box
from polypath.types import Sharding

_REPLICATED: Final = 0
_MAXIMAL: Final = 1
_OTHER: Final = 3
_MANUAL: Final = 4
_UNKNOWN: Final = 5
_UNREDUCED: Final = 6
_WHOLE_EACH: Final = (_MAXIMAL, _MANUAL, _UNKNOWN, _UNREDUCED)
"""Each device has a shard of the whole's shape; what the whole consists of is not said."""

_TYPE: Final = 1
_TILE_DIMENSIONS: Final = 3
_TILE_DEVICES: Final = 4
_REPLICATE_LAST: Final = 6
_LAST_TILE_DIMS: Final = 8
_IOTA_RESHAPE: Final = 9
_IOTA_TRANSPOSE: Final = 10

_PACKED: Final = (_TILE_DIMENSIONS, _TILE_DEVICES, _LAST_TILE_DIMS, _IOTA_RESHAPE, _IOTA_TRANSPOSE)

_MOST_DIMENSIONS: Final = 255
"""Of a tile assignment; more than any array has."""


def shard_boxes(sharding: Sharding, shape: tuple[int, ...]) -> tuple[Box, ...]:
    """The box of each shard, in the order of `sharding.devices`.

    Raises:
        ProtocolError: the sharding does not say where its shards lie.
    """
    whole = Box((0,) * len(shape), shape)
    count = len(sharding.devices)
    if count == 1 or sharding.fully_replicated:
        return (whole,) * count
    if sharding.op_sharding is None:
        raise ProtocolError("The sharding does not say where its shards lie, so the array cannot be cut anew.")
    return _boxes(sharding.op_sharding, shape, count)


def shard_shapes(sharding: Sharding, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """The shape of each shard, in the order of `sharding.devices`."""
    given = sharding.shard_shapes
    if given is not None:
        return given if len(given) == len(sharding.devices) else given * len(sharding.devices)
    if sharding.op_sharding is not None and _kind(_read_fields(sharding.op_sharding)) in _WHOLE_EACH:
        return (shape,) * len(sharding.devices)
    return tuple(box.shape for box in shard_boxes(sharding, shape))


def intersection(one: Box, other: Box) -> Box | None:
    """The box that both share, or None where they share no element."""
    start = tuple(max(a, b) for a, b in zip(one.start, other.start, strict=True))
    end = tuple(min(a + m, b + n) for a, m, b, n in zip(one.start, one.shape, other.start, other.shape, strict=True))
    extent = tuple(e - s for s, e in zip(start, end, strict=True))
    return Box(start, extent) if all(e > 0 for e in extent) else None


def row_major_layout(rank: int) -> bytes:
    """A serialized XLA `LayoutProto` with the last dimension minor."""
    return bytes((0x0A, rank, *range(rank - 1, -1, -1))) if rank else b""


@functools.lru_cache(maxsize=4096)
def _boxes(op_sharding: bytes, shape: tuple[int, ...], count: int) -> tuple[Box, ...]:
    fields = _read_fields(op_sharding)
    kind = _kind(fields)
    if kind == _REPLICATED:
        return (Box((0,) * len(shape), shape),) * count
    if kind != _OTHER:
        raise ProtocolError(f"A sharding of XLA's type {kind} does not say where its shards lie.")
    return _tiled(fields, shape, count)


def _kind(fields: dict[int, list[int]]) -> int:
    return fields.get(_TYPE, [_REPLICATED])[-1]


def _tiled(fields: dict[int, list[int]], shape: tuple[int, ...], count: int) -> tuple[Box, ...]:
    dimensions = fields.get(_TILE_DIMENSIONS, [])
    subgroups = len(fields.get(_LAST_TILE_DIMS, [])) or int(bool(fields.get(_REPLICATE_LAST, [0])[-1]))
    if len(dimensions) != len(shape) + subgroups or not _counts(dimensions, count):
        raise ProtocolError(
            f"A sharding of tiles {dimensions[:8]} does not fit an array of {len(shape)} dimensions on {count} devices."
        )
    devices = fields.get(_TILE_DEVICES) or _iota(fields.get(_IOTA_RESHAPE, [count]), fields.get(_IOTA_TRANSPOSE), count)
    if sorted(devices) != list(range(count)):
        raise ProtocolError(f"A sharding does not name each of its {count} devices once.")
    tile = [-(-size // cuts) for size, cuts in zip(shape, dimensions, strict=False)]
    boxes: dict[int, Box] = {}
    for coordinates, device in zip(itertools.product(*map(range, dimensions)), devices, strict=True):
        start = tuple(min(c * t, n) for c, t, n in zip(coordinates, tile, shape, strict=False))
        extent = tuple(min(t, n - s) for s, t, n in zip(start, tile, shape, strict=True))
        boxes[device] = Box(start, extent)
    return tuple(boxes[device] for device in range(count))


def _counts(dimensions: Sequence[int], count: int) -> bool:
    """Whether `count` elements have that shape. Never multiplies what is too large for them."""
    if len(dimensions) > _MOST_DIMENSIONS or any(not 1 <= size <= count for size in dimensions):
        return False
    return math.prod(dimensions) == count


def _iota(dimensions: Sequence[int], transpose: Sequence[int] | None, count: int) -> list[int]:
    """0, 1, 2, ... in shape `dimensions`, transposed, read in row-major order."""
    order = transpose or range(len(dimensions))
    if not _counts(dimensions, count) or sorted(order) != list(range(len(dimensions))):
        raise ProtocolError(f"A sharding's order of {count} devices makes no sense.")
    strides = [math.prod(dimensions[i + 1 :]) for i in range(len(dimensions))]
    ranges = [range(0, dimensions[axis] * strides[axis], strides[axis]) for axis in order]
    return [sum(parts) for parts in itertools.product(*ranges)]


def _read_fields(data: bytes) -> dict[int, list[int]]:
    """All integer fields of a serialized message, packed or not; others are passed over."""
    found: dict[int, list[int]] = {}
    try:
        for number, value in protos.fields(data):
            if isinstance(value, int):
                found.setdefault(number, []).append(value)
            elif number in _PACKED:
                found.setdefault(number, []).extend(protos.varints(value))
    except ValueError as error:
        raise ProtocolError(f"A sharding is not a serialized OpSharding: {error}.") from None
    return found
