"""Copies an array between two islands, told when by lines; says whether it stayed as it was."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P


def over(island: int) -> NamedSharding:
    devices = [device for device in jax.devices() if device.slice_index == island]
    return NamedSharding(jax.make_mesh((2,), ("x",), devices=devices), P("x"))


first, second = over(0), over(1)
x = jax.jit(lambda: jnp.arange(8 << 20, dtype=jnp.float32), out_shardings=first)()
total = float(x.sum())
input()
y = jax.device_put(x, second)
for _ in range(3):
    y = jax.device_put(jax.device_put(y, first), second)
print(float(y.sum()) == total, flush=True)
input()
