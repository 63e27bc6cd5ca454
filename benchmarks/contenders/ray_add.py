"""Contender: Ray. An actor's method adds two floats: no JAX in it, so a lower bound of what driving
JAX through Ray costs. By actor calls, or through a compiled graph.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`, or `{"missing": ...}` without Ray.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from typing import Any

import calls

IN_FLIGHT = 10
"""A compiled graph takes no more by default."""


class Adder:
    def add(self, left: float, right: float = 1.0) -> float:
        return left + right


def measure(ray: Any, options: argparse.Namespace) -> dict[str, float]:
    actor = ray.remote(Adder).remote()
    if not options.compiled:
        return calls.measure(lambda: actor.add.remote(1.0, 1.0), ray.get, options)
    from ray.dag import InputNode

    with InputNode() as left:
        graph = actor.add.bind(left).experimental_compile()
    return calls.measure(lambda: graph.execute(1.0), ray.get, options, IN_FLIGHT)


def main() -> None:
    parser = calls.parser()
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
