"""A worker's state in a folder: every computed value's shards, every failure, every program.

`data` holds the bytes, `index` says what they are and is written last, so that a folder with
an index is whole. Programs are kept as what they were compiled from.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from polypath.types import DeviceId, ExecutableId, Failure, ValueId
from polypath.worker.executors.base import Executor, Source
from polypath.worker.host import numpy_dtype
from polypath.worker.store import Shard, Store, Value


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
    programs: dict[ExecutableId, Source]


def save(
    folder: Path, values: list[tuple[ValueId, Value | Failure]], sources: dict[ExecutableId, Source], executor: Executor
) -> tuple[ValueId, ...]:
    """Write `values`, all of them computed, and return which were written.

    A value that went wrong becomes its failure.

    Raises:
        OSError: the folder cannot be written.
    """
    from polypath.worker.failures import failure_of

    folder.mkdir(parents=True, mode=0o700)
    index = _Index({}, {}, sources)
    with (folder / "data").open("xb") as file:
        for name, value in values:
            if isinstance(value, Failure):
                index.failures[name] = value
                continue
            shards: list[_Shard] = []
            try:
                for device in list(value.shards):
                    shard = value.shard(device)
                    kind = "" if isinstance(shard, bytes) else executor.memory_kind(shard)
                    at = file.tell()
                    if isinstance(shard, bytes):
                        file.write(shard)
                        shards.append(_Shard(device, None, (), "", at, len(shard)))
                        continue
                    array = np.ascontiguousarray(executor.fetch(shard)).reshape(executor.shard_type(shard)[1])
                    file.write(array.reshape(-1).view(np.uint8).data)
                    shards.append(_Shard(device, str(array.dtype), array.shape, kind, at, array.nbytes))
            except OSError:
                raise
            except Exception as error:
                index.failures[name] = failure_of(error)
                continue
            index.values[name] = tuple(shards)
    (folder / "index").write_bytes(msgspec.msgpack.encode(index))
    return (*index.values, *index.failures)


def load(folder: Path, store: Store, executor: Executor) -> dict[ExecutableId, Source]:
    """Fill the store; return the programs that are to be compiled again.

    Raises:
        OSError, msgspec.DecodeError: the folder holds no whole snapshot.
    """
    index = msgspec.msgpack.decode((folder / "index").read_bytes(), type=_Index)
    with (folder / "data").open("rb") as file:
        for name, shards in index.values.items():
            loaded: dict[DeviceId, Shard] = {}
            for shard in shards:
                file.seek(shard.offset)
                data = file.read(shard.size)
                if shard.dtype is None:
                    loaded[shard.device] = data
                    continue
                array = np.frombuffer(data, numpy_dtype(shard.dtype)).reshape(shard.shape)
                loaded[shard.device] = executor.put(array, shard.device, shard.memory_kind, None)
            store.set(name, Value(loaded))
    for name, failure in index.failures.items():
        store.set(name, failure)
    return index.programs
