"""What a step costs that takes and gives thousands of arrays: Polypath beside JAX in process."""

from __future__ import annotations

from typing import Final

import lineup
from comparison import Asked, Question
from lineup import Contender

COUNTS: Final = (1, 1000, 5000)
METRICS: Final = {
    f"{how}_{count}": f"{count:,},\n{heading}"
    for count in COUNTS
    for how, heading in (("awaited", "awaited, ms"), ("chained", "chained, ms"))
}
CAPTION: Final = (
    "Milliseconds for a jitted step that adds 1 to each of so many float32 scalars, on one CPU device. awaited: "
    "median of steps, each awaited whole (jax.block_until_ready). chained: a step of 10 on each other's results, of "
    "which the last is awaited. The first two columns are a round trip."
)


def contenders(asked: Asked) -> list[Contender]:
    script = "jax_arguments.py"
    arguments = [f"--steps={10 if asked.quick else 40}", *map("--count={}".format, COUNTS)]
    return [
        Contender("Polypath", "1 device", lambda: lineup.polypath(script, arguments, 1, 1)),
        Contender("JAX in process", "1 device", lambda: lineup.jax(script, arguments, 1)),
    ]


if __name__ == "__main__":
    Question("Steps with thousands of arrays", contenders, METRICS, lambda _: CAPTION, limit=180).ask()
