"""Real devices, through jaxlib's PJRT client: CPU, CUDA, ROCm and TPU alike.

Owns the translation between cluster-wide device ids and the client's, and the bound on how much
is in flight. What jaxlib's internals look like is `polypath.worker.jaxlib`'s business.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import hashlib
import itertools
import logging
import sys
from collections.abc import Sequence
from typing import Any, Final, cast, final

import msgspec
import numpy as np
import numpy.typing as npt

from polypath.types import HOST_CPU, ArraySpec, Device, DeviceId, Platform, ProgramInfo, Sharding
from polypath.worker import jaxlib, partitioning
from polypath.worker.cache import Cache, cpu_features
from polypath.worker.colocated import ColocatedPython
from polypath.worker.config import WorkerConfig
from polypath.worker.executors import stablehlo
from polypath.worker.executors.base import Executor, Launched, Program, Source, wholes_of
from polypath.worker.executors.flights import Flights, Launcher
from polypath.worker.store import Place, Shard, ShardType, Value
from polypath.worker.waits import Waits

_log = logging.getLogger(__name__)


_TYPES: Final = 8192
"""Types of shards that are remembered: more than a client uses at a time."""
_LAYOUTS: Final = 64
"""Programs that are kept to bring arrays into another layout."""


@functools.lru_cache(_TYPES)
def _aval(kind: ShardType) -> Any:
    return jaxlib.aval(jaxlib.dtype_of(kind[0]), kind[1])


@final
class _Place(Place):
    def __init__(self, devices: tuple[DeviceId, ...], local: tuple[DeviceId, ...], found: list[Any]) -> None:
        super().__init__(devices, local)
        self.list = jaxlib.device_list(found)
        self.found = found
        self.client = found[0].client
        self.on_cpu = jaxlib.is_cpu(self.client)
        self.nodes = sorted({device.process_index for device in found})
        self.sharding = jaxlib.over(found)

    def split(self, whole: Any) -> list[Shard]:
        return [whole] if len(self.devices) == 1 else list(whole._arrays)

    def join(self, shards: list[Shard], shard_type: ShardType) -> Any:
        if len(self.devices) == 1:
            return shards[0]
        kind = shards[0].sharding.memory_kind
        sharding = self.sharding if kind == self.sharding.memory_kind else jaxlib.over(self.found, kind)
        return jaxlib.join(_aval(shard_type), sharding, shards)


@final
class _Program(Program):
    def __init__(
        self,
        loaded: jaxlib.Loaded,
        place: _Place,
        info: ProgramInfo,
        parameters: tuple[ShardType, ...],
        results: tuple[ShardType, ...],
    ) -> None:
        self.loaded = loaded
        self.place: _Place = place  # pyright: ignore[reportIncompatibleVariableOverride]
        self.info = info
        self.parameters = parameters
        self.results = results
        self.donated = frozenset(info.donated)
        self._under_way: collections.deque[jaxlib.End] = collections.deque()
        self.handlers = [
            jaxlib.result_handler(_aval(kind), jaxlib.over(place.found, memory))
            for kind, memory in zip(results, info.output_memory_kinds, strict=True)
        ]

    def follow(self, end: jaxlib.End) -> None:
        """Know of an execution that is under way; waits where there are many."""
        self._under_way.append(end)
        if len(self._under_way) > _FOLLOWED:
            _wait(self._under_way.popleft())

    def close(self) -> None:
        while self._under_way:
            _wait(self._under_way.popleft())


class _Entry(msgspec.Struct, array_like=True):
    """A program in the cache."""

    info: ProgramInfo
    parameters: tuple[ShardType, ...]
    results: tuple[ShardType, ...]
    executable: bytes


_FOLLOWED: Final = 64
"""Executions under way of one program that calls its client."""


def _wait(end: jaxlib.End) -> None:
    try:
        end.block_until_ready()
    except Exception as error:
        # It reaches whoever looks at the results; here only the end counts.
        _log.debug("An execution failed: %s", error)


@final
class PjrtExecutor(Executor):
    """The devices that a PJRT client can address, and the CPU devices beside them."""

    def __init__(self, config: WorkerConfig, waits: Waits) -> None:
        group = jaxlib.Group(config) if config.nodes > 1 else None
        self._group = group  # The service must live as long as the process.
        self._client = jaxlib.make_client(config, group)
        firsts = [config.first_device]
        if group is not None:
            firsts = [int(each) for each in group.exchange("first_device", str(config.first_device))]
        self._nodes = config.nodes
        self._by_id = _cluster_ids(self._client, firsts)
        cpu, cpus = self._client, self._by_id
        if not jaxlib.is_cpu(cpu):
            cpu = jaxlib.make_cpu_client(len(self._client.local_devices()), group)
            cpus = _cluster_ids(cpu, [first + HOST_CPU for first in firsts])
            self._by_id = {**self._by_id, **cpus}
        self._local = {
            id_: device for id_, device in self._by_id.items() if device.process_index == device.client.process_index()
        }
        self._cache = Cache(config.cache_dir)
        self._places: dict[tuple[DeviceId, ...], _Place] = {}
        self._types: dict[ShardType, ShardType] = {}
        self._singles: dict[tuple[DeviceId, str], Any] = {}
        self._with_layout = functools.lru_cache(_LAYOUTS)(jaxlib.identity_with_layout)
        self.platform = Platform(
            name=jaxlib.platform_name(self._client),
            version=self._client.platform_version,
            jaxlib=jaxlib.VERSION,
            attributes=jaxlib.client_attributes(self._client),
            python=f"{sys.version_info.major}.{sys.version_info.minor}",
        )
        self.devices = tuple(
            Device(
                id=id_,
                host=config.host,
                island=config.island,
                local_index=index,
                platform=jaxlib.platform_name(device.client),
                kind=device.device_kind,
                memory_kinds=jaxlib.memory_kinds(device),
                attributes=jaxlib.device_attributes(device)
                | {"slice_index": config.island, "colocation_id": id_ % HOST_CPU},
            )
            for index, (id_, device) in enumerate(sorted(self._local.items()))
        )
        self._executions = itertools.count(1)
        self._launcher = Launcher(waits)
        self._flights = Flights(waits)
        self.python = ColocatedPython(config.host, cpu, cpus, self._place)

    # --- Shards

    def put(
        self,
        array: npt.NDArray[Any],
        device: DeviceId,
        memory_kind: str,
        layout: tuple[int, ...] | None,
    ) -> Shard:
        shard = jaxlib.put(array, self._single(device, memory_kind), self._local[device])
        if layout is None or layout == tuple(reversed(range(array.ndim))) or array.size <= 1:
            return shard
        program = self._with_layout(str(array.dtype), array.shape, layout, self._local[device])
        return program.execute_sharded([shard]).disassemble_into_single_device_arrays()[0][0]

    def fetch(self, shard: Shard | npt.NDArray[Any]) -> npt.NDArray[Any]:
        return cast(npt.NDArray[Any], shard) if isinstance(shard, np.ndarray) else jaxlib.elements(shard)

    def copy(self, shard: Shard, device: DeviceId, memory_kind: str) -> Shard:
        return jaxlib.copy(shard, self._single(device, memory_kind), self._local[device])

    def copies(self, source: DeviceId, device: DeviceId) -> bool:
        return self._local[source].client is self._local[device].client

    def hold(self, shard: Shard) -> Shard | npt.NDArray[Any]:
        (device,) = shard.sharding.device_set
        if not jaxlib.is_cpu(device.client):
            # Not on the device, which may have no room for a second one.
            return jaxlib.copy(shard, jaxlib.host_memory(device), device)
        return jaxlib.elements(shard) if shard.is_ready() else jaxlib.copy(shard, shard.sharding, device)

    def can_hold(self, shard: Shard) -> bool:
        # On CPU the copy needs a thread of XLA's pool. All of them may wait in collectives for another host, which
        # may be waiting for this very shard.
        (device,) = shard.sharding.device_set
        return not jaxlib.is_cpu(device.client) or self.is_ready(shard)

    def shard_type(self, shard: Shard) -> ShardType:
        return self._type((str(shard.dtype), shard.shape))

    def is_ready(self, value: Shard) -> bool:
        return value.is_deleted() or value.is_ready()

    def wait(self, value: Shard) -> None:
        value.block_until_ready()

    def wait_all(self, values: list[Shard]) -> None:
        jaxlib.wait_all(values)

    def any_deleted(self, values: list[Shard]) -> bool:
        return True in [value.is_deleted() for value in values]

    def delete(self, value: Shard) -> None:
        value.delete()

    def is_deleted(self, value: Shard) -> bool:
        return value.is_deleted()

    def memory_kind(self, shard: Shard) -> str:
        return shard.sharding.memory_kind

    def address(self, shard: Shard) -> int:
        return shard.unsafe_buffer_pointer()

    def _single(self, device: DeviceId, memory_kind: str) -> Any:
        found = self._singles.get((device, memory_kind))
        if found is None:
            found = jaxlib.single(self._local[device], memory_kind)
            self._singles[device, memory_kind] = found
        return found

    def _type(self, kind: ShardType) -> ShardType:
        """The one object for this type, so that equal types are mostly the same object."""
        if len(self._types) >= _TYPES:
            self._types.clear()
        return self._types.setdefault(kind, kind)

    # --- Programs

    def compile(self, source: Source) -> Program:
        place = self._place(source.devices)
        jaxlib.prepare(source.program)
        options = jaxlib.options_for(source.options, [device.id for device in place.found])
        asking = partitioning.asks(source.program)
        if source.callbacks is not None or asking:  # It depends on functions of its client.
            return self._compile(source, place, options, asking)
        same = msgspec.structs.replace(source, options=jaxlib.options_key(options))
        key = Cache.key(
            "pjrt", same, self._nodes, len(self._local), jaxlib.VERSION, cpu_features(),
            jaxlib.platform_name(place.client), self.platform.version, [d.kind for d in self.devices],
        )  # fmt: skip
        # On GPUs the hosts of a program tune it together while they compile it. So none may wait for another to
        # compile, and all of them compile unless all can load.
        with self._cache.alone(key) if place.on_cpu else contextlib.nullcontext():
            found = self._from_cache(key, place, options)
            if self._group is not None and not place.on_cpu and len(place.nodes) > 1:
                found = found if self._group.all_have(key, place.nodes, found is not None) else None
            if found is not None:
                return found
            program = self._compile(source, place, options, asking)
            self._keep(key, program)
        return program

    def _compile(self, source: Source, place: _Place, options: jaxlib.Options, asking: bool) -> _Program:
        callbacks = [] if source.callbacks is None else self.callbacks.stand_ins(source.callbacks)
        signature = stablehlo.read(source.program)
        if callbacks or asking:
            with (
                stablehlo.parsed(source.program) as module,
                partitioning.answered(module, source, self.callbacks),
            ):
                loaded = jaxlib.compile_module(place.client, module, place.list, options, callbacks)
        else:
            loaded = jaxlib.compile_program(place.client, source.program, place.list, options)
        info = _describe(loaded, source, signature)
        parameters = tuple(map(self._type, jaxlib.parameter_types(loaded)))
        results = tuple(map(self._type, jaxlib.result_types(loaded)))
        program = _Program(loaded, place, info, parameters, results)
        program.calls_back = bool(callbacks)
        program.compiled = True
        return program

    def _keep(self, key: str, program: _Program) -> None:
        try:
            executable = jaxlib.serialize(program.loaded)
        except Exception as error:
            _log.info("The program %s cannot be serialized (%s), so it is not cached.", program.info.name, error)
        else:
            entry = _Entry(program.info, program.parameters, program.results, executable)
            self._cache.save(key, msgspec.msgpack.encode(entry))

    def _from_cache(self, key: str, place: _Place, options: jaxlib.Options) -> Program | None:
        body = self._cache.load(key)
        if body is None:
            return None
        try:
            entry = msgspec.msgpack.decode(body, type=_Entry)
            loaded = jaxlib.deserialize(place.client, entry.executable, place.list, options)
        except Exception as error:
            _log.warning("A cached program does not load (%s), so it is compiled anew.", error)
            return None
        types = tuple(map(self._type, entry.parameters)), tuple(map(self._type, entry.results))
        return _Program(loaded, place, entry.info, *types)

    def _place(self, devices: tuple[DeviceId, ...]) -> _Place:
        found = self._places.get(devices)
        if found is None:
            unknown = [device for device in devices if device not in self._by_id]
            if unknown:
                raise ValueError(f"Device {unknown[0]} is not in the island of the program's other devices.")
            local = tuple(device for device in devices if device in self._local)
            # Compiling runs on several threads; they must agree on one object.
            found = self._places.setdefault(
                devices, _Place(devices, local, [self._by_id[device] for device in devices])
            )
        return found

    def execute(self, program: Program, args: list[Value], kept: tuple[int, ...], launch: int, end: bool) -> Launched:
        assert isinstance(program, _Program)
        place = program.place
        wholes = wholes_of(args, program, self)
        for index in kept:
            if index in program.donated:
                wholes[index] = self._copy_whole(wholes[index], place)
        spans = len(place.devices) > 1
        counted = spans and place.on_cpu
        with_token = end or program.calls_back or counted

        def start() -> Any:
            return program.loaded.execute_sharded(wholes, with_tokens=with_token, launch_id=launch if spans else None)

        if counted:
            self._flights.wait_for_room()
        results = self._launcher.run(start) if self._may_block(program) else start()
        token = results.consume_token() if with_token else None
        if counted:
            self._flights.started(token)
        if program.calls_back:
            program.follow(jaxlib.End(token))
        outs = results.consume_with_handlers(program.handlers)
        number = next(self._executions)
        return Launched(
            [Value(None, out, place, kind, number) for out, kind in zip(outs, program.results, strict=True)],
            jaxlib.End(token) if end else None,
        )

    def _may_block(self, program: _Program) -> bool:
        """Whether starting a program may wait for another host, which may be lost.

        On CPU only one that spans hosts does. An accelerator has a queue (of 32 for PJRT's GPUs): once it is full of
        programs behind one that hangs, starting any program waits. One that calls its client is started in a lane,
        which may wait; a GPU calls from the thread that starts it, and nothing else may wait for that.
        """
        if program.place.on_cpu:
            return len(program.place.nodes) > 1
        return self._nodes > 1 and not program.calls_back

    @staticmethod
    def _copy_whole(whole: Any, place: _Place) -> Any:
        return jaxlib.copy_whole(whole, whole.sharding, place.list)

    def cost_analysis(self, program: Program) -> dict[str, float]:
        assert isinstance(program, _Program)
        found = program.loaded.cost_analysis()
        return {name: float(value) for name, value in found.items() if isinstance(value, int | float)}

    def text(self, program: Program) -> str:
        assert isinstance(program, _Program)
        return "\n\n".join(module.to_string() for module in program.loaded.hlo_modules())

    def memory_stats(self, device: DeviceId) -> dict[str, int] | None:
        return jaxlib.device_memory_stats(self._local[device])

    def default_layout(self, dtype: str, shape: tuple[int, ...], device: DeviceId, memory_kind: str) -> bytes:
        return jaxlib.default_layout(jaxlib.dtype_of(dtype), shape, self._local[device])


def _cluster_ids(client: jaxlib.Client, firsts: Sequence[int]) -> dict[DeviceId, Any]:
    """The group's devices by cluster-wide id: each node's follow its first one's."""
    found: dict[DeviceId, Any] = {}
    for node, first in enumerate(firsts):
        mine = [d for d in client.devices() if len(firsts) == 1 or d.process_index == node]
        found.update(enumerate(sorted(mine, key=lambda d: d.id), first))
    return found


def _describe(loaded: jaxlib.Loaded, source: Source, signature: stablehlo.Signature) -> ProgramInfo:
    one = len(source.devices) == 1
    parameter_shardings = None if one else jaxlib.shardings(loaded.get_parameter_shardings())
    output_shardings = None if one else jaxlib.shardings(loaded.get_output_shardings())
    kinds = tuple(loaded.get_output_memory_kinds()[0])
    outputs = tuple(
        ArraySpec(
            dtype,
            shape,
            Sharding(source.devices, kinds[i], output_shardings[i] if output_shardings else None),
        )
        for i, (dtype, shape) in enumerate(signature.results)
    )
    fingerprint = loaded.fingerprint
    return ProgramInfo(
        name=signature.name,
        fingerprint=bytes(fingerprint) if fingerprint else hashlib.sha256(source.program).digest(),
        devices=source.devices,
        outputs=outputs,
        parameter_shardings=parameter_shardings,
        output_shardings=output_shardings,
        parameter_layouts=_layouts(jaxlib.parameter_layouts(loaded), jaxlib.parameter_types(loaded)),
        output_layouts=_layouts(jaxlib.output_layouts(loaded), jaxlib.result_types(loaded)),
        output_memory_kinds=kinds,
        donated=jaxlib.donated_parameters(loaded),
        memory_stats=jaxlib.memory_stats(loaded),
        code_size=max(loaded.size_of_generated_code_in_bytes(), 0),
    )


def _layouts(found: list[Any] | None, types: list[ShardType]) -> tuple[bytes, ...] | None:
    if found is None:
        return None
    return tuple(
        jaxlib.layout_proto(each, jaxlib.dtype_of(dtype), shape)
        for each, (dtype, shape) in zip(found, types, strict=True)
    )
