"""Arrays of every dtype from host memory and back, with 64-bit types on."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from _common import mesh_2x4, noise, put, ramp, shards
from jax.sharding import NamedSharding, PartitionSpec

jax.config.update("jax_enable_x64", True)

WHOLE = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
WIDE = ["float16", "float32", "float64", "bfloat16"]
NARROW = [
    "float8_e3m4", "float8_e4m3", "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz",
    "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
]  # fmt: skip
SUB_BYTE = ["int2", "int4", "uint2", "uint4", "float4_e2m1fn"]


def dtype_of(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, None) or name)


def values(name: str, *shape: int) -> np.ndarray:
    """Values of the dtype, the extreme ones among them where it is an integer."""
    dtype = dtype_of(name)
    if name in WHOLE:
        info = np.iinfo(dtype)
        x = ramp(*shape, dtype=np.int64).astype(dtype)
        x.flat[:2] = info.min, info.max
        return x
    if name in SUB_BYTE:
        return (np.arange(np.prod(shape)).reshape(shape) % 2).astype(np.float32).astype(dtype)
    return noise(*shape).astype(np.float64).__abs__().astype(dtype)


def round_trip(names: list[str]) -> dict[str, Any]:
    found = {}
    for name in names:
        x = values(name, 4, 8)
        single = jax.device_put(x)
        spread = put(x, "x", "y")
        copied = put(x, None)
        found[name] = [single, spread, copied, *shards(spread)[3:6], str(spread.dtype)]
    return found


def case_integers() -> Any:
    return round_trip(WHOLE)


def case_floats() -> Any:
    return round_trip(WIDE)


def case_float8() -> Any:
    return round_trip(NARROW)


def case_sub_byte() -> Any:
    return round_trip(SUB_BYTE)


def case_bool() -> Any:
    x = ramp(8, 4, dtype=np.int32) % 3 == 0
    return [put(x, "y"), put(x, None, "y"), jax.device_put(x)]


def case_complex() -> Any:
    found = {}
    for dtype in (np.complex64, np.complex128):
        x = (noise(4, 8) + 1j * noise(4, 8, seed=1)).astype(dtype)
        found[np.dtype(dtype).name] = [put(x, "x", "y"), jax.device_put(x), jnp.conj(put(x, "y"))]
    return found


def case_special_values() -> Any:
    x = np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 5e-324, 1.8e308, -1.0])
    return [put(x.astype(dtype), ("x", "y")) for dtype in (np.float64, np.float32, ml_dtypes.bfloat16)]


def case_zero_size() -> Any:
    found = {}
    for name in ["float32", "int4", "bool", "complex64", "bfloat16"]:
        found[name] = [put(np.zeros(shape, dtype_of(name))) for shape in [(0,), (0, 8), (3, 0, 5)]]
        found[name].append(jnp.concatenate([found[name][1], jnp.ones((1, 8), dtype_of(name))]))
    found["split"] = put(np.zeros((0, 8), np.float32), None, "y")
    return found


def case_scalars() -> Any:
    python = [jax.device_put(v) for v in (True, 3, 2.5, 1 + 2j, np.float16(1.5), np.int64(-(2**62)), np.uint8(255))]
    replicated = [put(np.asarray(v, dtype_of(n))) for n, v in (("float32", 1.5), ("int4", -3), ("bfloat16", 2.0))]
    return python, replicated, [float(python[2]), int(python[5]), bool(python[0]), complex(python[3])]


def case_arithmetic_on_each() -> Any:
    add = jax.jit(lambda x: (x + x, x * x))
    return {name: add(put(np.ones((4, 8), dtype_of(name)), "x", "y")) for name in [*WHOLE, *WIDE, "int4", "uint4"]}


def case_casts() -> Any:
    x = put(noise(4, 8) * 3, "x", "y")
    return {name: jax.jit(lambda v, n=name: v.astype(dtype_of(n)))(x) for name in [*WIDE, *NARROW, "int8", "int4"]}


def case_bitcast() -> Any:
    x = put(noise(4, 8), "x", "y")
    cast = jax.jit(jax.lax.bitcast_convert_type, static_argnums=1)
    return [cast(x, jnp.int32), cast(x, jnp.uint8), cast(cast(x, jnp.int16), jnp.bfloat16)]


def case_view() -> Any:
    return [jnp.asarray(noise(4, 8)).view(jnp.int32), put(noise(4, 8), "x").view(jnp.uint8)]


def case_strided_host_memory() -> Any:
    x = ramp(6, 8, 4)
    views = {
        "transposed": x.T,
        "swapped": x.swapaxes(0, 1),
        "strided": x[::2, ::4, 1::2],
        "fortran": np.asfortranarray(x),
        "offset": x[1:5, 3:, 2],
        "read_only": np.frombuffer(x.tobytes(), np.float32).reshape(6, 8, 4),
    }
    return {name: [jax.device_put(v), put(v)] for name, v in views.items()}


def case_split_of_strided_host_memory() -> Any:
    x = ramp(8, 8, 8)
    return [[put(v, "x", "y"), put(v, None, "y"), put(v)] for v in (x.T, x[:, :, 3:5], x[:, ::2].swapaxes(0, 2))]


def case_strided_host_memory_of_small_types() -> Any:
    x = ramp(8, 8, dtype=np.int32) % 2
    return [put(x.astype(dtype_of(n)).T[2:6], "x", "y") for n in ("int4", "uint2", "float8_e4m3fn", "bool", "bfloat16")]


def case_reversed_host_memory() -> Any:
    x = ramp(8, 8, 4)
    return [[jax.device_put(v), put(v, "x", "y"), put(v)] for v in (x[::-1], x[:, ::-2], x.T[:, ::-1])]


def case_broadcast_host_memory() -> Any:
    x = ramp(8, 8, 4)
    views = [np.broadcast_to(x[:1], x.shape), np.broadcast_to(x[:, :, :1], x.shape)]
    return [[jax.device_put(v), put(v, "x", "y"), put(v)] for v in views]


def case_partly_replicated() -> Any:
    x = ramp(8, 8)
    return [shards(put(x, *spec)) for spec in [("x",), ("y",), (None, "x"), (None, "y"), ()]]


def case_byte_order_and_lists() -> Any:
    return [jnp.asarray(ramp(4, 4).astype(">f4").astype("f4")), jnp.asarray([[1, 2], [3, 4]]), jnp.array(range(5))]


def case_large() -> Any:
    x = ramp(512, 1024)
    spread = put(x, "x", "y")
    return [spread, spread.sum(axis=0), jax.device_put(spread, NamedSharding(mesh_2x4(), PartitionSpec()))]
