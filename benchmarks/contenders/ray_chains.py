"""Contender: Ray. Each of some actors adds up what all actors have and adds one, 128 times over: one
by one and as a chain; no JAX in it, so a lower bound. By actor calls, or through a compiled graph.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`, or `{"missing": ...}` without Ray.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from typing import Any

CHAIN = 128
WARM_UP = 24


class Host:
    def step(self, *values: float) -> float:
        return sum(values) / len(values) + 1


def rate(run: Callable[[], Any], times: int, computations: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return times * computations / (time.perf_counter() - start)


def measure(ray: Any, options: argparse.Namespace) -> dict[str, float]:
    def graph(length: int) -> Callable[[], list[float]]:
        from ray.dag import InputNode, MultiOutputNode

        # A compiled graph takes its actors for itself.
        actors = [ray.remote(Host).options(num_cpus=0).remote() for _ in range(options.hosts)]
        with InputNode() as value:
            values: list[Any] = [value]
            for _ in range(length):
                values = [actor.step.bind(*values) for actor in actors]
            compiled = MultiOutputNode(values).experimental_compile()
        return lambda: ray.get(compiled.execute(0.0))

    def calls(length: int) -> Callable[[], list[float]]:
        actors = [ray.remote(Host).options(num_cpus=0).remote() for _ in range(options.hosts)]

        def run() -> list[float]:
            values: list[Any] = [0.0]
            for _ in range(length):
                values = [actor.step.remote(*values) for actor in actors]
            return ray.get(values)

        return run

    samples: dict[str, float] = {}
    for name, length, times in (("op_by_op", 1, options.calls), ("chained", CHAIN, options.chains)):
        run = graph(length) if options.compiled else calls(length)
        if run() != [float(length)] * options.hosts:
            raise AssertionError(f"Ray's actors did not add {length} ones.")
        rate(run, WARM_UP if length == 1 else 1, length)
        samples[name] = rate(run, times, length)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, required=True, help="one by one")
    parser.add_argument("--chains", type=int, required=True)
    parser.add_argument("--hosts", type=int, required=True, help="actors")
    parser.add_argument("--compiled", action="store_true", help="through a compiled graph")
    options = parser.parse_args()
    try:
        import ray
        import ray.dag  # With what Ray needs for compiled graphs.
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local", num_cpus=options.hosts, include_dashboard=False, log_to_driver=False, _temp_dir=folder
        )
        try:
            samples = measure(ray, options)
        finally:
            ray.shutdown()
    print(json.dumps({"versions": {"ray": ray.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
