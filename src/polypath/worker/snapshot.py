"""A worker's values in a folder: every computed value's shards, every failure.

A file per value holds its bytes, `index` says what they are and is written last, so that a
folder with an index is whole. Programs are not in it: the controller has them loaded again.

A value that is not computed in time is left out. Each is read on a thread of its own, because
on CPU also an array that says it is ready can hang in being read, where a program on its
device hangs on a lost host.
"""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from polypath.types import Code, DeviceId, Failure, ValueId
from polypath.worker.executors.base import Executor
from polypath.worker.failures import failure_of
from polypath.worker.host import numpy_dtype
from polypath.worker.store import Shard, Store, Value
from polypath.worker.waits import Waits

_READERS: Final = 32


class _Shard(msgspec.Struct, frozen=True, array_like=True):
    device: DeviceId
    dtype: str | None
    """None for bytes of a type that no device knows."""
    shape: tuple[int, ...]
    memory_kind: str
    offset: int
    size: int


class _Index(msgspec.Struct, frozen=True, array_like=True):
    values: dict[ValueId, tuple[_Shard, ...]]
    failures: dict[ValueId, Failure]


class _Saving:
    """Values on their way to files, by several threads that take one after another."""

    def __init__(self, folder: Path, executor: Executor, values: list[tuple[ValueId, Value]], waits: Waits) -> None:
        self._folder = folder
        self._executor = executor
        self._todo = list(reversed(values))
        self._waits = waits
        self.expected = len(values)
        self.written: dict[ValueId, tuple[_Shard, ...]] = {}
        self.failures: dict[ValueId, Failure] = {}

    @property
    def finished(self) -> int:
        return len(self.written) + len(self.failures)

    @property
    def done(self) -> bool:
        return self.finished == self.expected

    def work(self) -> None:
        """One thread's life. It may end in the middle of a value that hangs."""
        while self._todo:
            try:
                name, value = self._todo.pop()
            except IndexError:
                return
            try:
                self.written[name] = self._write(self._folder / str(name), value)
            except Exception as error:
                self.failures[name] = failure_of(error)
            self._waits.notify()

    def _write(self, path: Path, value: Value) -> tuple[_Shard, ...]:
        shards: list[_Shard] = []
        with path.open("xb") as file:
            for device in list(value.shards):
                shard = value.shard(device)
                at = file.tell()
                if isinstance(shard, bytes):
                    file.write(shard)
                    shards.append(_Shard(device, None, (), "", at, len(shard)))
                    continue
                kind = self._executor.memory_kind(shard)
                dtype, shape = self._executor.shard_type(shard)
                if 0 in shape:  # It may be a token, which cannot be read.
                    self._executor.wait(shard)
                    array = np.empty(shape, numpy_dtype(dtype))
                else:
                    array = np.ascontiguousarray(self._executor.fetch(shard)).reshape(shape)
                file.write(array.reshape(-1).view(np.uint8).data)
                shards.append(_Shard(device, str(array.dtype), array.shape, kind, at, array.nbytes))
        return tuple(shards)


def save(
    folder: Path,
    values: list[tuple[ValueId, Value | Failure]],
    executor: Executor,
    waits: Waits,
    patience: float,
) -> tuple[ValueId, ...]:
    """Write `values` and return which were: ends once none was finished for `patience` seconds.

    A value that went wrong becomes its failure.

    Raises:
        OSError: the folder cannot be written.
    """
    shutil.rmtree(folder, ignore_errors=True)  # an earlier one, which nobody came to load
    folder.mkdir(parents=True, mode=0o700)
    saving = _Saving(folder, executor, [(name, v) for name, v in values if not isinstance(v, Failure)], waits)
    failures = {name: value for name, value in values if isinstance(value, Failure)}
    for _ in range(min(_READERS, saving.expected)):
        threading.Thread(target=saving.work, name="snapshot", daemon=True).start()
    finished = -1
    while not saving.done and saving.finished > finished:
        finished = saving.finished
        waits.wait_at_most(patience, lambda: saving.done)
    written, failed = dict(saving.written), {**failures, **saving.failures}
    (folder / "index").write_bytes(msgspec.msgpack.encode(_Index(written, failed)))
    # What the loss of a host broke is for the controller, which knows of the loss, to fail.
    return (*written, *[name for name, failure in failed.items() if failure.code is not Code.ABORTED])


def load(folder: Path, store: Store, executor: Executor) -> None:
    """Fill the store.

    Raises:
        OSError, msgspec.DecodeError: the folder holds no whole snapshot.
    """
    index = msgspec.msgpack.decode((folder / "index").read_bytes(), type=_Index)
    for name, shards in index.values.items():
        data = (folder / str(name)).read_bytes()
        loaded: dict[DeviceId, Shard] = {}
        for shard in shards:
            part = data[shard.offset : shard.offset + shard.size]
            if shard.dtype is None:
                loaded[shard.device] = part
                continue
            array = np.frombuffer(part, numpy_dtype(shard.dtype)).reshape(shard.shape)
            loaded[shard.device] = executor.put(array, shard.device, shard.memory_kind, None)
        store.set(name, Value(loaded))
    for name, failure in index.failures.items():
        store.fail((name,), failure)
