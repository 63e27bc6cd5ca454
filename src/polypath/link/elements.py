"""Elements of arrays on a stream: sent from where they are, and read to where they stay.

What goes over is dense and row-major, whatever the strides at either end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from polypath.transport.bulk import Source, fill

_PIECE: Final = 2 << 20
"""Bytes that are put in order at a time where they are not: few enough to stay in the processor's caches."""


def plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """As plain numbers of the same size: numpy copies those faster than added types, and without the GIL."""
    return array.view(f"u{array.itemsize}" if array.itemsize <= 8 else np.complex128)


class Sink(Protocol):
    """What bytes can be sent on, as a socket."""

    def sendall(self, data: Any, /) -> None: ...


def send(stream: Sink, array: npt.NDArray[Any]) -> None:
    """Send all elements.

    Raises:
        OSError: the stream ended.
    """
    for part in _parts(array):
        stream.sendall(_memory(np.ascontiguousarray(part)))


def receive(stream: Source, array: npt.NDArray[Any]) -> None:
    """Fill all of `array`.

    Raises:
        OSError: the stream ended.
    """
    for part in _parts(array):
        room = part if part.flags.c_contiguous else np.empty(part.shape, part.dtype)
        if not fill(stream, _memory(room)):
            raise ConnectionResetError("the stream ended amid an array")
        if room is not part:
            part[...] = room


def pieces(shape: tuple[int, ...], most: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Boxes (start and shape) of at most `most` elements each that make up `shape`, in row-major order."""
    if math.prod(shape) <= most:
        yield (0,) * len(shape), shape
        return
    first, *rest = shape
    rows = most // math.prod(rest)
    if rows:
        for at in range(0, first, rows):
            yield (at, *(0 for _ in rest)), (min(rows, first - at), *rest)
        return
    for at in range(first):
        for start, part in pieces(tuple(rest), most):
            yield (at, *start), (1, *part)


def slices(start: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """The index of that box."""
    return tuple(slice(at, at + size) for at, size in zip(start, shape, strict=True))


def _parts(array: npt.NDArray[Any]) -> Iterator[npt.NDArray[Any]]:
    if array.flags.c_contiguous:
        yield array
        return
    for start, shape in pieces(array.shape, _PIECE // array.itemsize):
        yield array[slices(start, shape)]


def _memory(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data
