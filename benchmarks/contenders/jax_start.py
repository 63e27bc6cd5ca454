"""Contender: how long until JAX has its devices, and a first result. On Polypath with `--hosts`.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--hosts", type=int, help="of the cluster that is to be started")
    parser.add_argument("--devices", type=int, required=True, help="how many devices there are in the end")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--coordinator", help="host:port, if there are several processes")
    options = parser.parse_args()
    samples: dict[str, float] = {}
    begin = time.perf_counter()
    import jax

    imported = time.perf_counter()
    samples["import_s"] = imported - begin
    with contextlib.ExitStack() as stack:
        cluster = None
        if options.hosts:
            import polypath

            started = time.perf_counter()
            samples["own_import_ms"] = (started - imported) * 1e3
            cluster = stack.enter_context(
                polypath.start(hosts=options.hosts, devices_per_host=options.devices // options.hosts, platform="cpu")
            )
        else:
            started = time.perf_counter()
            if options.coordinator:
                jax.distributed.initialize(options.coordinator, options.processes, options.process)
        if len(jax.devices()) != options.devices:
            raise AssertionError(f"JAX sees {jax.device_count()} devices, and {options.devices} were asked for.")
        there = time.perf_counter()
        samples["devices_s"] = there - started
        total = jax.jit(lambda: jax.numpy.arange(5).sum())()
        if total.item() != 10:
            raise AssertionError(f"0 to 4 add up to {total}.")
        samples["first_s"] = time.perf_counter() - there
        samples["all_s"] = time.perf_counter() - begin
        if cluster is not None:
            samples["compiled"] = cluster.status().controller.compiled
    print(json.dumps({"versions": {"jax": jax.__version__}, "samples": samples}))


if __name__ == "__main__":
    main()
