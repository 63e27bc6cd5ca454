"""Contender: stock JAX. A scalar AllReduce and an add, 128 times over: one by one, as a chain of
programs, and as one program. The same script on Polypath and once per process of a
multi-controller group.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`; the samples are computations per second.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

CHAIN = 128
WARM_UP = 24

Step = Callable[[jax.Array], jax.Array]


def rate(run: Step, value: jax.Array, times: int, computations: int) -> tuple[float, jax.Array]:
    """Computations per second of `times` runs, each awaited, and what they made of `value`."""
    start = time.perf_counter()
    for _ in range(times):
        value = run(value).block_until_ready()
    return times * computations / (time.perf_counter() - start), value


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True, help="one by one")
    parser.add_argument("--chains", type=int, required=True)
    parser.add_argument("--devices", type=int, required=True, help="how many devices there must be")
    parser.add_argument("--await-every", type=int, default=CHAIN, help="programs of a chain that may be in flight")
    parser.add_argument("--simulated", action="store_true", help="what comes out is not checked")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--coordinator", help="host:port, if there are several processes")
    options = parser.parse_args()
    if options.coordinator:
        jax.distributed.initialize(options.coordinator, options.processes, options.process)
    devices = jax.devices()
    if len(devices) != options.devices:
        raise AssertionError(f"JAX sees {len(devices)} devices, and {options.devices} were asked for.")
    mesh, over_all = Mesh(np.array(devices), ("devices",)), PartitionSpec("devices")

    def add(shard: jax.Array) -> jax.Array:
        return jax.lax.psum(shard, "devices") / len(devices) + 1

    over_devices = partial(jax.shard_map, mesh=mesh, in_specs=over_all, out_specs=over_all, check_vma=False)
    step = jax.jit(over_devices(add))
    fused = jax.jit(over_devices(lambda shard: jax.lax.fori_loop(0, CHAIN, lambda _, value: add(value), shard)))

    def chained(value: jax.Array) -> jax.Array:
        for number in range(1, CHAIN + 1):
            value = step(value)
            if number % options.await_every == 0:
                value.block_until_ready()
        return value

    value = jax.jit(lambda: jnp.zeros(len(devices)), out_shardings=NamedSharding(mesh, over_all))()
    samples: dict[str, float] = {}
    _, value = rate(step, value, WARM_UP, 1)
    samples["op_by_op"], value = rate(step, value, options.calls, 1)
    samples["chained"], value = rate(chained, value, options.chains, CHAIN)
    _, value = rate(fused, value, 1, CHAIN)
    samples["fused"], value = rate(fused, value, options.chains, CHAIN)
    expected = WARM_UP + options.calls + (2 * options.chains + 1) * CHAIN
    found = float(np.asarray(value.addressable_data(0))[0])
    if not options.simulated and found != expected:
        raise AssertionError(f"{expected} additions of one gave {found}.")
    print(json.dumps({"versions": {"jax": jax.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
