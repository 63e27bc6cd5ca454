"""Contender: one client of many simulated hosts. Prints one JSON line: `{"versions": {...}, "samples": {...}}`."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import psutil
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import polypath

WARM = 5


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def measure(hosts: int, devices_per_host: int, fanout: int | None, calls: int, burst: int) -> dict[str, float]:
    begin = time.perf_counter()
    since: Callable[[], float] = lambda: time.perf_counter() - begin  # noqa: E731
    with polypath.start(hosts, devices_per_host, "simulated", fanout=fanout) as cluster:
        devices = jax.devices()
        if len(devices) != hosts * devices_per_host:
            raise AssertionError(f"JAX sees {len(devices)} devices of {hosts} hosts.")
        up = since()
        mesh = Mesh(np.array(devices), ("devices",))
        over_all = PartitionSpec("devices")
        cut = NamedSharding(mesh, over_all)

        @jax.jit
        @partial(jax.shard_map, mesh=mesh, in_specs=over_all, out_specs=over_all)
        def step(shard: jax.Array) -> jax.Array:
            return shard + jax.lax.psum(shard, "devices")

        data = np.arange(len(devices), dtype=np.float32)
        put = time.perf_counter()
        value = jax.device_put(data, cut).block_until_ready()
        got = time.perf_counter()
        if not (np.asarray(value) == data).all():
            raise AssertionError("What was put did not come back.")
        end = time.perf_counter()
        value = step(value).block_until_ready()
        first = since()
        for _ in range(WARM):
            value = step(value).block_until_ready()

        head = psutil.Process(cluster.status().pid)
        below = head.children(recursive=True)
        blocked: list[float] = []
        before, before_below = cpu_seconds([head]), cpu_seconds(below)
        for _ in range(calls):
            start = time.perf_counter()
            value = step(value).block_until_ready()
            blocked.append(time.perf_counter() - start)
        cpu, cpu_below = cpu_seconds([head]) - before, cpu_seconds(below) - before_below

        enqueued: list[float] = []
        start = time.perf_counter()
        for _ in range(burst):
            called = time.perf_counter()
            value = step(value)
            enqueued.append(time.perf_counter() - called)
        value.block_until_ready()
        unblocked = (time.perf_counter() - start) / burst
        return {
            "up_s": up,
            "first_s": first,
            "put_s": got - put,
            "get_s": end - got,
            "enqueue_us": statistics.median(enqueued) * 1e6,
            "enqueue_mean_us": statistics.mean(enqueued) * 1e6,
            "blocked_ms": statistics.median(blocked) * 1e3,
            "unblocked_ms": unblocked * 1e3,
            "head_ms": cpu / calls * 1e3,
            "host_us": cpu_below / calls / hosts * 1e6,
            "head_mib": head.memory_info().rss / 2**20,
            "below_mib": sum(process.memory_info().rss for process in below) / 2**20,
            "processes": len(below),
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, required=True)
    parser.add_argument("--devices-per-host", type=int, required=True)
    parser.add_argument("--fanout", type=int)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--burst", type=int, required=True)
    options = parser.parse_args()
    samples = measure(options.hosts, options.devices_per_host, options.fanout, options.calls, options.burst)
    print(json.dumps({"versions": {"jax": jax.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
