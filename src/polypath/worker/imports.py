"""Arrays that clients of this machine hand over themselves, where they share no memory with this worker.

Whoever applies the command goes on at once. The array is pending until a thread has taken it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from polypath.messages import Import
from polypath.transport.bulk import room
from polypath.types import DeviceId
from polypath.worker.executors.base import Executor
from polypath.worker.failures import failure_of
from polypath.worker.host import numpy_dtype
from polypath.worker.links import Links
from polypath.worker.store import Shard, Store, Value
from polypath.worker.waits import Pending, Waits

_THREADS: Final = 128
"""Arrays that may be on their way at the same time."""


class Imports:
    """The handler of `Import`."""

    def __init__(self, executor: Executor, store: Store, waits: Waits, links: Links) -> None:
        self._executor = executor
        self._store = store
        self._waits = waits
        self._links = links
        self._local = {device.id for device in executor.devices}
        self._threads = ThreadPoolExecutor(_THREADS, "import")

    def take(self, command: Import) -> None:
        self._links.use(command.executable, command.address)
        parts = [
            (shape, {device: Pending(self._waits) for device in devices if device in self._local})
            for devices, shape in command.shards
        ]
        shards: dict[DeviceId, Shard | Pending] = {}
        for _, part in parts:
            shards.update(part)
        self._store.set(command.out, Value(shards))
        self._threads.submit(self._fill, command, parts)

    # --- On a thread

    def _fill(self, command: Import, parts: list[tuple[tuple[int, ...], dict[DeviceId, Pending]]]) -> None:
        for shape, part in parts:
            if not part:
                continue
            try:
                array = _new(shape, command.dtype)
                self._links.get(command.address).take(command.number, next(iter(part)), array)
                made = {device: self._executor.put(array, device, command.memory_kind, None) for device in part}
            except Exception as error:
                made = dict.fromkeys(part, failure_of(error))
            for device, pending in part.items():
                pending.resolve(made[device])


def _new(shape: tuple[int, ...], name: str) -> npt.NDArray[Any]:
    dtype = numpy_dtype(name)
    return np.frombuffer(room(prod(shape) * dtype.itemsize), dtype).reshape(shape)
