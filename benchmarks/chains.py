"""Chains of small computations, as in figure 5 of the Pathways paper (Barham et al., 2022).

python benchmarks/chains.py [--quick] [--rounds N] [--json OUT] [--ray-python PYTHON] [--only NAME]
"""

from __future__ import annotations

import sys
from typing import Final

import lineup
import typer
from comparison import JsonFile, Limit, Only, Quick, RayPython, Rounds, compare
from lineup import Contender

METRICS: Final = {"op_by_op": "op by op,\n1/s", "chained": "chained,\n1/s", "fused": "fused,\n1/s"}
REAL: Final = (1, 2, 4)
SIMULATED: Final = (1, 2, 4, 8, 16, 32, 64)
SIMULATED_DEVICES: Final = 4
"""Of each host."""
AWAIT_EVERY: Final = 24
"""About 32 programs with collectives in flight deadlock XLA on CPU. Polypath sees to that by itself."""

CAPTION: Final = "\n".join(
    (
        "Computations per second; one is an AllReduce of a scalar and an addition. op by op: a program each, awaited "
        "each time. chained:",
        "128 programs, each on the result before, awaited at the end. fused: 128 in one program, awaited. Real hosts "
        "have one CPU device.",
        f"Multi-controller awaits every {AWAIT_EVERY}th program of a chain: about 32 unawaited deadlock XLA's CPU "
        "collectives. Polypath's workers bound that themselves.",
        f"Simulated hosts have {SIMULATED_DEVICES} devices, run nothing, and get every command: their figures are what "
        "the controller can drive; ×: against one.",
        "Ray: actors that add up floats of all actors, without JAX; its compiled graph of a chain has 128 nodes for "
        "each actor.",
    )
)


def contenders(quick: bool, ray_python: str) -> list[Contender]:
    effort = [f"--calls={100 if quick else 500}", f"--chains={2 if quick else 10}"]
    return [
        *(contender for hosts in REAL for contender in _real(hosts, effort, ray_python)),
        *(_simulated(hosts, effort) for hosts in SIMULATED),
    ]


def _real(hosts: int, effort: list[str], ray_python: str) -> list[Contender]:
    group = f"hosts: {hosts}"
    steps, actors = [*effort, f"--devices={hosts}"], [*effort, f"--hosts={hosts}"]
    bounded, compiled = [*steps, f"--await-every={AWAIT_EVERY}"], [*actors, "--compiled"]
    return [
        Contender("Polypath", group, lambda: lineup.polypath("jax_chains.py", steps, hosts, 1)),
        Contender(
            "JAX multi-controller" if hosts > 1 else "JAX in process",
            group,
            lambda: (
                lineup.multi_controller("jax_chains.py", bounded, hosts, 1)
                if hosts > 1
                else lineup.jax("jax_chains.py", steps, 1)
            ),
        ),
        Contender("Ray actor calls", group, lambda: lineup.ray("ray_chains.py", actors, ray_python)),
        Contender("Ray compiled graph", group, lambda: lineup.ray("ray_chains.py", compiled, ray_python)),
    ]


def _simulated(hosts: int, effort: list[str]) -> Contender:
    steps = [*effort, f"--devices={hosts * SIMULATED_DEVICES}", "--simulated"]
    return Contender(
        f"Polypath, {hosts} simulated",
        "simulated hosts",
        lambda: lineup.polypath("jax_chains.py", steps, hosts, SIMULATED_DEVICES, platform="simulated"),
    )


def main(
    *,
    rounds: Rounds = None,
    quick: Quick = False,
    json_file: JsonFile = None,
    ray_python: RayPython = sys.executable,
    only: Only = "",
    limit: Limit = 180,
) -> None:
    """Compare how fast chains of small computations run."""
    compare(
        "Chains of small computations",
        contenders(quick, ray_python),
        METRICS,
        CAPTION,
        rounds=rounds or (1 if quick else 3),
        only=only,
        limit=limit,
        json_file=json_file,
    )


if __name__ == "__main__":
    typer.run(main)
