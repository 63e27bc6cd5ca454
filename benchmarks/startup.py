"""How long a start takes: Polypath beside JAX in process, multi-controller JAX and Ray.

python benchmarks/startup.py [--quick] [--rounds N] [--json OUT] [--ray-python PYTHON] [--only NAME] [--no-bytecode]
"""

from __future__ import annotations

import os
import sys
import tempfile
from typing import Annotated, Final

import lineup
import typer
from comparison import JsonFile, Limit, Only, Quick, RayPython, Rounds, compare
from lineup import Contender

METRICS: Final = {
    "own_import_ms": "import\npolypath, ms",
    "devices_s": "start to\ndevices, s",
    "first_s": "to the first\nresult, s",
    "all_s": "all, with\nimports, s",
    "compiled": "programs\ncompiled",
}

CAPTION: Final = "\n".join(
    (
        "start to devices: from polypath.start(), jax.distributed.initialize() or ray.init() until jax.devices() (Ray: "
        "init) has returned.",
        "first result: of a small jitted program after that, for Ray of an actor's method. An earlier run has compiled "
        "the programs.",
        "Python's bytecode: {bytecode}. Multi-controller: figures of the first of its processes.",
    )
)


def contenders(ray_python: str) -> list[Contender]:
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
        Contender("Ray", "hosts: 1", lambda: lineup.ray("ray_start.py", [], ray_python)),
        ours(2, 8),
        theirs(2, 8),
        ours(4, 8),
        theirs(4, 8),
    ]


def main(
    *,
    rounds: Rounds = None,
    quick: Quick = False,
    json_file: JsonFile = None,
    ray_python: RayPython = sys.executable,
    only: Only = "",
    limit: Limit = 120,
    bytecode: Annotated[bool, typer.Option(help="Whether Python's bytecode is there, as pip leaves it.")] = True,
) -> None:
    """Compare how long a start of Polypath takes with the starts of others."""
    with tempfile.TemporaryDirectory(prefix="startup-") as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        os.environ["PYTHONPYCACHEPREFIX"] = f"{folder}/bytecode"
        if bytecode:
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        else:
            os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        compare(
            "How long a start takes",
            contenders(ray_python),
            METRICS,
            CAPTION.format(bytecode="there, as pip leaves it" if bytecode else "none"),
            rounds=rounds or (1 if quick else 5),
            warm_up=True,
            only=only,
            limit=limit,
            json_file=json_file,
        )


if __name__ == "__main__":
    typer.run(main)
