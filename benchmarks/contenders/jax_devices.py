"""Contender: a matrix product over a mesh of many devices, beside numpy's. On Polypath with `--hosts`.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import time
from functools import partial

import jax
import numpy as np
from jax.sharding import PartitionSpec

ROWS = INNER = 32
"""Of a device's part."""
COLUMNS = 64
WARM = 3


def across(devices: int) -> int:
    """Devices on the first of the mesh's two axes, which are as long as one another or nearly so."""
    return next(n for n in range(int(devices**0.5), 0, -1) if devices % n == 0)


def measure(devices: int, calls: int, begin: float) -> dict[str, float]:
    shape = (across(devices), devices // across(devices))
    mesh = jax.make_mesh(shape, ("rows", "inner"))
    samples = {"up_s": time.perf_counter() - begin}
    draw = np.random.default_rng(0)
    left = draw.standard_normal((shape[0] * ROWS, shape[1] * INNER), dtype=np.float32)
    right = draw.standard_normal((shape[1] * INNER, COLUMNS), dtype=np.float32)

    @jax.jit
    @partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=(PartitionSpec("rows", "inner"), PartitionSpec("inner", None)),
        out_specs=(PartitionSpec("rows", None), PartitionSpec()),
    )
    def step(left: jax.Array, right: jax.Array) -> tuple[jax.Array, jax.Array]:
        product = jax.lax.psum(left @ right, "inner")
        return product, jax.lax.pmean(product, "rows")

    arguments = (
        jax.device_put(left, jax.NamedSharding(mesh, PartitionSpec("rows", "inner"))),
        jax.device_put(right, jax.NamedSharding(mesh, PartitionSpec("inner", None))),
    )
    product, mean = (np.asarray(each) for each in step(*arguments))
    samples["first_s"] = time.perf_counter() - begin
    expected = left.astype(np.float64) @ right.astype(np.float64)
    means = expected.reshape(shape[0], ROWS, COLUMNS).mean(0)
    error = max(np.abs(product - expected).max(), np.abs(mean - means).max()) / np.abs(expected).max()
    if error > 1e-5:
        raise AssertionError(f"The product is off by {error:.1e} of its largest element.")
    samples["error_millionths"] = float(error) * 1e6
    seconds: list[float] = []
    for _ in range(WARM + calls):
        start = time.perf_counter()
        jax.block_until_ready(step(*arguments))
        seconds.append(time.perf_counter() - start)
    return samples | {"step_ms": statistics.median(seconds[WARM:]) * 1e3}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, help="of the cluster that is to be started")
    parser.add_argument("--devices", type=int, required=True)
    parser.add_argument("--calls", type=int, required=True)
    options = parser.parse_args()
    begin = time.perf_counter()
    with contextlib.ExitStack() as stack:
        if options.hosts:
            import polypath

            each = options.devices // options.hosts
            stack.enter_context(polypath.start(hosts=options.hosts, devices_per_host=each, platform="cpu"))
        if len(jax.devices()) != options.devices:
            raise AssertionError(f"JAX sees {jax.device_count()} devices, and {options.devices} were asked for.")
        samples = measure(options.devices, options.calls, begin)
    print(json.dumps({"versions": {"jax": jax.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
