"""A function that never returns, then Ctrl-C: the script goes on and ends, as with plain JAX.

Run as `python stuck_client.py CASE`; says "called" from inside the function, and "leaving" at its end.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import jax
import numpy as np
from jax.experimental import colocated_python, io_callback
from jax.experimental.custom_partitioning import custom_partitioning

SCALAR = jax.ShapeDtypeStruct((), np.float32)


def never(*_: Any) -> Any:
    print("called\n", end="", flush=True)  # As one, for several threads may say it.
    while True:
        time.sleep(0.05)


def never_in_c(*_: Any) -> Any:
    """Hears of no exception."""
    lock = threading.Lock()
    lock.acquire()
    print("called\n", end="", flush=True)  # As one, for several threads may say it.
    lock.acquire()


def spread(size: int) -> jax.Array:
    sharding = jax.NamedSharding(jax.make_mesh((len(jax.devices()),), ("x",)), jax.P("x"))
    return jax.device_put(np.arange(size, dtype=np.float32), sharding)


def case_result() -> None:
    float(jax.jit(lambda x: jax.pure_callback(never, SCALAR, x))(1.0))


def case_function_in_c() -> None:
    float(jax.jit(lambda x: jax.pure_callback(never_in_c, SCALAR, x))(1.0))


def case_shards() -> None:
    """A small array over several devices, which is fetched shard by shard."""
    x = spread(8)

    def each(part: jax.Array) -> jax.Array:
        return jax.pure_callback(never, jax.ShapeDtypeStruct(part.shape, part.dtype), part)

    spec = jax.P("x")
    np.asarray(jax.jit(jax.shard_map(each, mesh=x.sharding.mesh, in_specs=spec, out_specs=spec))(x))


def case_many() -> None:
    call = jax.jit(lambda x: [jax.pure_callback(never, SCALAR, x) + i for i in range(40)])
    jax.block_until_ready(call(1.0))


def case_effects() -> None:
    jax.jit(lambda x: jax.debug.callback(never, x))(1.0)
    jax.effects_barrier()


def case_ordered_effects() -> None:
    jax.jit(lambda x: io_callback(never, None, x, ordered=True))(1.0)
    jax.effects_barrier()


def case_partitioner() -> None:
    @custom_partitioning
    def double(x: jax.Array) -> jax.Array:
        return x * 2

    double.def_partition(partition=never, infer_sharding_from_operands=never, sharding_rule="i -> i")
    np.asarray(jax.jit(double)(spread(8)))


def case_colocated() -> None:
    """Ends only with the worker, so only for a cluster that does too. (It says "called" in the worker's log.)"""
    device = jax.devices()[-1]
    function = colocated_python.colocated_python(lambda x: never(x) or x).specialize(out_specs_fn=lambda x: x)
    waiting = function(jax.device_put(np.float32(1), device))
    print("called\n", end="", flush=True)  # As one, for several threads may say it.
    waiting.block_until_ready()


def case_goes_on() -> None:
    """A function that ends later is not lost with the wait for it: who stops by Ctrl-C can still save."""

    def late(x: np.ndarray) -> np.ndarray:
        print("called\n", end="", flush=True)  # As one, for several threads may say it.
        input()
        return x + 1

    result = jax.jit(lambda x: jax.pure_callback(late, SCALAR, x))(1.0)
    try:
        result.block_until_ready()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert float(result) == 2


def main(case: str) -> None:
    try:
        globals()[f"case_{case}"]()
    except KeyboardInterrupt:
        print("leaving", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
