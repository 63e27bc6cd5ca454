"""This process can open no file more before it has a link to a worker: all goes by jaxlib's protocol until it can."""

from __future__ import annotations

import os
import resource

import jax
import jax.numpy as jnp
import numpy as np
import requests_made

a = np.arange(2 << 20, dtype=np.float32)
add = jax.jit(lambda x: x + 1)
# All that JAX imports and compiles for this; nobody waits, so no link is made.
for device in jax.devices():
    add(jax.device_put(a[:8], device))
    add(jnp.zeros_like(a, device=device))[3]
lowest = os.dup(0)
os.close(lowest)
limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, most))
try:
    os.dup(0)
except OSError:
    pass
else:
    raise AssertionError("the table of files is not full")


def check_works() -> None:
    for device in jax.devices():
        x = jax.device_put(a, device)
        assert (np.asarray(add(x).block_until_ready()) == a + 1).all()
        assert float(add(x)[3]) == 4


check_works()
for requests in (requests_made.answers, requests_made.reads, requests_made.puts):
    assert requests
    assert not any(requests), requests
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
while not (requests_made.answers[-1] and requests_made.reads[-1] and requests_made.puts[-1]):
    check_works()
print("done")
