"""How long a start takes: Polypath beside JAX in process, multi-controller JAX, Ray and Monarch."""

from __future__ import annotations

import os
import tempfile
from typing import Final

import lineup
from comparison import Asked, Question
from lineup import MONARCH, RAY, Contender

METRICS: Final = {
    "own_import_ms": "import\npolypath, ms",
    "devices_s": "start to\ndevices, s",
    "first_s": "to the first\nresult, s",
    "all_s": "all, with\nimports, s",
    "compiled": "programs\ncompiled",
}
NO_BYTECODE: Final = "no-bytecode"


def caption(asked: Asked) -> str:
    """What one has to know to read the table."""
    bytecode = "none" if NO_BYTECODE in asked.switches else "there, as pip leaves it"
    return (
        "start to devices: from polypath.start(), jax.distributed.initialize() or ray.init() until jax.devices() has "
        "returned (Ray: init; Monarch: until a process of this_host().spawn_procs() is there).\n"
        "first result: of a small jitted program after that, for Ray and Monarch of an actor's method. An earlier run "
        "has compiled the programs.\n"
        f"Python's bytecode: {bytecode}. Multi-controller: figures of the first of its processes."
    )


def contenders(asked: Asked) -> list[Contender]:
    # All inherit it.
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1" if NO_BYTECODE in asked.switches else ""
    start = "jax_start.py"

    def ours(hosts: int, devices: int) -> Contender:
        arguments = [f"--hosts={hosts}", f"--devices={devices}"]
        return Contender(
            f"Polypath {hosts}×{devices // hosts}", f"hosts: {hosts}", lambda: lineup.plain(start, arguments)
        )

    def theirs(hosts: int, devices: int) -> Contender:
        arguments = [f"--devices={devices}"]
        return Contender(
            f"multi-controller {hosts}×{devices // hosts}",
            f"hosts: {hosts}",
            lambda: lineup.multi_controller(start, arguments, hosts, devices // hosts),
        )

    return [
        ours(1, 1),
        Contender("JAX in process", "hosts: 1", lambda: lineup.jax(start, ["--devices=1"], 1)),
        RAY.contender("Ray", "hosts: 1", asked.pythons[RAY], "ray_start.py", []),
        MONARCH.contender("Monarch", "hosts: 1", asked.pythons[MONARCH], "monarch_start.py", []),
        ours(2, 8),
        theirs(2, 8),
        ours(4, 8),
        theirs(4, 8),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        os.environ |= {"XDG_CACHE_HOME": folder, "PYTHONPYCACHEPREFIX": f"{folder}/bytecode"}
        Question(
            "How long a start takes",
            contenders,
            METRICS,
            caption,
            warm_up=True,
            peers=[RAY, MONARCH],
            switches={NO_BYTECODE: "without Python's bytecode, which pip leaves beside what it installs"},
        ).ask()
