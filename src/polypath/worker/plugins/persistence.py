"""Checkpoints: each worker reads and writes the shards that it holds, straight from and to storage.

What is written is what orbax writes without OCDBT: for each array a folder of zarr (version 2),
a chunk for each shard. Read is whatever orbax writes: zarr 2 or 3, in folders or in OCDBT.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, NamedTuple, final

import numpy as np
import numpy.typing as npt

from polypath.controller.partition import shard_boxes
from polypath.link.elements import slices
from polypath.link.protocol import Box
from polypath.plugins import StoredArray
from polypath.types import ArraySpec, Code, DeviceId, HostId, Sharding
from polypath.worker.executors.base import Executor, Launched
from polypath.worker.failures import DELETED, FailedValue, WorkerFailure
from polypath.worker.host import numpy_dtype
from polypath.worker.plugins import storage
from polypath.worker.plugins.base import Plugin
from polypath.worker.store import Shard, Value

_FORMATS: Final = (("zarr", ".zarray"), ("zarr3", "zarr.json"))
"""tensorstore's drivers, and the file by which to tell them."""
_AHEAD: Final = 1 << 30
"""Bytes that may be on their way from storage before the oldest goes to its devices."""


class _Part(NamedTuple):
    """A piece of an array, and the devices of this worker that have it."""

    box: Box
    devices: list[DeviceId]


class _Deadline:
    def __init__(self, arrays: Iterable[StoredArray], host: HostId) -> None:
        self._seconds = max(each.timeout for each in arrays)
        self._end = time.monotonic() + self._seconds
        self._host = host

    def result(self, future: Any, what: str) -> Any:
        """What a future of tensorstore gives.

        Raises:
            WorkerFailure: it fails, or not in time.
        """
        try:
            return future.result(max(self._end - time.monotonic(), 0.0))
        except TimeoutError:
            raise WorkerFailure(
                Code.DEADLINE_EXCEEDED, f"Host {self._host}: {what} took longer than {self._seconds:g} s."
            ) from None
        except (ValueError, OSError) as error:
            raise storage.failed(f"Host {self._host}: {what} failed", error) from error


@final
class Storage:
    """What the programs of one worker share."""

    def __init__(self, host: HostId) -> None:
        self.host = host
        self.threads = ThreadPoolExecutor(4, "storage")


class _Persistence(Plugin):
    def __init__(
        self,
        name: str,
        arrays: tuple[StoredArray, ...],
        local: tuple[DeviceId, ...],
        executor: Executor,
        shared: Storage,
    ) -> None:
        for each in arrays:
            storage.check(each.location, "A checkpoint")
        storage.tensorstore()
        self.arrays = arrays
        self.executor = executor
        self.shared = shared
        self.boxes = [shard_boxes(each.sharding, each.shape) for each in arrays]
        super().__init__(name, arrays[0].sharding.devices, local, self._outputs())

    def _outputs(self) -> tuple[ArraySpec, ...]:
        return ()

    def deadline(self) -> _Deadline:
        return _Deadline(self.arrays, self.shared.host)


# --- Reading ----------------------------------------------------------------------------------


@final
class Reader(_Persistence):
    """Makes arrays of what is in storage."""

    def __init__(
        self, arrays: tuple[StoredArray, ...], local: tuple[DeviceId, ...], executor: Executor, shared: Storage
    ) -> None:
        super().__init__("read", arrays, local, executor, shared)
        for each in arrays:
            numpy_dtype(each.dtype)

    def _outputs(self) -> tuple[ArraySpec, ...]:
        kind = self.executor.devices[0].memory_kinds[0]
        outputs: list[ArraySpec] = []
        for each, boxes in zip(self.arrays, self.boxes, strict=True):
            devices = each.sharding.devices
            replicated = all(box.shape == each.shape for box in boxes)
            cut = each.sharding.op_sharding if len(devices) > 1 else None
            outputs.append(ArraySpec(each.dtype, each.shape, Sharding(devices, kind, cut, fully_replicated=replicated)))
        return tuple(outputs)

    def run(self, args: list[Value]) -> Launched:
        deadline = self.deadline()
        found = list(self._opened(deadline))
        shards: list[dict[DeviceId, Shard]] = [{} for _ in self.arrays]
        reading: deque[tuple[int, _Part, Any]] = deque()
        ahead = 0
        for index, (array, opened) in enumerate(zip(self.arrays, found, strict=True)):
            for part in self._parts(index):
                ahead += self._bytes(array, part)
                reading.append((index, part, opened[slices(part.box.start, part.box.shape)].read()))
                while ahead > _AHEAD:
                    ahead -= self._arrive(*reading.popleft(), shards, deadline)
        while reading:
            self._arrive(*reading.popleft(), shards, deadline)
        return Launched([Value(each) for each in shards], None)

    def _parts(self, index: int) -> Iterator[_Part]:
        """The boxes that this worker's devices have, each once."""
        parts: dict[Box, _Part] = {}
        for device, box in zip(self.place.devices, self.boxes[index], strict=True):
            if device in self.place.local:
                parts.setdefault(box, _Part(box, [])).devices.append(device)
        yield from parts.values()

    def _bytes(self, array: StoredArray, part: _Part) -> int:
        return int(np.prod(part.box.shape, dtype=np.int64)) * numpy_dtype(array.dtype).itemsize

    def _arrive(
        self, index: int, part: _Part, future: Any, shards: list[dict[DeviceId, Shard]], deadline: _Deadline
    ) -> int:
        """Put what was read on its devices; how many bytes it was."""
        array = self.arrays[index]
        data: npt.NDArray[Any] = deadline.result(future, f"reading {array.name} in {array.location}")
        # XLA wants dense memory of its own.
        dense = np.ascontiguousarray(data).reshape(part.box.shape)
        for device in part.devices:
            shards[index][device] = self.executor.put(dense, device, "", None)
        return self._bytes(array, part)

    def _opened(self, deadline: _Deadline) -> Iterator[Any]:
        """Each array in storage, as the type that was asked for."""
        ts = storage.tensorstore()
        context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
        folders: dict[str, list[dict[str, Any]]] = {}
        opening: list[Any] = []
        for array in self.arrays:
            location = array.location
            if location not in folders:
                folders[location] = list(_folders(location, deadline))
            spec = _find(array, folders[location], deadline)
            opening.append(ts.open(spec, read=True, context=context))
        for array, future in zip(self.arrays, opening, strict=True):
            opened = deadline.result(future, f"opening {array.name} in {array.location}")
            if tuple(opened.shape) != array.shape:
                raise WorkerFailure(
                    Code.INVALID_ARGUMENT,
                    f"{array.name} in {array.location} has shape {tuple(opened.shape)}, not {array.shape}; "
                    "restore it with the shape that was saved.",
                )
            wanted = ts.dtype(array.dtype)
            yield opened if opened.dtype == wanted else ts.cast(opened, wanted)


def _folders(location: str, deadline: _Deadline) -> Iterator[dict[str, Any]]:
    """What may hold a checkpoint's arrays: the folder itself, and the OCDBT database in it."""
    base = storage.kvstore(location)
    yield base
    if _has(base, "manifest.ocdbt", deadline):
        yield {"driver": "ocdbt", "base": base}


def _find(array: StoredArray, folders: list[dict[str, Any]], deadline: _Deadline) -> dict[str, Any]:
    for folder in folders:
        for driver, file in _FORMATS:
            if _has(folder, f"{array.name}/{file}", deadline):
                path = folder.get("path", "")
                return {"driver": driver, "kvstore": folder | {"path": f"{path}{array.name}/"}}
    raise WorkerFailure(
        Code.FAILED_PRECONDITION,
        f"There is no array {array.name!r} in {array.location}; it must be a folder that every host sees.",
    )


def _has(folder: dict[str, Any], key: str, deadline: _Deadline) -> bool:
    opened = deadline.result(storage.tensorstore().KvStore.open(folder), f"opening {key}")
    return deadline.result(opened.read(key), f"reading {key}").state == "value"


# --- Writing ----------------------------------------------------------------------------------


class _Written:
    """The end of writing, to be waited for like an array."""

    def __init__(self, future: Future[None]) -> None:
        self._future = future

    def is_ready(self) -> bool:
        return self._future.done()

    def is_deleted(self) -> bool:
        return False

    def block_until_ready(self) -> None:
        self._future.result()


_Pieces = list[tuple[Box, npt.NDArray[Any]]]


@final
class Writer(_Persistence):
    """Puts its arguments into storage.

    Running it ends when the elements are in the host's memory; the devices are then free to go on.
    """

    def __init__(
        self, arrays: tuple[StoredArray, ...], local: tuple[DeviceId, ...], executor: Executor, shared: Storage
    ) -> None:
        super().__init__("write", arrays, local, executor, shared)

    def run(self, args: list[Value]) -> Launched:
        if len(args) != len(self.arrays):
            raise ValueError(f"A program that writes {len(self.arrays)} arrays got {len(args)}.")
        pieces = [self._pieces(index, value) for index, value in enumerate(args)]
        return Launched([], _Written(self.shared.threads.submit(self._write, pieces)))

    def _pieces(self, index: int, value: Value) -> _Pieces:
        """Of each box that stands on several devices, of whatever host, the first one writes it."""
        array, seen, found = self.arrays[index], set[Box](), _Pieces()
        for device, box in zip(self.place.devices, self.boxes[index], strict=True):
            if box in seen:
                continue
            seen.add(box)
            if device not in self.place.local:
                continue
            shard = value.shard(device)
            if self.executor.is_deleted(shard):
                raise FailedValue(DELETED)
            if self.executor.shard_type(shard)[1] != box.shape:
                raise ValueError(
                    f"{array.name} has a shard of shape {self.executor.shard_type(shard)[1]} on device {device}, "
                    f"where the request says {box.shape}."
                )
            found.append((box, self.executor.fetch(shard)))
        return found

    def _write(self, pieces: list[_Pieces]) -> None:
        deadline = self.deadline()
        ts = storage.tensorstore()
        context = ts.Context({"cache_pool": {"total_bytes_limit": 0}})
        opening = [
            (array, each, ts.open(_spec(array, boxes, each[0][1].dtype), context=context))
            for array, boxes, each in zip(self.arrays, self.boxes, pieces, strict=True)
            if each
        ]
        writing: list[tuple[StoredArray, Any]] = []
        for array, each, future in opening:
            opened = deadline.result(future, f"creating {array.name} in {array.location}")
            writing += [(array, opened[slices(box.start, box.shape)].write(data)) for box, data in each]
        for array, future in writing:
            deadline.result(future, f"writing {array.name} in {array.location}")


def _spec(array: StoredArray, boxes: Sequence[Box], dtype: np.dtype[Any]) -> dict[str, Any]:
    # All shards are of one size, but for those at the far ends.
    chunks = [max(1, *sizes) for sizes in zip(*(box.shape for box in boxes), strict=True)]
    base = storage.kvstore(array.location)
    return {
        "driver": "zarr",
        "kvstore": base | {"path": f"{base['path']}{array.name}/"},
        "dtype": dtype.name,
        "metadata": {
            "shape": list(array.shape),
            "chunks": chunks,
            "compressor": {"id": "zstd", "level": 1},
        },
        # Every host does so, and one of them creates it.
        "create": True,
        "open": True,
        # Else a chunk of zeros would have no file, and a lost one could not be told from it.
        "store_data_equal_to_fill_value": True,
    }
