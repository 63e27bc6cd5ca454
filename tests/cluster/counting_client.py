"""Takes a step for each line that it is given, and says the state's first element: `counting_client.py START`."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((4,), ("x",))
x = jax.device_put(np.full(8, int(sys.argv[1]), np.float32), NamedSharding(mesh, P("x")))
step = jax.jit(lambda x: x + jnp.sum(x) / 8)
while True:
    x = step(x)
    print(float(jax.device_get(x)[0]), flush=True)
    input()
