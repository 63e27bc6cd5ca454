"""Puts one big array after another and waits for none: they do not pile up in this process."""

from __future__ import annotations

import jax
import numpy as np
import psutil

SIZE, PUTS = 8 << 20, 64

process = psutil.Process()
a = np.ones(SIZE, np.uint8)
jax.device_put(a).block_until_ready()
before, most = process.memory_info().rss, 0
kept: list[jax.Array] = []
for n in range(PUTS):
    kept = [*kept, jax.device_put(a, jax.devices()[n % 4])][-8:]
    most = max(most, process.memory_info().rss - before)
assert most < 8 * SIZE, most
assert all(int(y[-1]) == 1 for y in kept)
print("done")
