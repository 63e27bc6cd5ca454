"""How many bytes the values of torch's tensors take on the devices.

The one torch device stands for all devices, so sizes are sums over them: a value that lies whole on eight devices
counts eight times. What a program needs while it runs is not in here; the platform may count that
(`device_module.memory`)."""

from __future__ import annotations

import functools
import math
from typing import Final

import jax


class Account:
    """Bytes now, at most, and altogether."""

    __slots__ = ("allocated", "current", "freed", "peak")

    def __init__(self) -> None:
        self.current = 0
        self.peak = 0
        """The largest `current` since `reset_peak`."""
        self.allocated = 0
        """All bytes ever taken, since `reset_accumulated`."""
        self.freed = 0

    def take(self, size: int) -> None:
        self.current += size
        self.allocated += size
        if self.current > self.peak:  # noqa: PLR1730 - for each result of each program: max() takes three times as long.
            self.peak = self.current

    def give(self, size: int) -> None:
        self.current -= size
        self.freed += size

    def reset_peak(self) -> None:
        self.peak = self.current

    def reset_accumulated(self) -> None:
        self.allocated = self.freed = 0


account: Final = Account()
"""Of all tensors of the device in this process."""


def size_of(array: jax.Array) -> int:
    """Bytes of an array on all devices that hold a part or a copy of it."""
    return _size(array.shape, array.dtype.itemsize, array.sharding)


@functools.lru_cache(maxsize=16384)
def _size(shape: tuple[int, ...], itemsize: int, sharding: jax.sharding.Sharding) -> int:
    return math.prod(sharding.shard_shape(shape)) * itemsize * len(sharding.device_set)
