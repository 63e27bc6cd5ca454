"""Contender: how long until Monarch has a process, and a first result of an actor's endpoint there.

Prints one JSON line: `{"versions": {...}, "samples": {...}}`, or `{"missing": ...}` without Monarch.
"""

from __future__ import annotations

import json
import time
from importlib import metadata


def main() -> None:
    start = time.perf_counter()
    try:
        from monarch.actor import Actor, endpoint, this_host
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return

    class Adder(Actor):
        @endpoint
        def add(self, left: int, right: int) -> int:
            return left + right

    begin = time.perf_counter()
    process = this_host().spawn_procs(per_host={"processes": 1})
    process.initialized.get()
    there = time.perf_counter()
    if process.spawn("adder", Adder).add.call_one(4, 6).get() != 10:
        raise AssertionError("Monarch's actor did not add 4 and 6 to 10.")
    end = time.perf_counter()
    samples = {"import_s": begin - start, "devices_s": there - begin, "first_s": end - there, "all_s": end - start}
    process.stop().get()
    print(json.dumps({"versions": {"monarch": metadata.version("torchmonarch")}, "samples": samples}))


if __name__ == "__main__":
    main()
