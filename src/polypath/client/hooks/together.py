"""Small arrays that are copied to the host one after another come together, as `jax.device_get` of many asks for them.

`copy_to_host_async()` of a small array makes it wanted. Wanted arrays are asked for by one program that only the
controller knows (`controller.exchanges`), at the latest when one of them is read, and before that as soon as they are
more than those under way: so the first goes at once, and each request is for about twice as many as the one before.
What goes wrong is left to jaxlib's way, which then tells of it. Seen on jax 0.10 to 0.12.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import jax
import numpy as np
import numpy.typing as npt

from polypath.client.hooks import waiting
from polypath.client.hooks.cluster import next_number
from polypath.client.landing import Landing

_errors: Any = jax.errors

_MOST_PARTS: Final = 1024
"""Shards that one request is for."""
_INDEX: Final = np.dtype(np.uint32)


class _Part(NamedTuple):
    """A shard."""

    start: tuple[int, ...]
    shape: tuple[int, ...]


class Together:
    """Small arrays of one session.

    Args:
        program_for: the controller's program that takes arrays of so many shards.
    """

    def __init__(self, landing: Landing, program_for: Callable[[int], Any]) -> None:
        self._landing = landing
        self._program_for = program_for
        self._lock = threading.RLock()  # Freeing an array calls `_drop`, wherever that happens.
        self._wanted: dict[int, weakref.ref[Any]] = {}
        """By the array's address, as are those below."""
        self._under_way: dict[int, tuple[weakref.ref[Any], _Request, int]] = {}
        """Its request, and its place among the request's arrays."""
        self._asked = 0
        """How many were asked for since one was read."""

    def want(self, array: Any) -> None:
        """The array is going to be read."""
        key = id(array)
        if array._npy_value is not None or waiting.is_asked_for(array):
            return
        with self._lock:
            if key in self._wanted or key in self._under_way:
                return
            self._wanted[key] = weakref.ref(array, lambda _: self._drop(key))
            if len(self._wanted) > self._asked:
                self._ask()

    def read(self, array: Any) -> npt.NDArray[Any] | None:
        """An array's elements, read-only; None where nobody wanted it, or they have to come another way."""
        key = id(array)
        if key not in self._under_way and key not in self._wanted:
            return None
        with self._lock:
            if self._wanted:
                self._ask()
            self._asked = 0
            _, request, place = self._under_way.pop(key, (None, None, 0))
        return None if request is None else request.elements(place)

    def _ask(self) -> None:
        wanted, self._wanted = self._wanted, {}  # Arrays may be freed meanwhile.
        arrays = [array for ref in wanted.values() if (array := ref()) is not None and not array.is_deleted()]
        self._asked += len(arrays)
        by_devices: dict[int, list[Any]] = {}
        for array in arrays:
            by_devices.setdefault(len(array.sharding.device_set), []).append(array)
        for devices, alike in by_devices.items():
            most = max(_MOST_PARTS // devices, 1)
            for some in (alike[at : at + most] for at in range(0, len(alike), most)):
                request = self._start(some, devices)
                if request is not None:
                    for place, array in enumerate(some):
                        self._under_way[id(array)] = wanted[id(array)], request, place

    def _start(self, arrays: Sequence[Any], devices: int) -> _Request | None:
        number = next_number()
        if len(arrays) == 1:  # The controller's program sends a single array as it is.
            arrays = [*arrays, *arrays]
        request = _Request(arrays)
        self._landing.expect(number, request.room)
        weakref.finalize(request, self._landing.forget, number)
        try:
            came = waiting.start(self._program_for(devices), arrays, number)
        except (_errors.JaxRuntimeError, ValueError):  # One was donated, say: who reads it is told.
            return None
        if came is None:
            return None
        request.came = came
        return request

    def _drop(self, key: int) -> None:
        self._wanted.pop(key, None)
        self._under_way.pop(key, None)


class _Request:
    """Arrays on their way."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.came: Callable[[], bool] = bool
        self._lock = threading.Lock()
        self._arrays = [(array.shape, array.dtype, _parts(array.sharding, array.shape)) for array in arrays]
        self._sizes = [math.prod(part.shape) * dtype.itemsize for _, dtype, parts in self._arrays for part in parts]
        """Bytes of each part."""
        self._firsts = [0, *itertools.accumulate(len(parts) for _, _, parts in self._arrays)]
        """The index of each array's first part."""
        self.room: npt.NDArray[np.uint8] = np.empty(len(self._sizes) * _INDEX.itemsize + sum(self._sizes), np.uint8)
        """Where they land, as `messages.ExportTogether` says."""
        self._bytes: bytes | None = None
        self._starts: list[int] = []
        """Where each part begins in these bytes."""
        self._done = False

    def elements(self, place: int) -> npt.NDArray[Any] | None:
        """The array at `place`, read-only, once it is there; None where it does not come."""
        if not self._done:
            with self._lock:
                if not self._done:
                    if self.came():
                        self._unpack()
                    self._done = True
        if self._bytes is None:
            return None
        shape, dtype, parts = self._arrays[place]
        first = self._firsts[place]
        if len(parts) == 1:
            return self._part(first, dtype, shape)
        found: Any = np.empty(shape, dtype)
        for index, part in enumerate(parts, first):
            box = tuple(slice(at, at + size) for at, size in zip(part.start, part.shape, strict=True))
            found[box] = self._part(index, dtype, part.shape)
        return found

    def _unpack(self) -> None:
        table = len(self._sizes) * _INDEX.itemsize
        order = self.room[:table].view(_INDEX)
        sizes = np.array(self._sizes)[order]
        starts = np.empty_like(sizes)
        starts[order] = np.cumsum(sizes) - sizes
        self._starts = starts.tolist()
        self._bytes = self.room[table:].tobytes()

    def _part(self, index: int, dtype: Any, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        assert self._bytes is not None
        start = self._starts[index]
        return np.frombuffer(self._bytes[start : start + self._sizes[index]], dtype).reshape(shape)


def _parts(sharding: Any, shape: tuple[int, ...]) -> list[_Part]:
    """The shards that differ, in the order of where they begin, which is how the controller counts them."""
    if sharding.is_fully_replicated:
        return [_Part((0,) * len(shape), shape)]
    starts = {tuple(each.start or 0 for each in index) for index in sharding.devices_indices_map(shape).values()}
    size = sharding.shard_shape(shape)
    return [_Part(start, size) for start in sorted(starts)]
