"""Run as a process: lowers programs with JAX the way its IFRT proxy client sends them.

Prints a msgpack dict: name to (portable StableHLO, CompileOptionsProto). The programs' device
ids are those of JAX's 8 CPU devices, which the tests take for cluster-wide ids.
"""

from __future__ import annotations

import io
import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import jax.numpy as jnp
import ml_dtypes
import msgspec
import numpy as np
from jax._src import compiler
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding
from jax.sharding import PartitionSpec as P
from jaxlib import _jax
from jaxlib.mlir.dialects import stablehlo

programs: dict[str, tuple[bytes, bytes]] = {}
_compile = compiler.backend_compile_and_load
_seen: list[tuple[bytes, bytes]] = []


def _hook(backend, module, devices, options, *rest):
    text = io.BytesIO()
    module.operation.write_bytecode(text)
    art = _jax.mlir.serialize_portable_artifact(text.getvalue(), stablehlo.get_current_version(), True)
    _seen.append((art, options.SerializeAsString()))
    return _compile(backend, module, devices, options, *rest)


compiler.backend_compile_and_load = _hook


def add(name, function, *args, **jit):
    jax.jit(function, **jit).lower(*args).compile()
    programs[name] = _seen[-1]


def of(shape=(), dtype=np.float32, sharding=None):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def mesh(*indices):
    return Mesh(np.array([jax.devices()[i] for i in indices]), "x")


def psum(name, where, donate=()):
    cut = NamedSharding(where, P("x"))
    size = where.size * 2
    body = jax.shard_map(lambda a: a + jax.lax.psum(a, "x"), mesh=where, in_specs=P("x"), out_specs=P("x"))
    add(name, body, of((size,), sharding=cut), donate_argnums=donate)


add("add", lambda a: a + 1, of())
add("add_on_2", lambda a: a + 1, of(sharding=SingleDeviceSharding(jax.devices()[2])))
add("donate", lambda a, b: (a + b, b * 2), of((4,)), of((4,)), donate_argnums=0)
add("nothing", lambda a: (), of())
add("pair", lambda a, b: (a @ b, jnp.sum(a)), of((3, 4)), of((4, 5)))
add("cholesky", jnp.linalg.cholesky, of((3, 3)))
add("eigh", jnp.linalg.eigh, of((3, 3)))
add("empty", lambda a: a * 2, of((0, 3)))
add("slow", lambda a: jax.lax.fori_loop(0, 400, lambda _, b: jnp.tanh(b @ b), a), of((300, 300)))
add("int4", lambda a: a + a, of((3,), ml_dtypes.int4))


def inspected(a):
    jax.debug.inspect_array_sharding(a, callback=lambda sharding: None)
    return a + 1


add("inspected", inspected, of((8,), sharding=NamedSharding(mesh(0, 1, 2, 3), P("x"))))
psum("psum4", mesh(0, 1, 2, 3))
psum("psum4_donate", mesh(0, 1, 2, 3), donate=0)
psum("psum_permuted", mesh(2, 0, 3, 1))
psum("psum_subset", mesh(1, 3))
psum("psum8", mesh(*range(8)))
psum("psum_across", mesh(2, 3, 4))
four = mesh(0, 1, 2, 3)
cut = NamedSharding(four, P("x"))
add("cast4", lambda a: a.astype(np.int32), of((8,), sharding=cut), out_shardings=cut)
for name, donated in (("", ()), ("_donate", 0)):
    add(f"step4{name}", lambda a: a + 1, of((8,), sharding=cut), out_shardings=cut, donate_argnums=donated)
    pair = {"out_shardings": (cut, cut), "donate_argnums": donated}
    add(f"pair4{name}", lambda a, b: (a + b, a * 2), of((8,), sharding=cut), of((8,), sharding=cut), **pair)
add(
    "replicated",
    lambda a, b: (a + b, jnp.sum(b)),
    of((8,), sharding=NamedSharding(four, P("x"))),
    of((8,), sharding=NamedSharding(four, P())),
    out_shardings=(NamedSharding(four, P("x")), NamedSharding(four, P())),
)
sys.stdout.buffer.write(msgspec.msgpack.encode(programs))
