"""Contender: Ray. An actor's method adds two floats: no JAX in it, so a lower bound of what driving
JAX through Ray costs. By actor calls, or through a compiled graph.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`, or `{"missing": ...}` without Ray.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from typing import Any

WARM_UP = 24
IN_FLIGHT = 10
"""A compiled graph takes no more by default."""


class Adder:
    def add(self, left: float, right: float = 1.0) -> float:
        return left + right


def blocked(call: Callable[[], Any], get: Callable[[Any], Any], calls: int) -> float:
    """Median microseconds of a call that is waited for."""
    seconds: list[float] = []
    for _ in range(calls):
        start = time.perf_counter()
        get(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6


def unblocked(call: Callable[[], Any], get: Callable[[Any], Any], calls: int, in_flight: int) -> float:
    """Calls per second with at most so many in flight."""
    pending: deque[Any] = deque()
    start = time.perf_counter()
    for _ in range(calls):
        if len(pending) == in_flight:
            get(pending.popleft())
        pending.append(call())
    for result in pending:
        get(result)
    return calls / (time.perf_counter() - start)


def measure(ray: Any, options: argparse.Namespace) -> dict[str, float]:
    actor = ray.remote(Adder).remote()
    if options.compiled:
        from ray.dag import InputNode

        with InputNode() as left:
            graph = actor.add.bind(left).experimental_compile()

        def call() -> Any:
            return graph.execute(1.0)

        in_flight = IN_FLIGHT
    else:

        def call() -> Any:
            return actor.add.remote(1.0, 1.0)

        in_flight = options.burst
    if ray.get(call()) != 2.0:
        raise AssertionError("Ray's actor did not add 1 and 1 to 2.")
    unblocked(call, ray.get, WARM_UP, in_flight)
    return {
        "add_blocked_us": blocked(call, ray.get, options.calls),
        "add_per_s": unblocked(call, ray.get, options.burst, in_flight),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--burst", type=int, required=True)
    parser.add_argument("--compiled", action="store_true", help="through a compiled graph")
    options = parser.parse_args()
    try:
        import ray
        import ray.dag  # With what Ray needs for compiled graphs.
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        try:
            samples = measure(ray, options)
        finally:
            ray.shutdown()
    print(json.dumps({"versions": {"ray": ray.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
