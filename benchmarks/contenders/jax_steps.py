"""Contender: stock JAX. The same script runs on Polypath, in process, and once per process of a
multi-controller group; it knows of Polypath nothing at all.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AWAIT_EVERY = 24
"""More than about 31 steps in flight deadlock the thread pool of XLA's CPU collectives."""

Step = Callable[[jax.Array], jax.Array]


def blocked(step: Step, value: jax.Array, calls: int) -> tuple[float, jax.Array]:
    """Median microseconds of a call that is waited for."""
    seconds: list[float] = []
    for _ in range(calls):
        start = time.perf_counter()
        value = step(value).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6, value


def unblocked(step: Step, value: jax.Array, calls: int, await_every: int | None) -> tuple[float, jax.Array]:
    """Calls per second, each on the result of the one before, with a wait at the end (and every so many)."""
    start = time.perf_counter()
    for call in range(1, calls + 1):
        value = step(value)
        if await_every and call % await_every == 0:
            value.block_until_ready()
    value.block_until_ready()
    return calls / (time.perf_counter() - start), value


def measure(
    step: Step, value: jax.Array, calls: int, burst: int, await_every: int | None
) -> tuple[float, float, jax.Array]:
    # Compiles, and opens what connections there are.
    _, value = unblocked(step, value, AWAIT_EVERY, await_every)
    latency, value = blocked(step, value, calls)
    rate, value = unblocked(step, value, burst, await_every)
    return latency, rate, value


def scalar_add(calls: int, burst: int) -> dict[str, float]:
    def add(value: jax.Array) -> jax.Array:
        return value + 1

    latency, rate, value = measure(jax.jit(add), jnp.zeros((), jnp.int32), calls, burst, None)
    if int(value) != AWAIT_EVERY + calls + burst:
        raise AssertionError(f"The sum of {AWAIT_EVERY + calls + burst} ones came out as {value}.")
    return {"add_blocked_us": latency, "add_per_s": rate}


def psum_step(calls: int, burst: int) -> dict[str, float]:
    devices = jax.devices()
    mesh = Mesh(np.array(devices), ("devices",))
    over_all = PartitionSpec("devices")

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=over_all, out_specs=over_all, check_vma=False)
    def step(shard: jax.Array) -> jax.Array:
        return jax.lax.psum(shard, "devices") / len(devices)

    # One float per device; the first step makes all of them the mean, and it stays.
    start = jax.jit(lambda: jnp.arange(len(devices), dtype=jnp.float32), out_shardings=NamedSharding(mesh, over_all))()
    latency, rate, value = measure(step, start, calls, burst, AWAIT_EVERY)
    mean = float(np.asarray(value.addressable_data(0))[0])
    if mean != (len(devices) - 1) / 2:
        raise AssertionError(f"The mean of 0 to {len(devices) - 1} came out as {mean}.")
    return {"psum_blocked_us": latency, "psum_per_s": rate}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--burst", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True, help="how many devices there must be")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--coordinator", help="host:port, if there are several processes")
    options = parser.parse_args()
    if options.coordinator:
        jax.distributed.initialize(options.coordinator, options.processes, options.process)
    if jax.device_count() != options.devices:
        raise AssertionError(f"JAX sees {jax.device_count()} devices, and {options.devices} were asked for.")
    samples = scalar_add(options.calls, options.burst) | psum_step(options.calls, options.burst)
    print(json.dumps({"versions": {"jax": jax.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
