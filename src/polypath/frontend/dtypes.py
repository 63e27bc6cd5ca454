"""Element types: the wire's numbers, numpy's and ml_dtypes' names, and their size in host memory."""

from __future__ import annotations

import math
from typing import Final

from polypath.frontend.refused import invalid
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import DTYPES, element_size

# The wire names its types as XLA does. A token has no bytes, and those of a string follow from no shape: it is a
# serialized StringArrayContents.
_NUMBERS: Final[dict[str, pb.DTypeProto.Kind]] = {
    name: pb.DTypeProto.Kind.Value(f"KIND_{primitive}")  # pyright: ignore
    for name, primitive in (*DTYPES.items(), ("token", "TOKEN"), ("string", "STRING"))
}
_NAMES: Final[dict[int, str]] = {number: name for name, number in _NUMBERS.items()}
_SIZES: Final = {name: element_size(name) for name in DTYPES} | {"token": 0, "string": 0}


def decode(dtype: pb.DTypeProto) -> str:
    """The name of a wire type.

    Raises:
        Refused: it has none in numpy or ml_dtypes.
    """
    name = _NAMES.get(dtype.kind)
    if name is None:
        raise invalid(f"Element type {dtype.kind} of the wire has no counterpart in numpy or ml_dtypes.")
    return name


def encode(name: str) -> pb.DTypeProto:
    """The wire type of a name."""
    return pb.DTypeProto(kind=_NUMBERS[name])


def dense_strides(dtype: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Bytes from one element to the next in each dimension, row-major without gaps."""
    strides: list[int] = []
    step = _SIZES[dtype]
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def host_size(dtype: str, shape: tuple[int, ...], strides: tuple[int, ...] | None) -> int | None:
    """How many bytes a client sends for an array; None where the shape does not say.

    Raises:
        Refused: no client's memory can be strided so.
    """
    if dtype == "string":
        return None
    size = _SIZES[dtype]
    if strides is None or 0 in shape or size == 0:
        return math.prod(shape) * size
    last = 0
    for length, stride in zip(shape, strides, strict=True):
        if length == 1:
            continue
        if stride <= 0 or stride % size:
            raise invalid(f"Byte strides {strides} do not fit elements of {size} bytes in shape {shape}.")
        last += stride * (length - 1)
    return last + size
