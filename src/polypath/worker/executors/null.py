"""Simulated devices: programs are not run, and their results are zeros made when fetched.

Everything else (ids, types, what is deleted or donated) is as on real devices, so that the
controller, the transport and the worker's own log can be tried at any scale on one machine.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
from typing import Any, cast, final

import msgspec
import numpy as np
import numpy.typing as npt

from polypath.messages import Execute
from polypath.types import ArraySpec, Attribute, Device, DeviceId, Platform, ProgramInfo, Sharding, ValueId
from polypath.worker import protos
from polypath.worker.config import WorkerConfig
from polypath.worker.executors import stablehlo
from polypath.worker.executors.base import Executor, Launched, Program, Source, wholes_of
from polypath.worker.failures import DELETED, FailedValue
from polypath.worker.host import numpy_dtype
from polypath.worker.store import Place, Shard, ShardType, Value

_TILED = re.compile(r"\{devices=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?( last_tile_dim_replicate)?\}")


@final
class _Array(msgspec.Struct, eq=False, gc=False):
    """A shard, or the shards of a host together, which are made one by one only for who looks at them."""

    kind: ShardType
    """Of one shard."""
    data: npt.NDArray[Any] | None = None
    """A shard's elements, if somebody put them."""
    shards: list[_Array] | None = None
    """Of those together, once they were made."""
    deleted: bool = False
    """It, or all of those together."""

    def delete(self) -> None:
        self.deleted = True
        self.data = None
        for shard in self.shards or ():
            shard.delete()

    def split(self, count: int) -> list[_Array]:
        if self.shards is None:
            self.shards = [_Array(self.kind, None, None, self.deleted) for _ in range(count)]
        return self.shards


@final
class _Place(Place):
    """A whole is an `_Array`."""

    def split(self, whole: Any) -> list[Shard]:
        return list(cast(_Array, whole).split(len(self.local)))

    def join(self, shards: list[Shard], shard_type: ShardType) -> Any:
        return _Array(shard_type, None, shards)


@final
class NullProgram(Program):
    """A program that is not run: what it takes and gives."""

    __slots__ = ("info", "parameters", "place", "results")

    def __init__(
        self, place: Place, info: ProgramInfo, parameters: tuple[ShardType, ...], results: tuple[ShardType, ...]
    ) -> None:
        self.place = place
        self.info = info
        self.parameters = parameters
        self.results = results

    def is_like(self, other: Program | None) -> bool:
        """Whether another host's program gives there what this one gives here."""
        if not isinstance(other, NullProgram) or len(self.place.local) != len(other.place.local):
            return False
        return self.info is other.info  # as `_analysed` gives it

    def donates(self, command: Execute) -> set[ValueId]:
        """The arguments that end with this execution."""
        given = range(len(command.args))
        return {command.args[index] for index in self.info.donated if index in given and index not in command.kept}


def result(kind: ShardType, place: Place) -> Value:
    """What a program gives, by the type of a shard."""
    return Value(None, _Array(kind), place, kind)


def _coordinates(platform: str, device: DeviceId) -> dict[str, Attribute]:
    """Where a device is, as JAX asks of TPUs when it makes a mesh: they are in a line."""
    return {"coords": (device, 0, 0), "core_on_chip": 0} if platform == "tpu" else {}


@final
class NullExecutor(Executor):
    """`config.devices` devices of nothing, which say that they are `config.simulates`."""

    def __init__(self, config: WorkerConfig) -> None:
        self.platform = Platform(config.simulates, "null", "none", {"serialize_with_sdy": True})
        self.devices = tuple(
            Device(
                id=config.first_device + index,
                host=config.host,
                island=config.island,
                local_index=index,
                platform=config.simulates,
                kind="null",
                memory_kinds=("device", "pinned_host", "unpinned_host"),
                attributes={"slice_index": config.island} | _coordinates(config.simulates, config.first_device + index),
            )
            for index in range(config.devices or 1)
        )
        self._local = {device.id for device in self.devices}
        self._places: dict[tuple[DeviceId, ...], Place] = {}

    def put(self, array: npt.NDArray[Any], device: DeviceId, memory_kind: str, layout: tuple[int, ...] | None) -> Shard:
        return _Array((str(array.dtype), array.shape), array)

    def fetch(self, shard: Shard) -> npt.NDArray[Any]:
        self.wait(shard)
        array = cast(_Array, shard)
        return np.zeros(array.kind[1], numpy_dtype(array.kind[0])) if array.data is None else array.data

    def copy(self, shard: Shard, device: DeviceId, memory_kind: str) -> Shard:
        self.wait(shard)
        return _Array(shard.kind, shard.data)

    def hold(self, shard: Shard) -> Shard:
        return self.copy(shard, 0, "")

    def can_hold(self, shard: Shard) -> bool:
        return True

    def shard_type(self, shard: Shard) -> ShardType:
        return shard.kind

    def is_ready(self, value: Shard) -> bool:
        return True

    def wait(self, value: Shard) -> None:
        if self.is_deleted(value):
            raise FailedValue(DELETED)

    def delete(self, value: Shard) -> None:
        value.delete()

    def is_deleted(self, value: Shard) -> bool:
        return value.deleted or (value.shards is not None and any(shard.deleted for shard in value.shards))

    def memory_kind(self, shard: Shard) -> str:
        return "device"

    def address(self, shard: Shard) -> int:
        return id(shard)

    def compile(self, source: Source) -> Program:
        place = self._places.get(source.devices)
        if place is None:
            place = _Place(source.devices, tuple(d for d in source.devices if d in self._local))
            self._places[source.devices] = place
        return NullProgram(place, *_analysed(source.program, source.options, source.devices))

    def execute(self, program: Program, args: list[Value], kept: tuple[int, ...], launch: int, end: bool) -> Launched:
        assert isinstance(program, NullProgram)
        place = program.place
        wholes_of(args, program, self)
        for index in program.info.donated:
            if index not in kept:
                self.delete(args[index].whole)
        return Launched([result(kind, place) for kind in program.results], _Array(("bool", (0,))) if end else None)

    def cost_analysis(self, program: Program) -> dict[str, float]:
        return {}

    def text(self, program: Program) -> str:
        return f"HloModule {program.info.name}"

    def memory_stats(self, device: DeviceId) -> dict[str, int] | None:
        return None

    def default_layout(self, dtype: str, shape: tuple[int, ...], device: DeviceId, memory_kind: str) -> bytes:
        return _row_major((dtype, shape))


@functools.lru_cache(maxsize=64)
def _analysed(
    program: bytes, options: bytes, devices: tuple[DeviceId, ...]
) -> tuple[ProgramInfo, tuple[ShardType, ...], tuple[ShardType, ...]]:
    """What a program is, what one device takes and what it gives: the same for all hosts that share a process."""
    signature = stablehlo.read(program)
    parameters = _tilings(signature.parameter_shardings)
    results = _tilings(signature.result_shardings)
    one = len(devices) == 1
    info = ProgramInfo(
        name=signature.name,
        fingerprint=hashlib.sha256(program + options).digest(),
        devices=devices,
        outputs=tuple(
            ArraySpec(dtype, shape, Sharding(devices, "device", None if one else sharding))
            for (dtype, shape), (sharding, _) in zip(signature.results, results, strict=True)
        ),
        parameter_shardings=None if one else tuple(sharding for sharding, _ in parameters),
        output_shardings=None if one else tuple(sharding for sharding, _ in results),
        parameter_layouts=tuple(_row_major(kind) for kind in signature.parameters),
        output_layouts=tuple(_row_major(kind) for kind in signature.results),
        output_memory_kinds=("device",) * len(signature.results),
        donated=signature.donated,
    )
    return (
        info,
        tuple(_cut(kind, tiles) for kind, (_, tiles) in zip(signature.parameters, parameters, strict=True)),
        tuple(_cut(kind, tiles) for kind, (_, tiles) in zip(signature.results, results, strict=True)),
    )


def _row_major(kind: ShardType) -> bytes:
    return protos.layout(tuple(reversed(range(len(kind[1])))))


def _tilings(texts: tuple[str | None, ...]) -> list[tuple[bytes, tuple[int, ...]]]:
    """Each sharding as a proto, and into how many tiles it cuts each dimension.

    What is not marked counts as replicated: what a compiler would choose is not known here.
    """
    found: list[tuple[bytes, tuple[int, ...]]] = []
    for text in texts:
        match = _TILED.fullmatch(text or "")
        if match is None:
            found.append((protos.REPLICATED, ()))
            continue
        dims, reshape, permutation = (tuple(map(int, part.split(","))) if part else () for part in match.groups()[:3])
        last = match[4] is not None
        proto = protos.tiled(dims, reshape, permutation or tuple(range(len(reshape))), last)
        found.append((proto, dims[:-1] if last else dims))
    return found


def _cut(kind: ShardType, tiles: tuple[int, ...]) -> ShardType:
    dtype, shape = kind
    if len(tiles) != len(shape):
        return kind
    return dtype, tuple(math.ceil(size / count) for size, count in zip(shape, tiles, strict=True))
