"""What one call costs: Polypath beside JAX in process, multi-controller JAX, Ray and Monarch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import lineup
from comparison import Asked, Question
from lineup import MONARCH, RAY, Contender

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


def effort(asked: Asked) -> Effort:
    return Effort(calls=200, burst=480) if asked.quick else Effort(calls=1000, burst=2400)


def contenders(asked: Asked) -> list[Contender]:
    ray, monarch, arguments = asked.pythons[RAY], asked.pythons[MONARCH], effort(asked).arguments
    one, host, hosts = "1 device", "8 devices of 1 host", "8 devices of 2 hosts"
    steps, on_1, on_8 = "jax_steps.py", arguments("--devices=1"), arguments("--devices=8")
    return [
        Contender("Polypath 1×1", one, lambda: lineup.polypath(steps, on_1, 1, 1)),
        Contender("JAX in process", one, lambda: lineup.jax(steps, on_1, 1)),
        RAY.contender("Ray actor call", one, ray, "ray_add.py", arguments()),
        RAY.contender("Ray compiled graph", one, ray, "ray_add.py", arguments("--compiled")),
        MONARCH.contender("Monarch endpoint call", one, monarch, "monarch_add.py", arguments()),
        Contender("Polypath 1×8", host, lambda: lineup.polypath(steps, on_8, 1, 8)),
        Contender("JAX in process", host, lambda: lineup.jax(steps, on_8, 8)),
        Contender("Polypath 2×4", hosts, lambda: lineup.polypath(steps, on_8, 2, 4)),
        Contender("JAX multi-controller", hosts, lambda: lineup.multi_controller(steps, on_8, 2, 4)),
    ]


def caption(asked: Asked) -> str:
    """What one has to know to read the table."""
    of = effort(asked)
    return (
        "add: a jitted int32 scalar + 1. psum: a jitted shard_map that psums one float32 per device. CPU devices.\n"
        f"blocked: median of {of.calls:,} calls, each awaited. calls/s: {of.burst:,} calls, each on the result before, "
        f"awaited at the end; psum also every {AWAIT_EVERY} calls, for every contender alike: about 32 unawaited "
        "deadlock XLA's CPU collectives.\n"
        "Multi-controller: figures of the first of its processes; its add runs in that process alone.\n"
        "Ray and Monarch: an actor's method in a process of its own that adds two floats, without JAX: a lower bound. "
        "Ray's compiled graph has at most 10 calls in flight."
    )


if __name__ == "__main__":
    Question("What one call costs", contenders, METRICS, caption, peers=[RAY, MONARCH]).ask()
