"""Contender: stock JAX that puts arrays on a device and gets them back, on Polypath or in process.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`; a sample is the median seconds of one transfer.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import jax
import numpy as np

ALIGNED = 64
"""Bytes; jaxlib shares host memory that is aligned so with CPU devices, and copies other."""


def use_stock_client() -> None:
    """As where only jax is installed: its own proxy client, found by no plugin."""
    from jax._src import xla_bridge
    from jax.extend import backend

    target = os.environ["JAX_BACKEND_TARGET"]
    os.environ["IFRT_PROXY_USE_INSECURE_GRPC_CREDENTIALS"] = "true"
    proxy = backend.ifrt_proxy
    xla_bridge.discover_pjrt_plugins = lambda: None
    backend.register_backend_factory("proxy", lambda: proxy.get_client(target, proxy.ClientConnectionOptions()))


def median(work: Callable[[], object], times: int) -> float:
    seconds: list[float] = []
    for _ in range(times):
        start = time.perf_counter()
        result = work()
        seconds.append(time.perf_counter() - start)
        del result
    return statistics.median(seconds[1:] or seconds)


def host_array(size: int, offset: int) -> np.ndarray:
    """`size` bytes that begin `offset` bytes after an aligned address."""
    room = np.random.default_rng(0).integers(0, 255, size + 2 * ALIGNED, np.uint8)
    start = -room.ctypes.data % ALIGNED + offset
    return room[start : start + size].view(np.int32)


def measure(size: int, times: int) -> dict[str, float]:
    found: dict[str, float] = {}
    # numpy's own big arrays begin 16 bytes after an aligned address.
    for name, offset in (("put", 16), ("put aligned", 0)):
        array = host_array(size, offset)
        found[name] = median(lambda array=array: jax.device_put(array).block_until_ready(), times)
    add = jax.jit(lambda x, n: x + n)
    start = jax.device_put(array)
    for name, read in (("get", np.asarray), ("get copied", np.array)):
        seconds: list[float] = []
        for n in range(times):
            value = add(start, np.int32(n)).block_until_ready()
            begin = time.perf_counter()
            result = read(value)
            seconds.append(time.perf_counter() - begin)
            if int(result[-1]) != int(array[-1]) + n:
                raise AssertionError("what came back is not what was computed")
            del result, value
        found[name] = statistics.median(seconds[1:] or seconds)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", required=True)
    parser.add_argument("--times", type=int, required=True)
    parser.add_argument("--stock", action="store_true", help="jaxlib's client alone, without Polypath's hooks")
    options = parser.parse_args()
    if options.stock:
        use_stock_client()
    # The first touch of memory costs a virtual machine many times a copy, and is nobody's transfer.
    np.ones(3 * max(options.sizes), np.uint8)
    samples = {
        f"{name} {size}": seconds
        for size in options.sizes
        for name, seconds in measure(size, max(7, min(options.times, (1 << 29) // size))).items()
    }
    print(json.dumps({"versions": {"jax": jax.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
