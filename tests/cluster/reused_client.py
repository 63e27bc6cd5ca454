"""Puts numpy arrays by every way, and writes into each once the call has returned: `reused_client.py ROUNDS MOST`.

Prints, for each way and size up to MOST elements, how many arrays came to have elements that were written later.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

ROUNDS, MOST = map(int, sys.argv[1:])
SIZES = {8: ROUNDS, 4096: ROUNDS, 1 << 16: max(1, ROUNDS // 10), 4 << 20: max(1, ROUNDS // 100)}
"""How often an array of so many elements is put."""
AT_ONCE = 100
"""Results that are looked at together, so that calls follow each other without waiting."""

devices = jax.devices()
mesh = jax.make_mesh((len(devices),), ("x",))
cut, whole = NamedSharding(mesh, PartitionSpec("x")), NamedSharding(mesh, PartitionSpec())
one = jax.jit(lambda v: v + 0)
two = jax.jit(lambda v, w: v + w)
everywhere = jax.jit(lambda v: v + 0, in_shardings=cut, out_shardings=cut)
on_device = jnp.float32(0)


def compiled(function: Any) -> Callable[[Any], Any]:
    """`function`, compiled ahead of time for each shape."""
    programs: dict[Any, Any] = {}

    def call(v: Any) -> Any:
        if v.shape not in programs:
            programs[v.shape] = function.lower(jax.ShapeDtypeStruct(v.shape, v.dtype)).compile()
        return programs[v.shape](v)

    return call


WAYS: dict[str, Callable[[Any], Any]] = {
    "jit": one,
    "jit, beside an array on a device": lambda v: two(v, on_device),
    "jit over all devices": everywhere,
    "compiled": compiled(one),
    "compiled over all devices": compiled(everywhere),
    "jnp.array": jnp.array,
    "jnp.asarray": jnp.asarray,
    "jnp.asarray in a tree": lambda v: jax.tree.map(jnp.asarray, {"a": [v]})["a"][0],
    "jnp.add": lambda v: jnp.add(v, 0),
    "device_put": jax.device_put,
    "device_put, may_alias": lambda v: jax.device_put(v, may_alias=True),
    "device_put to a device": lambda v: jax.device_put(v, devices[-1]),
    "device_put over all devices": lambda v: jax.device_put(v, cut),
    "device_put to each device": lambda v: jax.device_put(v, whole),
    "make_array_from_callback": lambda v: jax.make_array_from_callback(v.shape, cut, lambda index: v[index]),
    "make_array_from_process_local_data": lambda v: jax.make_array_from_process_local_data(cut, v),
    "device_put_sharded": lambda v: jax.device_put(list(np.split(v, 2)), devices[0])[1],
    "backwards": lambda v: jax.device_put(v[::-1]),
    "from_dlpack": jnp.from_dlpack,
    "at[].set": lambda v: jnp.zeros(v.shape, v.dtype).at[:].set(v),
}


def wrong(put: Callable[[Any], Any], size: int, rounds: int) -> int:
    """How many of so many arrays have elements that were written after the call."""
    buffer, count = np.zeros(size, np.float32), 0
    for start in range(0, rounds, AT_ONCE):
        seen = []
        for n in range(start, min(start + AT_ONCE, rounds)):
            buffer[:] = n
            seen.append((n, put(buffer)))
            buffer[:] = -1
        count += sum(not (np.asarray(array) == n).all() for n, array in seen)
    return count


def load(stop: threading.Event) -> None:
    """Keep a core, and the client's threads, busy."""
    square, other = np.ones((256, 256)), np.ones(1 << 14, np.float32)
    while not stop.is_set():
        square @ square
        jax.device_put(other)


stop = threading.Event()
loader = threading.Thread(target=load, args=(stop,))
loader.start()
try:
    for name, put in WAYS.items():
        for size, rounds in SIZES.items():
            if size <= MOST:
                print(f"{wrong(put, size, rounds)} of {rounds} wrong: {name}, {size} elements", flush=True)
finally:
    stop.set()
    loader.join()
