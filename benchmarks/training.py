"""What training in PyTorch costs on a cluster: beside the same model in JAX there, and beside torch.compile in process.

python benchmarks/training.py [--quick] [--rounds N] [--json OUT] [--only NAME]
"""

from __future__ import annotations

from typing import Final

import lineup
import typer
from comparison import JsonFile, Limit, Only, Quick, Rounds, compare
from lineup import Contender

METRICS: Final = {"steps": "steps/s", "warm": "3 steps, s", "loss": "loss"}
CAPTION: Final = "\n".join(
    (
        "A transformer of 4 layers, width 256, 1,024 words, on 8 × 128 tokens, float32, AdamW; weights and data alike.",
        "steps/s: every 8th loss is looked at. 3 steps: the first three, with all compilation. loss: the first.",
        "Polypath: one host with one device. torch.compile: inductor on this machine's cores, without a cluster.",
    )
)
GROUP: Final = "one device"


def contenders(quick: bool) -> list[Contender]:
    script, seconds = "training.py", f"--seconds={3 if quick else 10}"
    torch, jax = ["--framework=torch", seconds], ["--framework=jax", seconds]
    return [
        Contender("Polypath, PyTorch", GROUP, lambda: lineup.polypath(script, [*torch, "--device=polypath"], 1, 1)),
        Contender("JAX on a cluster of Polypath", GROUP, lambda: lineup.polypath(script, jax, 1, 1)),
        Contender("JAX in process", GROUP, lambda: lineup.jax(script, jax, 1)),
        Contender("torch.compile", GROUP, lambda: lineup.plain(script, [*torch, "--device=cpu"])),
        Contender("PyTorch eager", GROUP, lambda: lineup.plain(script, [*torch, "--device=eager"])),
    ]


def main(
    *,
    rounds: Rounds = None,
    quick: Quick = False,
    json_file: JsonFile = None,
    only: Only = "",
    limit: Limit = 300,
) -> None:
    """Compare training steps in PyTorch and in JAX."""
    compare(
        "What training in PyTorch costs on a cluster",
        contenders(quick),
        METRICS,
        CAPTION,
        rounds=rounds or (1 if quick else 5),
        only=only,
        limit=limit,
        json_file=json_file,
    )


if __name__ == "__main__":
    typer.run(main)
