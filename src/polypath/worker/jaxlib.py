"""Everything a worker asks of jaxlib's internals, so that a jax upgrade touches one file.

Owns the PJRT client, its group, and the objects that JAX's own arrays are made of. It knows
nothing of values, messages or the log. Nothing here may let JAX make
backends of its own: `adopt` gives it the worker's.

What was found out about jaxlib 0.10.2 and must stay true:

- `lapack._lapack.initialize()` fills in LAPACK's function pointers. JAX calls it when it lowers;
  a worker never lowers, so `prepare` calls it, or the first `cholesky` segfaults.
- An execution that spans devices must not be started with a deleted buffer or a wrong shape: the
  device that notices gives up alone and the others wait for it for ever. Callers check first.
- An array that was read as numpy on CPU shares its memory; donating it then silently copies.
- A member aborts when its connection to the group's service breaks, whatever callback it was
  given: the status cannot be cast to Python (`std::bad_cast`). So the service has a process of its
  own, which outlives every member; with the service in node 0, killing that one killed all.
- Starting a program over several CPU hosts blocks once an earlier one hangs on a lost host.
- An array over several devices is only its shards: any sharding over the right devices serves, so
  all wholes here are called replicated, and have the shape of one shard.
"""
# jaxlib ships no types; what is unknown ends in this file.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false, reportAttributeAccessIssue=false
# pyright: reportMissingTypeStubs=false, reportMissingModuleSource=false, reportMissingImports=false
# pyright: reportPrivateImportUsage=false, reportUnknownParameterType=false

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import jax
import jax.sharding
import jaxlib
import jaxlib.version
import ml_dtypes
import numpy as np
import numpy.typing as npt
from jax._src import array as _array
from jax._src import core as _core
from jax._src import distributed as _distributed
from jax._src import xla_bridge as _bridge
from jax._src.lib import _profiler
from jax._src.sharding_impls import GSPMDSharding
from jax.experimental.colocated_python import serialization as _pickled
from jaxlib import _jax, lapack
from jaxlib import xla_client as _xla

from polypath.messages import CompilerAnswer, QuestionKind, ShardedShape
from polypath.types import Attribute, DeviceId
from polypath.worker import protos
from polypath.worker.config import WorkerConfig

_log = logging.getLogger(__name__)

VERSION: str = jaxlib.version.__version__
Client = Any
JaxDevice = Any
Array = Any
Loaded = Any
Options = Any

_FEW_BYTES = 16 << 10
"""So many are copied sooner than shared."""

_CLIENT_ATTRIBUTES = (
    "serialize_with_sdy",
    "supports_executable_serialization",
    "xla_version",
    "pjrt_c_api_major_version",
    "pjrt_c_api_minor_version",
    "stablehlo_current_version",
    "stablehlo_minimum_version",
)
_DEVICE_ATTRIBUTES = (
    "coords",
    "core_on_chip",
    "num_cores",
    "compute_capability",
    "core_count",
    "partition_index",
    "device_vendor",
    "physical_location",
)


def _configure() -> None:
    jax.config.update("jax_enable_x64", True)


# --- The client -------------------------------------------------------------------------------


class Group:
    """This process's membership of its island's group, and what its members tell each other."""

    def __init__(self, config: WorkerConfig) -> None:
        self._nodes = config.nodes
        self.client: Any = _jax.get_distributed_runtime_client(
            config.group_address,
            config.node,
            init_timeout=60,
            shutdown_timeout=1,
            heartbeat_timeout=100,
            missed_heartbeat_callback=_on_missed_heartbeat,
            shutdown_on_destruction=False,
            use_compression=True,
        )
        self.client.connect()
        _distributed.global_state.client = self.client
        _distributed.global_state.process_id = config.node
        _distributed.global_state.num_processes = config.nodes

    def exchange(self, node: int, key: str, value: str) -> list[str]:
        """What each node says under `key`, in the order of the nodes."""
        self.client.key_value_set(f"polypath/{key}/{node}", value)
        return [self.client.blocking_key_value_get(f"polypath/{key}/{each}", 60_000) for each in range(self._nodes)]


def _on_missed_heartbeat(status: object) -> None:
    # The default ends the process. The launcher sees a dead worker by its process instead.
    _log.warning("The island's group lost contact: %s", status)


def make_client(config: WorkerConfig, group: Group | None) -> Client:
    """A PJRT client of the platform; a member of `group` if there is one."""
    _configure()
    if config.platform in ("", "cuda", "rocm", "gpu", "tpu"):
        _bridge.discover_pjrt_plugins()
    if config.devices and config.platform in ("", "cpu"):
        jax.config.update("jax_num_cpu_devices", config.devices)
    if group is not None:
        # jax's default; said again because a user's environment can change it.
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
    names = {"gpu": ("cuda", "rocm"), "": ("tpu", "cuda", "rocm", "cpu")}.get(config.platform, (config.platform,))
    known = _bridge._backend_factories
    problems: list[str] = []
    for name in names:
        if name not in known:
            problems.append(f"jaxlib has no plugin for {name}")
            continue
        try:
            client = known[name].factory()
        except Exception as error:
            problems.append(f"{name}: {error}")
            continue
        if client is not None:
            return client
        problems.append(f"{name} has no devices")
    raise RuntimeError(f"This host has no device of platform {config.platform!r} ({'; '.join(problems)}).")


def is_cpu(client: Client) -> bool:
    return client.platform == "cpu"


def make_cpu_client(devices: int) -> Client:
    """A second client, of the CPU beside accelerators; a member of the same group."""
    jax.config.update("jax_num_cpu_devices", devices)
    return _bridge._backend_factories["cpu"].factory()


def client_attributes(client: Client) -> dict[str, Attribute]:
    from polypath.worker.executors import stablehlo

    found = _attributes(client, _CLIENT_ATTRIBUTES)
    # The CPU client has none, but exporting needs to know that it takes Shardy, and clients which StableHLO it reads.
    found.setdefault("serialize_with_sdy", True)
    found.setdefault("stablehlo_current_version", tuple(map(int, stablehlo.version().split("."))))
    return found


def device_attributes(device: JaxDevice) -> dict[str, Attribute]:
    return _attributes(device, _DEVICE_ATTRIBUTES)


def _attributes(thing: Any, names: Sequence[str]) -> dict[str, Attribute]:
    found: dict[str, Attribute] = {}
    for name in names:
        value = getattr(thing, name, None)
        if isinstance(value, list | tuple):
            found[name] = tuple(int(each) for each in value)
        elif isinstance(value, bool | int | float | str):
            found[name] = value
    return found


def device_memory_stats(device: JaxDevice) -> dict[str, int] | None:
    """None where the platform counts nothing: on CPU."""
    found = device.memory_stats()
    return None if found is None else {name: int(value) for name, value in found.items()}


def memory_kinds(device: JaxDevice) -> tuple[str, ...]:
    """The device's memories, its default first."""
    default = device.default_memory().kind
    others = [memory.kind for memory in device.addressable_memories() if memory.kind != default]
    return (default, *others)


def default_layout(dtype: npt.DTypeLike, shape: tuple[int, ...], device: JaxDevice) -> bytes:
    return layout_proto(device.client.get_default_layout(np.dtype(dtype), shape, device), dtype, shape)


def layout_proto(layout: Any, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> bytes:
    """A PJRT layout as a serialized `LayoutProto`: taken out of a shape that has it."""
    try:
        text = f"{_primitive(dtype)}[{','.join(map(str, shape))}]{layout}"
        shape_proto = _xla.Shape(text).to_serialized_proto()
    except Exception:
        order = tuple(layout._xla_layout().minor_to_major())
        return protos.layout(order)
    for field, value in protos.fields(shape_proto):
        if field == 5 and not isinstance(value, int):
            return bytes(value)
    return protos.layout(tuple(reversed(range(len(shape)))))


def _primitive(dtype: npt.DTypeLike) -> str:
    return str(_xla.Shape.array_shape(np.dtype(dtype), ())).removesuffix("[]")


# --- JAX itself, for functions of users ---------------------------------------------------------


def adopt(client: Client, devices: Mapping[DeviceId, JaxDevice]) -> None:
    """Make `client` JAX's own backend, and let pickles of colocated Python name its devices by cluster-wide id.

    These pickles name a device by its id in the process that wrote them. For the client's that is
    ours, and the CPU client of a group numbers its devices otherwise.
    """
    with _bridge._backend_lock:
        _bridge._backends[client.platform] = client
        _bridge._default_backend = client
    for hook in _bridge._backend_initialization_hooks:
        hook(client)
    names = {device.id: id_ for id_, device in devices.items()}
    pickled: Any = _pickled

    def reduce_mesh(mesh: Any) -> tuple[Any, ...]:
        ids = np.array([names[device.id] for device in mesh.devices.flat], int).reshape(mesh.devices.shape)
        return pickled._unreduce_mesh, (ids, mesh.axis_names, mesh.axis_types)

    def reduce_list(found: Any) -> tuple[Any, ...]:
        return pickled._unreduce_device_list, ([names[device.id] for device in found],)

    def reduce_single(sharding: Any) -> tuple[Any, ...]:
        (device,) = sharding.device_set
        return pickled._unreduce_single_device_sharding, (names[device.id], sharding.memory_kind)

    pickled._get_cpu_device_map = lambda: devices
    once = pickled._make_reduce_func_with_common_obj
    pickled._reduce_mesh = once(reduce_mesh)
    pickled._reduce_device_list = once(reduce_list)
    pickled._reduce_single_device_sharding = once(reduce_single)


def unpickle(data: bytes) -> Any:
    """What JAX's colocated Python pickled."""
    return cast(Any, _pickled)._deserialize(data)


def x64(on: bool) -> AbstractContextManager[None]:
    """JAX's 64-bit mode as a user has it, for this thread; the worker's own is always on."""
    return cast(Any, jax).enable_x64(on)


# --- Arrays -----------------------------------------------------------------------------------


def dtype_of(name: str) -> np.dtype[Any]:
    """numpy's or ml_dtypes' type of that name.

    Raises:
        TypeError: there is none.
    """
    return np.dtype(getattr(ml_dtypes, name, name))


def single(device: JaxDevice, memory_kind: str) -> Any:
    """The sharding of an array on one device."""
    return jax.sharding.SingleDeviceSharding(device, memory_kind=memory_kind or None)


def over(devices: Sequence[JaxDevice], memory_kind: str = "") -> Any:
    """The sharding of a whole over several devices."""
    if len(devices) == 1:
        return single(devices[0], memory_kind)
    return GSPMDSharding.get_replicated(tuple(devices), memory_kind=memory_kind or None)


def aval(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Any:
    return _core.ShapedArray(shape, np.dtype(dtype))


def put(array: npt.NDArray[Any], sharding: Any, device: JaxDevice) -> Array:
    return _xla.batched_device_put(
        _core.ShapedArray(array.shape, array.dtype), sharding, [array], [device], True, enable_x64=True
    )


def elements(array: Array) -> npt.NDArray[Any]:
    """The elements of a single-device array; where they are many and in host memory they are shared, not copied.

    The array itself keeps no trace of it: JAX's arrays remember what they were read as, and while
    that is there donating them copies.
    """
    if array.size * array.dtype.itemsize <= _FEW_BYTES:
        try:
            return np.array(memoryview(array))  # Three times as fast as what follows.
        except BufferError:
            pass  # Not in host memory, or of a type that Python's buffers do not have.
    other = cast(Any, _array.ArrayImpl)(array.aval, array.sharding, [array], committed=True, _skip_checks=True)
    return np.asarray(other)


def copy(array: Array, sharding: Any, device: JaxDevice) -> Array:
    """A copy of a single-device array that lives on its own."""
    return _jax.batched_copy_array_to_devices_with_sharding(
        [array], [_device_list(device)], [sharding], [_jax.ArrayCopySemantics.ALWAYS_COPY]
    )[0]


_device_lists: dict[JaxDevice, Any] = {}


def _device_list(device: JaxDevice) -> Any:
    found = _device_lists.get(device)
    if found is None:
        found = _device_lists[device] = _xla.DeviceList((device,))
    return found


def join(shape_type: Any, sharding: Any, arrays: list[Array]) -> Array:
    """The whole over a program's devices that these shards (of this process) are."""
    return cast(Any, _array.ArrayImpl)(shape_type, sharding, arrays, committed=True, _skip_checks=True)


class End:
    """The end of an execution, to be waited for like an array."""

    def __init__(self, token: Any) -> None:
        self._token = token

    def is_ready(self) -> bool:
        return False  # jaxlib's token cannot be asked without waiting

    def is_deleted(self) -> bool:
        return False

    def block_until_ready(self) -> None:
        self._token.block_until_ready()


def wait_all(values: Sequence[Array | End]) -> None:
    """Wait until all are computed; raises what went wrong with one, also that it is deleted."""
    _xla.batched_block_until_ready([value for value in values if type(value) is not End])
    for value in values:
        if type(value) is End:
            value.block_until_ready()


def copy_whole(array: Array, sharding: Any, devices: Any) -> Array:
    """A copy of a whole, in place."""
    return _jax.batched_copy_array_to_devices_with_sharding(
        [array], [devices], [sharding], [_jax.ArrayCopySemantics.ALWAYS_COPY]
    )[0]


# --- Programs ---------------------------------------------------------------------------------


def device_list(devices: Sequence[JaxDevice]) -> Any:
    return _xla.DeviceList(tuple(devices))


def options_for(serialized: bytes, ids: Sequence[int]) -> Options:
    """Compile options with this client's device ids in place of the cluster's, replica-major."""
    options = _xla.CompileOptions.ParseFromString(serialized)
    replicas = max(options.num_replicas, 1)
    if len(ids) % replicas:
        raise ValueError(f"{len(ids)} devices cannot hold {replicas} replicas of a program.")
    options.device_assignment = _xla.DeviceAssignment.create(np.asarray(ids, dtype=np.int64).reshape(replicas, -1))
    return options


def options_key(options: Options) -> bytes:
    """The same bytes for the same options. As a client sends them they differ: maps in them have no order."""
    return options.SerializeAsString()


def prepare(program: bytes) -> None:
    """Load what a program calls in this process; before it is compiled or loaded."""
    # Not for every worker at its start: it imports scipy, for 0.3 s.
    if b"lapack" in program:
        lapack._lapack.initialize()


def compile_program(client: Client, program: bytes, devices: Any, options: Options) -> Loaded:
    return client.compile_and_load(program, devices, options)


def compile_module(
    client: Client, module: Any, devices: Any, options: Options, callbacks: Sequence[Callable[..., Any]]
) -> Loaded:
    """Compile an MLIR module; `callbacks` are what it calls, by their place."""
    return client.compile_and_load(module, devices, options, list(callbacks))


def serialize(loaded: Loaded) -> bytes:
    return loaded.serialize()


def deserialize(client: Client, data: bytes, devices: Any, options: Options) -> Loaded:
    return client.deserialize_executable(data, devices, options)


def result_handler(shape_type: Any, sharding: Any) -> Any:
    return _xla.array_result_handler(shape_type, sharding, True, True)


def parameter_types(loaded: Loaded) -> list[tuple[str, tuple[int, ...]]]:
    """What one device takes, after partitioning."""
    module = loaded.hlo_modules()[0].as_serialized_hlo_module_proto()
    shapes = _xla.XlaComputation(module).program_shape().parameter_shapes()
    return [_shape_type(shape) for shape in shapes]


def result_types(loaded: Loaded) -> list[tuple[str, tuple[int, ...]]]:
    """What one device gives, after partitioning."""
    module = loaded.hlo_modules()[0].as_serialized_hlo_module_proto()
    result = _xla.XlaComputation(module).program_shape().result_shape()
    shapes = result.tuple_shapes() if result.is_tuple() else [result]
    return [_shape_type(shape) for shape in shapes]


def _shape_type(shape: Any) -> tuple[str, tuple[int, ...]]:
    if shape.is_token():
        return "bool", (0,)  # as such a buffer is JAX's array
    return str(shape.numpy_dtype()), tuple(shape.dimensions())


def parameter_layouts(loaded: Loaded) -> list[Any] | None:
    """None where the compiler cannot say: for programs with tokens."""
    return _told(loaded.get_parameter_layouts)


def output_layouts(loaded: Loaded) -> list[Any] | None:
    """None where the compiler cannot say: for programs with tokens."""
    return _told(loaded.get_output_layouts)


def _told(ask: Callable[[], list[Any]]) -> list[Any] | None:
    try:
        return ask()
    except _jax.JaxRuntimeError as error:
        if str(error).startswith("UNIMPLEMENTED"):
            return None
        raise


def donated_parameters(loaded: Loaded) -> tuple[int, ...]:
    return protos.aliased_parameters(loaded.hlo_modules()[0].as_serialized_hlo_module_proto())


def shardings(found: list[Any] | None) -> tuple[bytes, ...] | None:
    """Serialized `OpSharding`s in the tiled form.

    A program of jax 0.12 names mesh axes instead. Nobody but the compiler reads that form: the
    controller cuts by tiles, and the client that sent it aborts when it is given it back.
    """
    return None if found is None else tuple(_tiled(each).SerializeToString() for each in found)


def _tiled(sharding: Any) -> Any:
    if sharding.type == _xla.OpSharding.Type.TUPLE:
        return sharding
    return _xla.HloSharding.v3_to_v2_sharding(_xla.HloSharding.from_proto(sharding)).to_proto()


def memory_stats(loaded: Loaded) -> bytes | None:
    """A serialized `CompiledMemoryStatsProto`; None where the platform has none."""
    try:
        stats = loaded.get_compiled_memory_stats()
    except _jax.JaxRuntimeError:
        return None
    names = {
        1: "generated_code_size_in_bytes",
        2: "argument_size_in_bytes",
        3: "output_size_in_bytes",
        4: "alias_size_in_bytes",
        5: "temp_size_in_bytes",
        7: "host_generated_code_size_in_bytes",
        8: "host_argument_size_in_bytes",
        9: "host_output_size_in_bytes",
        10: "host_alias_size_in_bytes",
        11: "host_temp_size_in_bytes",
        14: "peak_memory_in_bytes",
    }
    return b"".join(protos.number(field, getattr(stats, name)) for field, name in names.items())


def identity_with_layout(dtype: str, shape: tuple[int, ...], order: Sequence[int], device: JaxDevice) -> Loaded:
    """A program that gives its argument the layout `order` (minor to major)."""
    import jaxlib.mlir.dialects as _  # noqa: F401

    from polypath.worker.executors.stablehlo import DTYPES

    element = next(name for name, found in DTYPES.items() if found == dtype)
    tensor = f"tensor<{''.join(f'{size}x' for size in shape)}{element}>"
    layout = "{" + ",".join(map(str, order)) + "}"
    text = (
        "module @layout attributes {mhlo.num_partitions = 1 : i32, mhlo.num_replicas = 1 : i32} {\n"
        f'  func.func public @main(%arg0: {tensor}) -> ({tensor} {{mhlo.layout_mode = "{layout}"}}) {{\n'
        f"    return %arg0 : {tensor}\n  }}\n}}\n"
    )
    options = _xla.CompileOptions()
    options.device_assignment = _xla.DeviceAssignment.create(np.array([[device.id]]))
    return device.client.compile_and_load(text.encode(), device_list([device]), options)


# --- What XLA asks Python functions while it partitions ------------------------------------------


def register_partitioner(
    name: str, ask: Callable[[QuestionKind, bytes, list[ShardedShape], ShardedShape], CompilerAnswer]
) -> None:
    """Have XLA ask how to partition custom calls of `name`, whose configuration `ask` gets second.

    XLA keeps the first partitioner of a name.
    """

    def propagate(sharding: Any, shape: Any, key: bytes) -> Any:
        return _sharding(ask("propagate", key, [], _sharded(shape, sharding)).result)

    def partition(shapes: list[Any], given: list[Any], shape: Any, sharding: Any, key: bytes) -> Any:
        answer = ask("partition", key, list(map(_sharded, shapes, given)), _sharded(shape, sharding))
        assert answer.module is not None
        return bytecode(answer.module), list(map(_sharding, answer.operands)), _sharding(answer.result)

    def infer(shapes: list[Any], given: list[Any], shape: Any, key: bytes) -> Any:
        return _sharding(ask("infer", key, list(map(_sharded, shapes, given)), _sharded(shape, None)).result)

    def register(**more: Any) -> None:
        _xla.register_custom_call_partitioner(
            name, propagate, partition, infer, can_side_effecting_have_replicated_sharding=True, **more
        )

    register()
    _bridge.register_plugin_callbacks(register)


def inspector(take: Callable[[bytes], None]) -> tuple[bytes, object]:
    """The configuration of an `InspectSharding` that calls `take`, for as long as the object lives."""

    def inspect(sharding: Any) -> None:
        take(sharding.to_proto().SerializeToString())

    return _xla.encode_inspect_sharding_callback(inspect), inspect


def bytecode(program: bytes) -> bytes:
    """Portable StableHLO in the form that the compiler takes from a partitioner."""
    from polypath.worker.executors import stablehlo

    with stablehlo.parsed(program) as module:
        written = io.BytesIO()
        module.operation.write_bytecode(written)
        return written.getvalue()


def _sharded(shape: Any, sharding: Any) -> ShardedShape:
    return ShardedShape(str(shape), None if sharding is None else sharding.to_proto().SerializeToString())


def _sharding(proto: bytes | None) -> Any:
    if proto is None:
        return None
    sharding = _xla.OpSharding()
    sharding.ParseFromString(proto)
    return _xla.HloSharding.from_proto(sharding)


# --- The profiler -----------------------------------------------------------------------------


class Trace:
    """What this process and its devices do, from now until `stop`. There may be one at a time."""

    def __init__(self, host_level: int | None, python: bool, advanced: dict[str, bool | int | str]) -> None:
        options = _profiler.ProfileOptions()
        if host_level is not None:
            options.host_tracer_level = host_level
        options.python_tracer_level = int(python)
        options.advanced_configuration = advanced
        _profiler.clear_metadata()
        _profiler.set_metadata("jaxlib_version", VERSION)
        self._session: Any = _profiler.ProfilerSession(options)

    def stop(self) -> bytes:
        """A serialized `XSpace`, which is what an `xplane.pb` holds."""
        return self._session.stop()
