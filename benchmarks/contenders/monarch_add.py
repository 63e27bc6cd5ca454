"""Contender: Monarch. An endpoint of an actor in a process of its own adds two floats: no JAX in it, so a lower
bound of what driving JAX through Monarch costs.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`, or `{"missing": ...}` without Monarch.
"""

from __future__ import annotations

import json
from importlib import metadata

import calls


def main() -> None:
    options = calls.parser().parse_args()
    try:
        from monarch.actor import Actor, endpoint, this_host
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return

    class Adder(Actor):
        @endpoint
        def add(self, left: float, right: float) -> float:
            return left + right

    process = this_host().spawn_procs(per_host={"processes": 1})
    add = process.spawn("adder", Adder).add
    # A call is sent when it is made, not when its result is asked for.
    samples = calls.measure(lambda: add.call_one(1.0, 1.0), lambda result: result.get(), options)
    process.stop().get()
    print(json.dumps({"versions": {"monarch": metadata.version("torchmonarch")}, "samples": samples}))


if __name__ == "__main__":
    main()
