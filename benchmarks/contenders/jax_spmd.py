"""Contender: stock JAX, SPMD steps of some length. The same script runs on Polypath and once per process of a
multi-controller group.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

AWAIT_EVERY = 24
"""More than about 31 steps in flight deadlock the thread pool of XLA's CPU collectives."""
TIMES = 3
LOOPS_PER_MS = 95
"""Products of 64×64 matrices (and as many tanh) that a core of the machine of RESULTS.md does in a millisecond."""
WIDTH = 64


def rate(step: Callable[[jax.Array], jax.Array], value: jax.Array, steps: int) -> float:
    """Steps per second: the median of some chains."""
    found: list[float] = []
    for _ in range(1 + TIMES):
        start = time.perf_counter()
        for number in range(1, steps + 1):
            value = step(value)
            if number % AWAIT_EVERY == 0:
                value.block_until_ready()
        value.block_until_ready()
        found.append(steps / (time.perf_counter() - start))
    return statistics.median(found[1:])


def compute(milliseconds: float, seconds: float) -> float:
    """A loop on each device, then a psum."""
    devices = jax.devices()
    mesh = Mesh(np.array(devices), ("devices",))
    over_all = PartitionSpec("devices")
    loops = max(1, round(milliseconds * LOOPS_PER_MS))

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=over_all, out_specs=over_all, check_vma=False)
    def step(shard: jax.Array) -> jax.Array:
        weights = jnp.full((WIDTH, WIDTH), 0.01, jnp.float32)
        product = jax.lax.fori_loop(0, loops, lambda _, x: jnp.tanh(weights @ x), shard[0])
        return (jax.lax.psum(product, "devices") / len(devices))[None]

    shape = (len(devices), WIDTH, WIDTH)
    start = jax.jit(lambda: jnp.ones(shape, jnp.float32), out_shardings=NamedSharding(mesh, over_all))()
    # As many for all contenders, whatever this one reaches.
    about = seconds * 1000 / (milliseconds * len(devices) / 2 + 1) / AWAIT_EVERY
    return rate(step, start, AWAIT_EVERY * max(1, round(about)))


def language_model(seconds: float) -> float:
    """Tokens per second of the example's training step, without reading losses."""
    sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
    import train_lm

    options = argparse.Namespace(steps=1000, batch=8, seq=128, seed=0)
    trainer = train_lm.Trainer(options)
    trainer.bar.disable = True
    text = train_lm.read_corpus()[0]
    starts = np.random.default_rng(0).integers(0, len(text) - options.seq, options.batch)
    rows = train_lm.windows(text, starts, options.seq)
    batch = jax.make_array_from_callback(rows.shape, trainer.by_data, lambda index: rows[index])
    state = trainer.state

    def step(_: jax.Array) -> jax.Array:
        nonlocal state
        state, loss = train_lm.train_step(trainer.optimizer, state, batch)
        return loss

    steps = max(4, round(seconds * 3))
    return rate(step, batch, steps) * options.batch * options.seq


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, required=True, help="about how long each chain takes")
    parser.add_argument("--devices", type=int, required=True, help="how many devices there must be")
    parser.add_argument("--step", action="append", default=[], metavar="NAME=MS")
    parser.add_argument("--language-model", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--coordinator", help="host:port, if there are several processes")
    options = parser.parse_args()
    if options.coordinator:
        jax.distributed.initialize(options.coordinator, options.processes, options.process)
    if jax.device_count() != options.devices:
        raise AssertionError(f"JAX sees {jax.device_count()} devices, and {options.devices} were asked for.")
    lengths = {name: float(ms) for name, ms in (each.split("=") for each in options.step)}
    samples = {name: compute(ms, options.seconds) for name, ms in lengths.items()}
    if options.language_model:
        samples["tokens"] = language_model(options.seconds)
    print(json.dumps({"versions": {"jax": jax.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
