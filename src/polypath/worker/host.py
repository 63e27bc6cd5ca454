"""Array bytes between messages and numpy."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from polypath.messages import MOST_INLINE, HostBuffer, Memory
from polypath.types import Code
from polypath.worker.failures import WorkerFailure

OPAQUE = ("string", "token")
"""Types that only clients understand; their shards are bytes."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """numpy's or ml_dtypes' type of that name.

    Raises:
        WorkerFailure: there is none.
    """
    try:
        return np.dtype(getattr(ml_dtypes, name, name))
    except TypeError:
        raise WorkerFailure(Code.UNIMPLEMENTED, f"No device has arrays of type {name}.") from None


def array_of(buffer: HostBuffer, dtype: str) -> npt.NDArray[Any]:
    """The buffer as an array; a view of its bytes.

    Raises:
        WorkerFailure: its shape and strides reach beyond its bytes.
    """
    kind, data = numpy_dtype(dtype), buffer.data
    strides, offset = buffer.strides, 0
    if strides is not None:
        # A negative stride's array begins at its last byte in memory: the data starts lower.
        offset = (
            -sum(min(0, (n - 1) * s) for n, s in zip(buffer.shape, strides, strict=True))
            if math.prod(buffer.shape)
            else 0
        )
    try:
        return np.ndarray(buffer.shape, kind, data, offset, strides)
    except (ValueError, TypeError) as error:
        raise WorkerFailure(
            Code.INVALID_ARGUMENT,
            f"A host buffer of {len(data)} bytes does not hold {dtype}{list(buffer.shape)} "
            f"with strides {strides} ({error}).",
        ) from error


def strided(array: npt.NDArray[Any], strides: tuple[int, ...] | None) -> npt.NDArray[Any] | memoryview:
    """The array's elements laid out by `strides`; dense and row-major for None.

    Raises:
        WorkerFailure: such strides cannot be filled.
    """
    dense = np.ascontiguousarray(array).reshape(array.shape)
    if strides is None or strides == dense.strides or array.size == 0:
        return dense
    if len(strides) != array.ndim or any(stride < 0 for stride in strides):
        raise WorkerFailure(
            Code.INVALID_ARGUMENT, f"An array of shape {array.shape} cannot be laid out with strides {strides}."
        )
    size = sum((n - 1) * s for n, s in zip(array.shape, strides, strict=True)) + array.itemsize
    out = bytearray(size)
    np.ndarray(array.shape, array.dtype, out, 0, strides)[...] = array
    return memoryview(out)


def packed(data: npt.NDArray[Any] | memoryview | bytes) -> Memory:
    """The bytes of dense elements, for a report. They are not copied.

    Raises:
        WorkerFailure: they are more than a report can have.
    """
    view = data.reshape(-1).view(np.uint8).data if isinstance(data, np.ndarray) else memoryview(data)
    if view.nbytes > MOST_INLINE:
        raise WorkerFailure(
            Code.RESOURCE_EXHAUSTED,
            f"A shard of {view.nbytes} bytes cannot go to the client in one piece, which has at most {MOST_INLINE}: "
            "read parts of the array.",
        )
    return Memory(view)
