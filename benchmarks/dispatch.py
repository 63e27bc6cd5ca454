"""What one call costs: Polypath beside JAX in process, multi-controller JAX and Ray.

python benchmarks/dispatch.py [--quick] [--rounds N] [--json OUT] [--ray-python PYTHON] [--only NAME]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import lineup
import typer
from comparison import JsonFile, Limit, Only, Quick, RayPython, Rounds, compare
from lineup import Contender

AWAIT_EVERY: Final = 24
"""As in `contenders/jax_steps.py`."""

METRICS: Final = {
    "add_blocked_us": "add\nblocked, µs",
    "add_per_s": "add\ncalls/s",
    "psum_blocked_us": "psum\nblocked, µs",
    "psum_per_s": "psum\ncalls/s",
}


@dataclass(frozen=True)
class Effort:
    """How much one round measures."""

    calls: int
    """Blocked calls, whose median counts."""
    burst: int
    """Unblocked calls, whose rate counts."""

    def arguments(self, *more: str) -> list[str]:
        return [f"--calls={self.calls}", f"--burst={self.burst}", *more]


FULL: Final = Effort(calls=1000, burst=2400)
QUICK: Final = Effort(calls=200, burst=480)


def contenders(effort: Effort, ray_python: str) -> list[Contender]:
    one, host, hosts = "1 device", "8 devices of 1 host", "8 devices of 2 hosts"
    steps, add = "jax_steps.py", "ray_add.py"
    on_1, on_8 = effort.arguments("--devices=1"), effort.arguments("--devices=8")
    compiled = effort.arguments("--compiled")
    return [
        Contender("Polypath 1×1", one, lambda: lineup.polypath(steps, on_1, 1, 1)),
        Contender("JAX in process", one, lambda: lineup.jax(steps, on_1, 1)),
        Contender("Ray actor call", one, lambda: lineup.ray(add, effort.arguments(), ray_python)),
        Contender("Ray compiled graph", one, lambda: lineup.ray(add, compiled, ray_python)),
        Contender("Polypath 1×8", host, lambda: lineup.polypath(steps, on_8, 1, 8)),
        Contender("JAX in process", host, lambda: lineup.jax(steps, on_8, 8)),
        Contender("Polypath 2×4", hosts, lambda: lineup.polypath(steps, on_8, 2, 4)),
        Contender("JAX multi-controller", hosts, lambda: lineup.multi_controller(steps, on_8, 2, 4)),
    ]


def caption(effort: Effort) -> str:
    """What one has to know to read the table."""
    return "\n".join(
        (
            "add: a jitted int32 scalar + 1. psum: a jitted shard_map that psums one float32 per device. CPU devices.",
            f"blocked: median of {effort.calls:,} calls, each awaited. calls/s: {effort.burst:,} calls, each on the "
            "result before, awaited at the end;",
            f"psum also every {AWAIT_EVERY} calls, for every contender alike: about 32 unawaited deadlock XLA's "
            "CPU collectives.",
            "Multi-controller: figures of the first of its processes; its add runs in that process alone.",
            "Ray: an actor's method that adds two floats, without JAX: a lower bound. Its compiled graph has at most "
            "10 calls in flight.",
        )
    )


def main(
    *,
    rounds: Rounds = None,
    quick: Quick = False,
    json_file: JsonFile = None,
    ray_python: RayPython = sys.executable,
    only: Only = "",
    limit: Limit = 120,
) -> None:
    """Compare what one call costs on Polypath with what it costs elsewhere."""
    effort = QUICK if quick else FULL
    compare(
        "What one call costs",
        contenders(effort, ray_python),
        METRICS,
        caption(effort),
        rounds=rounds or (1 if quick else 5),
        only=only,
        limit=limit,
        json_file=json_file,
    )


if __name__ == "__main__":
    typer.run(main)
