"""Threads that read big arrays, wait and read small ones at the same time: `threads_client.py`."""

from __future__ import annotations

import threading
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

arrays = [jnp.full((n + 1, 40_000), n, jnp.int32) for n in range(24)]
add = jax.jit(lambda x, n: x + n)
right: list[int] = []


def read(first: int) -> None:
    for n in range(first, 24, 4):
        assert (np.asarray(arrays[n]) == n).all(), n
    right.append(first)


def step(number: int) -> None:
    x = jax.device_put(np.int32(number), jax.devices()[number % 4])
    for _ in range(100):
        x = add(x, 3)
        x.block_until_ready()
        assert int(add(x, number)) == int(x) + number
    assert int(x) == number + 300
    right.append(number)


def run(work: Callable[[int], None], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


for thread in [*run(read, 4), *run(step, 12)]:
    thread.join()
assert len(right) == 16, right
print("done")
