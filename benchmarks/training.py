"""What training in PyTorch costs on a cluster: beside the same model in JAX, and beside torch.compile in process."""

from __future__ import annotations

from typing import Final

import lineup
from comparison import Asked, Question
from lineup import Contender

METRICS: Final = {"steps": "steps/s", "warm": "3 steps, s", "loss": "loss"}
CAPTION: Final = (
    "A transformer of 4 layers, width 256, 1,024 words, on 8 × 128 tokens, float32, AdamW; weights and data alike.\n"
    "steps/s: every 8th loss is looked at. 3 steps: the first three, with all compilation. loss: the first.\n"
    "Polypath: one host with one device. torch.compile: inductor on this machine's cores, without a cluster."
)
GROUP: Final = "one device"


def contenders(asked: Asked) -> list[Contender]:
    script, seconds = "training.py", f"--seconds={3 if asked.quick else 10}"
    torch, jax = ["--framework=torch", seconds], ["--framework=jax", seconds]
    return [
        Contender("Polypath, PyTorch", GROUP, lambda: lineup.polypath(script, [*torch, "--device=polypath"], 1, 1)),
        Contender("JAX on a cluster of Polypath", GROUP, lambda: lineup.polypath(script, jax, 1, 1)),
        Contender("JAX in process", GROUP, lambda: lineup.jax(script, jax, 1)),
        Contender("torch.compile", GROUP, lambda: lineup.plain(script, [*torch, "--device=cpu"])),
        Contender("PyTorch eager", GROUP, lambda: lineup.plain(script, [*torch, "--device=eager"])),
    ]


if __name__ == "__main__":
    Question("What training in PyTorch costs on a cluster", contenders, METRICS, lambda _: CAPTION, limit=300).ask()
