"""What SPMD steps of real compute lose to one controller: Polypath beside multi-controller JAX on as many processes."""

from __future__ import annotations

from typing import Final

import lineup
from comparison import Asked, Question
from lineup import Contender

LENGTHS: Final = {"step_0.1": 0.1, "step_1": 1.0, "step_2.3": 2.3, "step_10": 10.0, "step_35": 35.0}
"""Milliseconds that a device of its own would compute for, by the sample's name."""

METRICS: Final = {name: f"{length:g} ms" for name, length in LENGTHS.items()} | {"tokens": "model"}
HOSTS: Final = (2, 4)

CAPTION: Final = (
    "A step is a jitted shard_map: on each device a loop of 64×64 matrix products, as long as the heading says on a "
    "core of its own, then a psum. Groups: processes × CPU devices of each.\n"
    "Steps per second of a chain, each on the result before; every 24th is awaited, for all alike (about 32 unawaited "
    "deadlock XLA's CPU collectives). model: tokens per second of the training step of examples/train_lm.py, which "
    "wants eight devices.\n"
    "Multi-controller: figures of the first of its processes."
)


def contenders(asked: Asked) -> list[Contender]:
    seconds = f"--seconds={0.5 if asked.quick else 2.0}"
    steps = [seconds, *(f"--step={name}={ms}" for name, ms in LENGTHS.items())]
    return [
        *(each for hosts in HOSTS for each in _on(hosts, 1, steps)),
        *(each for hosts in HOSTS for each in _on(hosts, 8 // hosts, [seconds, "--language-model"])),
    ]


def _on(hosts: int, devices: int, arguments: list[str]) -> list[Contender]:
    group, script = f"{hosts} × {devices}", "jax_spmd.py"
    arguments = [*arguments, f"--devices={hosts * devices}"]
    return [
        Contender("Polypath", group, lambda: lineup.polypath(script, arguments, hosts, devices)),
        Contender("JAX multi-controller", group, lambda: lineup.multi_controller(script, arguments, hosts, devices)),
    ]


if __name__ == "__main__":
    Question("What SPMD steps lose to one controller", contenders, METRICS, lambda _: CAPTION, limit=240).ask()
