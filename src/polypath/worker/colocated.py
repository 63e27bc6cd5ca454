"""Runs JAX's colocated Python: functions of clients, in this process, on the devices of its CPU.

Owns the way from a value's shards to the jax.Arrays a function takes, and back from those it
gives. A function over the devices of several hosts runs on each of them, and sees its own
shards as the addressable ones. Where and when it runs is `execution`'s business: never on the
apply loop. What a function keeps, in its objects or in modules, ends with this process.
"""
# JAX's types tell little of what a user's function takes and gives.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import jax
import msgspec
import numpy as np

from polypath.messages import PythonProgram
from polypath.types import Code, DeviceId, HostId, ProgramInfo, ProgramKind
from polypath.worker import jaxlib, protos
from polypath.worker.executors.base import Launched, Program, Runner, Source
from polypath.worker.failures import DELETED, FailedValue, WorkerFailure
from polypath.worker.store import Place, Shard, Value
from polypath.worker.waits import Pending

_log = logging.getLogger(__name__)

_WIDE = frozenset({"int64", "uint64", "float64", "complex128"})


@final
class _Function(Program):
    kind: ProgramKind = "python"

    def __init__(self, source: Source, program: PythonProgram, place: Place) -> None:
        self.name = program.name
        self.place = place
        self.info = ProgramInfo(
            name=program.name,
            fingerprint=hashlib.sha256(source.program).digest(),
            devices=source.devices,
            outputs=program.outputs,
            output_memory_kinds=tuple(out.sharding.memory_kind for out in program.outputs),
        )
        self.parameters = ()
        self.call: Callable[..., Any] | None = None
        """None once it was freed."""
        self.in_tree: Any = None
        self.in_specs: Sequence[Any] = ()
        self.out_tree: Any = None
        self.out_specs: Sequence[Any] = ()
        # No client has such arrays, or makes them, unless its JAX is in 64-bit mode.
        self.x64 = any(spec.dtype in _WIDE for spec in (*program.inputs, *program.outputs))
        local = set(place.local)
        self._local_of = [tuple(d for d in out.sharding.devices if d in local) for out in program.outputs]

    def local_of(self, output: int) -> tuple[DeviceId, ...]:
        return self._local_of[output]

    def close(self) -> None:
        # Objects of users may end with it, by code of theirs.
        self.call = None


@final
class ColocatedPython(Runner):
    """Runs functions on the CPU devices of one PJRT client."""

    def __init__(
        self,
        host: HostId,
        client: jaxlib.Client,
        devices: Mapping[DeviceId, jaxlib.JaxDevice],
        place: Callable[[tuple[DeviceId, ...]], Place],
    ) -> None:
        """`devices` are the whole group's; `client` becomes the backend of the functions' JAX."""
        self._host = host
        self._place = place
        self._names = {device.id: id_ for id_, device in devices.items()}
        jaxlib.adopt(client, devices)

    # --- Compiling

    def compile(self, source: Source) -> Program:
        program = msgspec.msgpack.decode(source.program, type=PythonProgram)
        function = _Function(source, program, self._place(source.devices))
        try:
            pickled = jaxlib.unpickle(program.function)
            function.call, function.in_tree, function.in_specs, function.out_tree, function.out_specs, _ = pickled
        except BaseException as error:
            raise WorkerFailure(
                Code.INVALID_ARGUMENT,
                f"The colocated function {program.name} cannot be unpickled on host {self._host} "
                f"({type(error).__name__}: {error}); what it imports must be installed there (or be pickled by "
                "value: cloudpickle.register_pickle_by_value), with the client's versions of Python and JAX.",
            ) from error
        return function

    # --- Running

    def execute(self, program: Program, args: list[Value], kept: tuple[int, ...], launch: int, end: bool) -> Launched:
        assert isinstance(program, _Function)
        assert program.call is not None
        if len(args) != len(program.in_specs):
            raise ValueError(f"{program.name} takes {len(program.in_specs)} arrays and got {len(args)}.")
        with jaxlib.x64(program.x64):
            arrays = [self._array(value, spec) for value, spec in zip(args, program.in_specs, strict=True)]
            results = self._call(program, arrays)
            outs = [
                self._value(program, index, result, spec)
                for index, (result, spec) in enumerate(zip(results, program.out_specs, strict=True))
            ]
        return Launched(outs, None)

    def _call(self, program: _Function, arrays: list[jax.Array]) -> list[Any]:
        assert program.call is not None
        args, kwargs = jax.tree.unflatten(program.in_tree, arrays)
        try:
            result = program.call(*args, **kwargs)
        except BaseException as error:  # SystemExit too is the function's, not this thread's.
            failure = self._raised(program, error)
            if not program.out_specs:  # No result of it will tell.
                _log.warning("%s", failure)
            raise failure from error
        results, tree = jax.tree.flatten(result)
        if tree != program.out_tree:
            raise ValueError(
                f"{program.name} gave results of structure {tree} where its specification says {program.out_tree}; "
                "a function must give the same structure for arguments of the same types."
            )
        return results

    def _raised(self, program: _Function, error: BaseException) -> WorkerFailure:
        own = error.__traceback__
        frames = own.tb_next if own is not None else None
        text = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
        return WorkerFailure(
            Code.INTERNAL,
            f"The colocated function {program.name} raised {type(error).__name__} on host {self._host}.\n{text}",
        )

    # --- Arguments

    def _array(self, value: Value, spec: Any) -> jax.Array:
        sharding = spec.sharding
        strings = isinstance(spec.dtype, np.dtypes.StringDType)
        parts: list[Any] = []
        for device in sharding.addressable_devices:
            shard = value.shard(self._names[device.id])
            if strings:
                shard = jax.device_put(_from_strings(shard, sharding.shard_shape(spec.shape)), device)
            elif shard.is_deleted():
                raise FailedValue(DELETED)
            parts.append(shard)
        return jax.make_array_from_single_device_arrays(spec.shape, sharding, parts, dtype=spec.dtype)

    # --- Results

    def _value(self, program: _Function, index: int, result: Any, spec: Any) -> Value:
        wanted = program.local_of(index)
        if not isinstance(result, jax.Array):
            raise ValueError(
                f"Result {index} of {program.name} is of type {type(result).__name__}; colocated Python gives "
                "jax.Arrays only, so make it one with jax.device_put."
            )
        shards = {self._names[shard.device.id]: shard.data for shard in result.addressable_shards}
        found = {device: shards[device] for device in wanted if device in shards}
        if not _fits(result, spec, found, wanted):
            raise ValueError(
                f"Result {index} of {program.name} is {result.dtype}{list(result.shape)} with {result.sharding}, where "
                f"its specification says {spec.dtype}{list(spec.shape)} with {spec.sharding}; make them the same."
            )
        if isinstance(spec.dtype, np.dtypes.StringDType):
            return Value({device: _to_strings(shard) for device, shard in found.items()})
        return Value(dict[DeviceId, Shard | Pending](found))


def _fits(result: jax.Array, spec: Any, found: Mapping[DeviceId, Any], wanted: Sequence[DeviceId]) -> bool:
    """Whether a result is what was specified, as far as this host's shards of it go.

    JAX specifies some results over all devices and makes them over this host's only.
    """
    if result.dtype != spec.dtype or len(found) < len(wanted):
        return False
    if result.sharding.device_set == spec.sharding.device_set:
        return result.shape == spec.shape and result.sharding.is_equivalent_to(spec.sharding, result.ndim)
    shape = spec.sharding.shard_shape(spec.shape)
    return all(shard.shape == shape for shard in found.values())


def _from_strings(data: bytes, shape: tuple[int, ...]) -> Any:
    elements = [each.decode() for each in protos.strings(data)]
    return np.array(elements, np.dtypes.StringDType()).reshape(shape)


def _to_strings(shard: jax.Array) -> bytes:
    return protos.string_contents(str(each).encode() for each in np.asarray(jax.device_get(shard)).flat)
