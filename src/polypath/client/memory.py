"""Memory for arrays that come from the cluster or are copied on their way to it, used again.

Memory that is new to a process costs more to set up than to fill. So the memory of a large array is kept when nobody
holds the array any more, for the next of its size.
"""

from __future__ import annotations

import math
import mmap
import weakref
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from polypath.transport.bulk import mapped

_LEAST: Final = 64 << 10
"""Bytes of an array from which on its memory is kept; the C library keeps smaller pieces itself."""
_MOST: Final = 256 << 20
"""Bytes that are kept."""
_MOST_PIECES: Final = 64
"""Pieces that are kept, as all are looked through for one of the right size."""

_kept: list[mmap.mmap] = []
"""The oldest first. Threads, and destructors amid them, take and give without a lock: by steps of the interpreter."""


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """As `numpy.empty`."""
    size = math.prod(shape) * dtype.itemsize
    if not _LEAST <= size <= _MOST:
        return np.empty(shape, dtype)
    memory = _take(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    # Whoever has a part of it holds `whole`.
    weakref.finalize(whole, _give, memory).atexit = False
    return whole[:size].view(dtype).reshape(shape)


def _take(size: int) -> mmap.mmap:
    for memory in reversed(tuple(_kept)):
        if len(memory) == size:
            try:
                _kept.remove(memory)
            except ValueError:  # Another thread has it.
                continue
            return memory
    return mapped(size)


def _give(memory: mmap.mmap) -> None:
    _kept.append(memory)
    while len(_kept) > _MOST_PIECES or sum(map(len, tuple(_kept))) > _MOST:
        del _kept[:1]
