"""Element types: the wire's numbers, numpy's and ml_dtypes' names, and their size in host memory."""

from __future__ import annotations

import math
from typing import Final

from polypath.frontend.refused import invalid
from polypath.frontend.wire import ifrt_pb2 as pb

# Wire number -> (name, bytes of one element in host memory).
_TYPES: Final[dict[int, tuple[str, int]]] = {
    pb.DTypeProto.KIND_PRED: ("bool", 1),
    # Types of less than a byte take a byte each in host memory.
    pb.DTypeProto.KIND_S1: ("int1", 1),
    pb.DTypeProto.KIND_S2: ("int2", 1),
    pb.DTypeProto.KIND_S4: ("int4", 1),
    pb.DTypeProto.KIND_S8: ("int8", 1),
    pb.DTypeProto.KIND_S16: ("int16", 2),
    pb.DTypeProto.KIND_S32: ("int32", 4),
    pb.DTypeProto.KIND_S64: ("int64", 8),
    pb.DTypeProto.KIND_U1: ("uint1", 1),
    pb.DTypeProto.KIND_U2: ("uint2", 1),
    pb.DTypeProto.KIND_U4: ("uint4", 1),
    pb.DTypeProto.KIND_U8: ("uint8", 1),
    pb.DTypeProto.KIND_U16: ("uint16", 2),
    pb.DTypeProto.KIND_U32: ("uint32", 4),
    pb.DTypeProto.KIND_U64: ("uint64", 8),
    pb.DTypeProto.KIND_F4E2M1FN: ("float4_e2m1fn", 1),
    pb.DTypeProto.KIND_F6E2M3FN: ("float6_e2m3fn", 1),
    pb.DTypeProto.KIND_F6E3M2FN: ("float6_e3m2fn", 1),
    pb.DTypeProto.KIND_F8E3M4: ("float8_e3m4", 1),
    pb.DTypeProto.KIND_F8E4M3: ("float8_e4m3", 1),
    pb.DTypeProto.KIND_F8E4M3FN: ("float8_e4m3fn", 1),
    pb.DTypeProto.KIND_F8E4M3B11FNUZ: ("float8_e4m3b11fnuz", 1),
    pb.DTypeProto.KIND_F8E4M3FNUZ: ("float8_e4m3fnuz", 1),
    pb.DTypeProto.KIND_F8E5M2: ("float8_e5m2", 1),
    pb.DTypeProto.KIND_F8E5M2FNUZ: ("float8_e5m2fnuz", 1),
    pb.DTypeProto.KIND_F8E8M0FNU: ("float8_e8m0fnu", 1),
    pb.DTypeProto.KIND_F16: ("float16", 2),
    pb.DTypeProto.KIND_BF16: ("bfloat16", 2),
    pb.DTypeProto.KIND_F32: ("float32", 4),
    pb.DTypeProto.KIND_F64: ("float64", 8),
    pb.DTypeProto.KIND_C64: ("complex64", 8),
    pb.DTypeProto.KIND_C128: ("complex128", 16),
    pb.DTypeProto.KIND_TOKEN: ("token", 0),
    # A serialized StringArrayContents: its size follows from no shape.
    pb.DTypeProto.KIND_STRING: ("string", 0),
}
_NAMES: Final = {number: name for number, (name, _) in _TYPES.items()}
_NUMBERS: Final[dict[str, pb.DTypeProto.Kind]] = {
    name: pb.DTypeProto.Kind.Value(pb.DTypeProto.Kind.Name(number)) for number, name in _NAMES.items()
}  # type: ignore[arg-type]
_SIZES: Final = dict(_TYPES.values())


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
