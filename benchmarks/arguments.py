"""What a step costs that takes and gives thousands of arrays: Polypath beside JAX in process.

python benchmarks/arguments.py [--quick] [--rounds N] [--json OUT] [--only NAME]
"""

from __future__ import annotations

from typing import Final

import lineup
import typer
from comparison import JsonFile, Limit, Only, Quick, Rounds, compare
from lineup import Contender

COUNTS: Final = (1, 1000, 5000)
METRICS: Final = {
    f"{how}_{count}": f"{count:,},\n{heading}"
    for count in COUNTS
    for how, heading in (("awaited", "awaited, ms"), ("chained", "chained, ms"))
}
CAPTION: Final = "\n".join(
    (
        "Milliseconds for a jitted step that adds 1 to each of so many float32 scalars, on one CPU device. awaited: "
        "median of steps, each awaited",
        "whole (jax.block_until_ready). chained: a step of 10 on each other's results, of which the last is awaited. "
        "The first two columns are a round trip.",
    )
)


def main(
    *,
    rounds: Rounds = None,
    quick: Quick = False,
    json_file: JsonFile = None,
    only: Only = "",
    limit: Limit = 180,
) -> None:
    """Compare steps with many arguments and results."""
    script, arguments = "jax_arguments.py", [f"--steps={10 if quick else 40}", *map("--count={}".format, COUNTS)]
    compare(
        "Steps with thousands of arrays",
        [
            Contender("Polypath", "1 device", lambda: lineup.polypath(script, arguments, 1, 1)),
            Contender("JAX in process", "1 device", lambda: lineup.jax(script, arguments, 1)),
        ],
        METRICS,
        CAPTION,
        rounds=rounds or (1 if quick else 5),
        only=only,
        limit=limit,
        json_file=json_file,
    )


if __name__ == "__main__":
    typer.run(main)
