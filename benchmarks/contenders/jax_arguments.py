"""Contender: stock JAX, a step that takes and gives many arrays. The same script runs on Polypath and in process.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import jax
import jax.numpy as jnp

CHAIN = 10


def measure(count: int, steps: int) -> dict[str, float]:
    """Milliseconds a step."""

    @jax.jit
    def step(values: list[jax.Array]) -> list[jax.Array]:
        return [value + 1 for value in values]

    values = step([jnp.zeros((), jnp.float32)] * count)
    values = jax.block_until_ready(step(values))
    awaited: list[float] = []
    for _ in range(steps):
        start = time.perf_counter()
        values = jax.block_until_ready(step(values))
        awaited.append(time.perf_counter() - start)
    chained: list[float] = []
    for _ in range(max(2, steps // CHAIN)):
        start = time.perf_counter()
        for _ in range(CHAIN):
            values = step(values)
        values[-1].block_until_ready()
        chained.append((time.perf_counter() - start) / CHAIN)
    expected = 2 + steps + CHAIN * max(2, steps // CHAIN)
    if float(values[-1]) != expected:
        raise AssertionError(f"The sum of {expected} ones came out as {values[-1]}.")
    return {
        f"awaited_{count}": statistics.median(awaited) * 1e3,
        f"chained_{count}": statistics.median(chained) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--count", type=int, action="append", default=[])
    options = parser.parse_args()
    samples: dict[str, float] = {}
    for count in options.count:
        samples |= measure(count, options.steps)
    print(json.dumps({"versions": {"jax": jax.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
