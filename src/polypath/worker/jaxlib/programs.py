"""Programs: compile options, compiling, loading, and what the compiler tells about them.

What was found out and must stay true:

- `lapack._lapack.initialize()` fills in LAPACK's function pointers. JAX calls it when it lowers;
  a worker never lowers, so `prepare` calls it, or the first `cholesky` segfaults.
- An execution that spans devices must not be started with a deleted buffer or a wrong shape: the
  device that notices gives up alone and the others wait for it for ever. Callers check first.
- Starting a program over several CPU hosts blocks once an earlier one hangs on a lost host.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax._src import lib as _lib
from jaxlib import _jax, lapack
from jaxlib import xla_client as _xla

from polypath.protos import number
from polypath.worker import protos
from polypath.worker.jaxlib.arrays import device_list
from polypath.worker.jaxlib.types import Client, JaxDevice, Loaded, Options


def options_for(serialized: bytes, ids: Sequence[int]) -> Options:
    """Compile options with what is this worker's in place of what is the client's or the cluster's.

    Args:
        serialized: a `CompileOptionsProto`, as the client sent it.
        ids: the PJRT client's ids of the program's devices, replica-major.

    Raises:
        ValueError: the devices cannot hold that many replicas.
    """
    options = _xla.CompileOptions.ParseFromString(serialized)
    replicas = max(options.num_replicas, 1)
    if len(ids) % replicas:
        raise ValueError(f"{len(ids)} devices cannot hold {replicas} replicas of a program.")
    options.device_assignment = _xla.DeviceAssignment.create(np.asarray(ids, dtype=np.int64).reshape(replicas, -1))
    # The client's JAX names the folder of its own machine's CUDA.
    options.executable_build_options.debug_options.xla_gpu_cuda_data_dir = _cuda_folder()
    return options


@functools.cache
def _cuda_folder() -> str:
    """Where XLA finds CUDA's `ptxas` and `libdevice`: where JAX finds them here, else XLA's own default."""
    if _lib.cuda_path is not None:
        return _lib.cuda_path
    options = _xla.CompileOptions()  # The other two are parts of it and do not keep it alive.
    return options.executable_build_options.debug_options.xla_gpu_cuda_data_dir


def options_key(options: Options) -> bytes:
    """The same bytes for the same options. As a client sends them they differ: maps in them have no order."""
    return options.SerializeAsString()


def prepare(program: bytes) -> None:
    """Load what a program calls in this process; before it is compiled or loaded."""
    # Neither for every worker at its start: they import for 0.3 s each.
    if b"lapack" in program:
        lapack._lapack.initialize()
    if b"mosaic_gpu" in program:
        # Names the library of Mosaic's kernels, by an environment variable that the plugin reads.
        importlib.import_module("jax.experimental.mosaic.gpu")


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
    """What makes one result of an execution an array: committed, and without JAX's checks."""
    try:
        return _xla.array_result_handler(shape_type, sharding, True, True)
    except TypeError:  # Since jax 0.11.2 it never checks. Asked with three arguments, older ones would.
        return _xla.array_result_handler(shape_type, sharding, True)


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
    return b"".join(number(field, getattr(stats, name)) for field, name in names.items())


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
