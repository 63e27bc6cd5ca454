"""Contender: how long until Ray is there, and a first result of an actor's.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`, or `{"missing": ...}` without Ray.
"""

from __future__ import annotations

import json
import tempfile
import time


class Adder:
    def add(self, left: int, right: int) -> int:
        return left + right


def main() -> None:
    start = begin = time.perf_counter()
    try:
        import ray
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    samples = {"import_s": time.perf_counter() - begin}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        begin = time.perf_counter()
        ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        there = time.perf_counter()
        samples["devices_s"] = there - begin
        try:
            if ray.get(ray.remote(Adder).remote().add.remote(4, 6)) != 10:
                raise AssertionError("Ray's actor did not add 4 and 6 to 10.")
            samples["first_s"] = time.perf_counter() - there
            samples["all_s"] = time.perf_counter() - start
        finally:
            ray.shutdown()
    print(json.dumps({"versions": {"ray": ray.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
