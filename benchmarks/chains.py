"""Chains of small computations, as in figure 5 of the Pathways paper (Barham et al., 2022)."""

from __future__ import annotations

from typing import Final

import lineup
from comparison import Asked, Question
from lineup import RAY, Contender

METRICS: Final = {"op_by_op": "op by op,\n1/s", "chained": "chained,\n1/s", "fused": "fused,\n1/s"}
REAL: Final = (1, 2, 4)
SIMULATED: Final = (1, 2, 4, 8, 16, 32, 64)
SIMULATED_DEVICES: Final = 4
"""Of each host."""
AWAIT_EVERY: Final = 24
"""About 32 programs with collectives in flight deadlock XLA on CPU. Polypath sees to that by itself."""

CAPTION: Final = (
    "Computations per second; one is an AllReduce of a scalar and an addition. op by op: a program each, awaited each "
    "time. chained: 128 programs, each on the result before, awaited at the end. fused: 128 in one program, awaited.\n"
    f"Real hosts have one CPU device. Multi-controller awaits every {AWAIT_EVERY}th program of a chain: about 32 "
    "unawaited deadlock XLA's CPU collectives. Polypath's workers bound that themselves.\n"
    f"Simulated hosts have {SIMULATED_DEVICES} devices, run nothing, and get every command: their figures are what the "
    "controller can drive; ×: against one.\n"
    "Ray: actors that add up floats of all actors, without JAX; its compiled graph of a chain has 128 nodes for each "
    "actor."
)


def contenders(asked: Asked) -> list[Contender]:
    effort = [f"--calls={100 if asked.quick else 500}", f"--chains={2 if asked.quick else 10}"]
    return [
        *(contender for hosts in REAL for contender in _real(hosts, effort, asked.pythons[RAY])),
        *(_simulated(hosts, effort) for hosts in SIMULATED),
    ]


def _real(hosts: int, effort: list[str], ray: str) -> list[Contender]:
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
        RAY.contender("Ray actor calls", group, ray, "ray_chains.py", actors),
        RAY.contender("Ray compiled graph", group, ray, "ray_chains.py", compiled),
    ]


def _simulated(hosts: int, effort: list[str]) -> Contender:
    steps = [*effort, f"--devices={hosts * SIMULATED_DEVICES}", "--simulated"]
    return Contender(
        f"Polypath, {hosts} simulated",
        "simulated hosts",
        lambda: lineup.polypath("jax_chains.py", steps, hosts, SIMULATED_DEVICES, platform="simulated"),
    )


if __name__ == "__main__":
    Question(
        "Chains of small computations", contenders, METRICS, lambda _: CAPTION, rounds=3, limit=180, peers=[RAY]
    ).ask()
