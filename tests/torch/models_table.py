"""The page `docs/torch-models.md`: what `models_client` found, for every model on every mesh.

    python tests/torch/models_table.py > docs/torch-models.md

runs one model after another, each in a process with a cluster of its own: about 25 minutes on two cores. `--lines FILE`
takes lines that `models_client` printed before instead.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from models import CASES
from models_client import BATCHES, MESHES, NEW_TOKENS, STEPS

CLIENT = Path(__file__).parent / "models_client.py"
TEXT = f"""# Models of transformers on the cluster

Eight models from `transformers`' configurations with random weights, float32, on `polypath.torch.device()` beside
torch's CPU: a forward pass, {STEPS} steps of training (AdamW, {BATCHES} batches in turn, dropout off,
`torch.compile(step, backend="polypath")`), and {NEW_TOKENS} tokens of greedy `generate` from the trained weights.
`1`: on one device. The others are on eight, 2 hosts with 4 devices each: `data` splits batches, `fsdp` batches and
weights, `tensor` batches by 2 and weights by 4, as the plan of the model says.

Asked were errors of at most 1e-05 (forward) and 0.001 (losses), and equal tokens.

Made by `python tests/torch/models_table.py` with {{versions}}.

| model | mesh | forward: error / largest logit | losses: largest relative error | first, last loss | tokens |
| --- | --- | --- | --- | --- | --- |
"""


def measured(model: str) -> list[str]:
    """The lines of one model. What it says besides goes to stderr."""
    command = [sys.executable, str(CLIENT), model, "--mesh", *MESHES]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()


def row(result: dict[str, Any]) -> str:
    first, last = result["first_and_last_loss"]
    tokens = {True: "equal", False: "**differ**", None: "makes none"}[result["tokens"]]
    figures = f"{result['forward']:.1e} | {result['losses']:.1e} | {first:.4f}, {last:.4f} | {tokens}"
    return f"| {result['model']} | {result['mesh']} | {figures} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="The table of models.")
    parser.add_argument("--lines", type=Path, help="What models_client printed; measured now, if not given.")
    file = parser.parse_args().lines
    lines = file.read_text().splitlines() if file else [line for model in CASES for line in measured(model)]
    results = [json.loads(line) for line in lines if line.startswith("{")]
    missing = {(model, mesh) for model in CASES for mesh in MESHES} - {(one["model"], one["mesh"]) for one in results}
    if missing:
        sys.exit(f"Nothing was measured of {sorted(missing)}; run models_client for each.")
    order = {(model, mesh): place for place, (model, mesh) in enumerate((m, n) for m in CASES for n in MESHES)}
    results.sort(key=lambda one: order[one["model"], one["mesh"]])
    versions = ", ".join(f"{name} {version(name)}" for name in ("polypath", "torch", "transformers", "jax"))
    print(TEXT.format(versions=versions) + "\n".join(map(row, results)))


if __name__ == "__main__":
    main()
