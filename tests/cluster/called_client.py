"""A program calls a function of this process, which says "called" and stays until a line comes; others go on."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((4,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
x = jax.device_put(np.arange(4, dtype=np.float32), NamedSharding(mesh, P("x")))


def wait(v: Any) -> Any:
    print("called", flush=True)
    input()
    return np.asarray(v) * 2


def each(v: jax.Array) -> jax.Array:
    is_first = jax.lax.axis_index("x") == 0
    spec = jax.ShapeDtypeStruct(v.shape, v.dtype)
    return jax.lax.cond(is_first, lambda u: jax.pure_callback(wait, spec, u + 1), lambda u: u, v)


late = jax.jit(jax.shard_map(each, mesh=mesh, in_specs=P("x"), out_specs=P("x"), check_vma=False))(x)
needs_it = late + 1
moved = jax.device_put(needs_it.addressable_shards[0].data, jax.devices()[3])  # To another host.
needs_it_not = jax.device_put(np.float32(3), jax.devices()[0]) * 3
taken = jax.jit(lambda v: v * 5, donate_argnums=0)(x)  # Gives away what the first may still have to read.
print(float(needs_it_not), flush=True)
print(np.asarray(late).tolist(), np.asarray(moved).tolist(), np.asarray(taken).tolist(), x.is_deleted())
