"""Array bytes between the host's memory and numpy: inline, or in files of shared memory.

Names of these files are no `Path`s: pathlib interns every part of a name, and the interpreter's table
of interned strings grows by what passes through it.
"""

from __future__ import annotations

import itertools
import math
import mmap
import os
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from polypath.messages import Bytes, HostBuffer, Inline, Shared
from polypath.types import Code
from polypath.worker.failures import WorkerFailure

INLINE_BYTES = 64 << 10
"""What is larger goes through shared memory, if there is a folder for it."""
_SCARCE = 2
"""Shared memory is scarce when less than one part in so many is free."""
_ALIGNED = 64
"""Bytes; what XLA wants of memory that it is to share."""
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


def read(data: Bytes) -> bytes | memoryview:
    """The bytes. A shared file is mapped and unlinked: it lives as long as the map.

    Where less than half of shared memory is free they are copied out of it, so that arrays that stay do not fill it.

    Raises:
        WorkerFailure: the file is not there, or is shorter than was said.
    """
    if isinstance(data, bytes):
        return data
    try:
        with open(data.path, "rb") as file:
            found = os.fstat(file.fileno()).st_size
            # Private, not read-only: numpy may hand it on as memory that is free to use.
            mapped = mmap.mmap(file.fileno(), data.size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) \
                if data.size and found >= data.size else b""  # fmt: skip
        os.unlink(data.path)
    except OSError as error:
        raise WorkerFailure(
            Code.DATA_LOSS,
            f"The shared memory file {data.path} cannot be read ({error.strerror}); put the array again.",
        ) from error
    if found < data.size:
        raise WorkerFailure(
            Code.DATA_LOSS,
            f"The shared memory file {data.path} has {found} bytes instead of {data.size}; put the array again.",
        )
    if data.size and _is_scarce(os.path.dirname(data.path)):
        return _copy(mapped)
    return memoryview(mapped)


def _is_scarce(folder: str) -> bool:
    found = os.statvfs(folder)
    return found.f_bavail * _SCARCE < found.f_blocks


def _copy(data: mmap.mmap | bytes) -> memoryview:
    """Aligned, so that a device of this host need not copy them again."""
    room: npt.NDArray[np.uint8] = np.empty(len(data) + _ALIGNED, np.uint8)
    start = -room.ctypes.data % _ALIGNED
    own = room[start : start + len(data)]
    own[...] = np.frombuffer(data, np.uint8)
    return own.data


def array_of(buffer: HostBuffer, dtype: str) -> npt.NDArray[Any]:
    """The buffer as an array; a view of its bytes.

    Raises:
        WorkerFailure: its shape and strides reach beyond its bytes.
    """
    kind, data = numpy_dtype(dtype), read(buffer.data)
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


class Outbox:
    """Bytes on their way out: inline if they are few, else files in a folder of shared memory."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._names = itertools.count()

    def pack(self, data: npt.NDArray[Any] | memoryview | bytes) -> Inline | Shared:
        size = data.nbytes if not isinstance(data, bytes) else len(data)
        if not self._folder or size <= INLINE_BYTES:
            return Inline(data if isinstance(data, bytes) else data.tobytes())
        flat = (
            data
            if isinstance(data, bytes)
            else memoryview(data).cast("B")
            if isinstance(data, memoryview)
            else data.reshape(-1).view(np.uint8).data
        )
        path = f"{self._folder}/f{os.getpid()}_{next(self._names)}"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            written = 0
            while written < size:
                written += os.write(handle, flat[written:])
        except OSError as error:
            os.unlink(path)
            raise WorkerFailure(
                Code.RESOURCE_EXHAUSTED,
                f"Shared memory in {self._folder} has no room for {size} bytes ({error.strerror}); "
                "free some, or use a larger folder.",
            ) from error
        finally:
            os.close(handle)
        return Shared(path, size)
