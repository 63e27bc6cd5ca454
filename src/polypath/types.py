"""The vocabulary of Polypath: what the controller, the workers and the frontend name alike.

Everything here is frozen, holds no array bytes and needs neither jax nor numpy.
"""

from __future__ import annotations

import enum
from typing import Final, Literal

import msgspec

SessionId = int
"""One connected client. Random 63-bit: it doubles as the key to a client's host buffers."""
HostId = int
"""A worker's place in the cluster, from 0; stays the same when the worker is started again."""
IslandId = int
"""The workers that can run one SPMD program together."""
DeviceId = int
"""A device, cluster-wide; stays the same when its worker is started again."""
ValueId = int
"""An array in the workers' stores. Made by the controller; a client's handle names one."""
ExecutableId = int
"""A compiled program on the workers that run it."""
RequestId = int
"""A question to a worker that will be answered."""


ProgramKind = Literal["xla", "python", "plugin"]
"""What runs a program: a compiler's executable, Python beside the devices, or the worker's own code."""


class Struct(msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=True):
    """A frozen record, encoded by position (both ends are always the same version)."""


class Code(enum.IntEnum):
    """Why something failed: absl's canonical codes, which JAX prefixes to its messages."""

    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


class Failure(Struct, frozen=True, tag="F"):
    """An error as a value: it flows through everything computed from it."""

    code: Code
    message: str


DTYPES: Final = {
    "bool": "PRED",
    "int1": "S1", "int2": "S2", "int4": "S4", "int8": "S8", "int16": "S16", "int32": "S32", "int64": "S64",
    "uint1": "U1", "uint2": "U2", "uint4": "U4", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
    "float4_e2m1fn": "F4E2M1FN", "float6_e2m3fn": "F6E2M3FN", "float6_e3m2fn": "F6E3M2FN",
    "float8_e3m4": "F8E3M4", "float8_e4m3": "F8E4M3", "float8_e4m3fn": "F8E4M3FN",
    "float8_e4m3b11fnuz": "F8E4M3B11FNUZ", "float8_e4m3fnuz": "F8E4M3FNUZ", "float8_e5m2": "F8E5M2",
    "float8_e5m2fnuz": "F8E5M2FNUZ", "float8_e8m0fnu": "F8E8M0FNU",
    "float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64",
    "complex64": "C64", "complex128": "C128",
}  # fmt: skip
"""XLA's primitive type of each dtype of an array, by the name that numpy or ml_dtypes has for it."""


def element_size(dtype: str) -> int:
    """Bytes of an element in host memory, where types of less than a byte take a byte each."""
    bits = dtype.lstrip("abcdefghijklmnopqrstuvwxyz").partition("_")[0]
    return max(int(bits or 8) // 8, 1)


Attribute = bool | int | float | str | tuple[int, ...]


class Device(Struct, frozen=True):
    """One device of the cluster, as its worker described it."""

    id: DeviceId
    host: HostId
    island: IslandId
    local_index: int
    """Place among the devices of its host, from 0."""
    platform: str
    """jaxlib's name: `cpu`, `cuda`, `rocm` or `tpu`."""
    kind: str
    """The model, for instance `cpu` or `NVIDIA H200`."""
    memory_kinds: tuple[str, ...]
    """The memory spaces it can address; the first is the default."""
    attributes: dict[str, Attribute]
    """What programs read: `slice_index`, `coords`, `compute_capability`, ..."""


class Platform(Struct, frozen=True):
    """What a worker runs on; the same on every worker of a cluster."""

    name: str
    version: str
    """jaxlib's `platform_version`, which JAX parses to pick GPU paths."""
    jaxlib: str
    """The version of jaxlib that compiles."""
    attributes: dict[str, Attribute]
    """The PJRT client's attributes."""
    python: str = ""
    """The workers' version of Python, such as `3.11`: functions are pickled as its bytecode."""


class Sharding(Struct, frozen=True):
    """Where the shards of an array are: one per device, in this order.

    `op_sharding` is XLA's serialized `OpSharding` (how the shape is cut), or None where
    the wire did not say (each shard then stands for itself).
    """

    devices: tuple[DeviceId, ...]
    memory_kind: str = ""
    """Empty for each device's default memory."""
    op_sharding: bytes | None = None
    shard_shapes: tuple[tuple[int, ...], ...] | None = None
    """One shape (all shards alike) or one per device, where the wire gave them."""
    fully_replicated: bool = False


class ArraySpec(Struct, frozen=True):
    """An array's type and place.

    `dtype` is the numpy or ml_dtypes name (`float32`, `bfloat16`, `int4`, ...), or `string` / `token`.
    """

    dtype: str
    shape: tuple[int, ...]
    """The global shape."""
    sharding: Sharding


class ProgramInfo(Struct, frozen=True, tag="P"):
    """What compiling told about a program.

    Shardings and layouts are serialized XLA protos; None where the compiler did not say.
    """

    name: str
    devices: tuple[DeviceId, ...]
    """The device assignment, replica-major."""
    outputs: tuple[ArraySpec, ...]
    """Global shapes; `sharding.op_sharding` is None for a program of one device."""
    fingerprint: bytes = b""
    parameter_shardings: tuple[bytes, ...] | None = None
    output_shardings: tuple[bytes, ...] | None = None
    parameter_layouts: tuple[bytes, ...] | None = None
    output_layouts: tuple[bytes, ...] | None = None
    output_memory_kinds: tuple[str, ...] = ()
    donated: tuple[int, ...] = ()
    """Indices of the parameters whose buffers the program takes over."""
    memory_stats: bytes | None = None
    """A serialized `CompiledMemoryStatsProto`; None where the platform has none."""
    code_size: int = 0
    """Bytes of generated code."""


HOST_CPU: Final = 1 << 24
"""The CPU device beside an accelerator has the accelerator's id plus this."""

SERVER_HANDLES: Final = 1 << 62
"""Handles from here up are made by the server; the client's own stay below."""
