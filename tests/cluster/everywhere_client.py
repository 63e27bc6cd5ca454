"""A sum in which every device's host has to take part, so a host that hangs shows."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

x = jax.device_put(np.arange(4, dtype=np.float32), NamedSharding(jax.make_mesh((4,), ("x",)), P("x")))
print(float(jax.jit(lambda v: v.sum())(x)))
