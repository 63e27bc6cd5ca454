"""Donates a large array again and again: `donating_client.py PIDS`, of the workers.

Says by how many times the array's size these have grown, where two more of its size are kept.
"""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import psutil

workers = [psutil.Process(int(pid)) for pid in sys.argv[1:]]


def used() -> int:
    return sum(worker.memory_info().rss for worker in workers)


step = jax.jit(lambda x: x + 1, donate_argnums=0)
x = jnp.zeros((64, 1 << 20), jnp.float32)
for _ in range(2):
    x = step(x).block_until_ready()
before = used()
for _ in range(20):
    x = step(x)
    x.block_until_ready()
kept = [jax.jit(lambda x: x + 1)(x).block_until_ready() for _ in range(2)]
print((used() - before) / x.nbytes)
