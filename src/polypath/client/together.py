"""Small arrays that are copied to the host one after another come together, as `jax.device_get` of many asks for them.

`copy_to_host_async()` of a small array makes it wanted. Wanted arrays are asked for by one request
(`client.transfers`), at the latest when one of them is read, and before that as soon as they are
more than those under way: so the first goes at once, and each request is for about twice as many as the one before.
What goes wrong is left to jaxlib's way, which then tells of it. Seen on jax 0.10 to 0.12.
"""

from __future__ import annotations

import itertools
import math
import threading
import weakref
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from polypath.client.transfers import DOWN_BYTES, Transfers
from polypath.link.client import Request
from polypath.link.elements import slices

_MOST_PARTS: Final = 1024
"""Shards that one request is for."""
_INDEX: Final = np.dtype(np.uint32)


class _Part(NamedTuple):
    """A shard."""

    start: tuple[int, ...]
    shape: tuple[int, ...]


class Together:
    """Small arrays of one session."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers
        self._lock = threading.RLock()  # Freeing an array calls `_drop`, wherever that happens.
        self._wanted: dict[int, weakref.ref[Any]] = {}
        """By the array's address, as are those below."""
        self._under_way: dict[int, tuple[weakref.ref[Any], _Group, int]] = {}
        """Its group, and its place among the group's arrays."""
        self._asked = 0
        """How many were asked for since one was read."""

    def want(self, array: Any) -> bool:
        """The array is going to be read; False where it does not come like this."""
        size, where = array.size * array.dtype.itemsize, self._transfers.where(array)
        if where is None or array.dtype.kind in "OT" or size >= DOWN_BYTES:
            return False
        key = id(array)
        with self._lock:
            if size and key not in self._wanted and key not in self._under_way:
                self._wanted[key] = weakref.ref(array, lambda _: self._drop(key))
                if len(self._wanted) > self._asked:
                    self._ask()
        return True

    def read(self, array: Any) -> npt.NDArray[Any] | None:
        """An array's elements, read-only; None where nobody wanted it, or they have to come another way."""
        key = id(array)
        if key not in self._under_way and key not in self._wanted:
            return None
        with self._lock:
            if self._wanted:
                self._ask()
            self._asked = 0
            _, group, place = self._under_way.pop(key, (None, None, 0))
        return None if group is None else group.elements(place)

    def _ask(self) -> None:
        wanted, self._wanted = self._wanted, {}  # Arrays may be freed meanwhile.
        arrays = [array for ref in wanted.values() if (array := ref()) is not None and not array.is_deleted()]
        self._asked += len(arrays)
        by_place: dict[Any, list[Any]] = {}
        for array in arrays:
            by_place.setdefault(self._transfers.where(array), []).append(array)
        for where, alike in by_place.items():
            most = max(_MOST_PARTS // where.devices, 1)
            for some in (alike[at : at + most] for at in range(0, len(alike), most)):
                group = self._start(some)
                if group is not None:
                    for place, array in enumerate(some):
                        self._under_way[id(array)] = wanted[id(array)], group, place

    def _start(self, arrays: Sequence[Any]) -> _Group | None:
        if len(arrays) == 1:  # The workers send a single array as it is.
            arrays = [*arrays, *arrays]
        group = _Group(self._transfers, arrays)
        group.request = self._transfers.ask("arrays", arrays, group.room)
        if group.request is None:
            return None
        weakref.finalize(group, self._transfers.links.drop, group.request).atexit = False
        return group

    def _drop(self, key: int) -> None:
        self._wanted.pop(key, None)
        self._under_way.pop(key, None)


class _Group:
    """Arrays on their way."""

    def __init__(self, transfers: Transfers, arrays: Sequence[Any]) -> None:
        self.request: Request | None = None
        self._transfers = transfers
        self._lock = threading.Lock()
        self._arrays = [(array.shape, array.dtype, _parts(array.sharding, array.shape)) for array in arrays]
        self._sizes = [math.prod(part.shape) * dtype.itemsize for _, dtype, parts in self._arrays for part in parts]
        """Bytes of each part."""
        self._firsts = [0, *itertools.accumulate(len(parts) for _, _, parts in self._arrays)]
        """The index of each array's first part."""
        self.room: npt.NDArray[np.uint8] = np.empty(len(self._sizes) * _INDEX.itemsize + sum(self._sizes), np.uint8)
        """Where they land, as `messages.Deliver` says."""
        self._bytes: bytes | None = None
        self._starts: list[int] = []
        """Where each part begins in these bytes."""
        self._done = False

    def elements(self, place: int) -> npt.NDArray[Any] | None:
        """The array at `place`, read-only, once it is there; None where it does not come."""
        if not self._done:
            with self._lock:
                if not self._done:
                    if self.request is not None and self._transfers.links.wait(self.request) is not None:
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
            found[slices(part.start, part.shape)] = self._part(index, dtype, part.shape)
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
