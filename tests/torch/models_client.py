"""One model of `models`, on torch's CPU and on Polypath's device: forward, 50 steps of training, and what it generates.

    python tests/torch/models_client.py gpt2 --mesh 1 data fsdp tensor

starts a cluster of 2 hosts x 4 devices, or uses the one that `polypath env` names. A line of JSON for each mesh says
how far the two are apart. `--device cpu` compares the CPU with itself, which shows what the program itself gets wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from models import CASES, Case
from torch import Tensor, nn

import polypath.torch  # noqa: F401  # Before the first backward pass, which is on the CPU.

MESHES = ("1", "data", "fsdp", "tensor")
STEPS, BATCHES, NEW_TOKENS = 50, 4, 8
RATE = 1e-3

Batch = dict[str, Tensor]


class Place:
    """Where a model is, and how it is split there; here, the CPU."""

    def model(self, model: nn.Module) -> nn.Module:
        return model

    def batch(self, batch: Batch) -> Batch:
        return batch

    def compiled(self, step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return step


class Cluster(Place):
    """Polypath's device, over one of the meshes."""

    def __init__(self, mesh: str, case: Case) -> None:
        import jax

        self.case, self.kind = case, mesh
        sizes = {"data": 2, "model": 4} if mesh == "tensor" else {"data": 8}
        self.mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes)) if mesh != "1" else None

    def model(self, model: nn.Module) -> nn.Module:
        import polypath

        model = model.to(polypath.torch.device())
        match self.kind:
            case "data":
                polypath.torch.shard(model, self.mesh, {"*": ()})
            case "fsdp":
                polypath.torch.fsdp(model, self.mesh)
            case "tensor":
                polypath.torch.shard(model, self.mesh, self.case.plan)
        return model

    def batch(self, batch: Batch) -> Batch:
        import polypath

        batch = {name: tensor.to(polypath.torch.device()) for name, tensor in batch.items()}
        if self.mesh is None:
            return batch
        return {name: polypath.torch.shard(tensor, self.mesh, ("data",)) for name, tensor in batch.items()}

    def compiled(self, step: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return torch.compile(step, backend="polypath")


class Results:
    """What the case gave in one place."""

    def __init__(self, case: Case, place: Place, trained: dict[str, Tensor] | None = None) -> None:
        """`trained`: the weights to generate with; those that training here gave, if not given."""
        self.seconds: dict[str, float] = {}
        generator = torch.Generator().manual_seed(1)
        batches = [place.batch(case.batch(generator)) for _ in range(BATCHES)]
        torch.manual_seed(0)
        model = place.model(case.make())
        with self._timed("forward"), torch.no_grad():
            self.logits = model.eval()(**batches[0]).logits.cpu()
        with self._timed("train"):
            self.losses = train(model.train(), batches, place.compiled)
        self.trained = trained or model.state_dict()
        self.tokens: list[list[int]] = []
        if case.prompt:
            model.load_state_dict(self.trained)
            with self._timed("generate"):
                self.tokens = generate(model.eval(), {name: batches[0][name] for name in case.prompt})

    def beside(self, want: Results) -> dict[str, Any]:
        """How far it is from what is wanted: relative errors, and whether all tokens are equal."""
        return {
            "forward": ((self.logits - want.logits).abs().max() / want.logits.abs().max()).item(),
            "losses": max(abs(a - b) / abs(b) for a, b in zip(self.losses, want.losses, strict=True)),
            "tokens": self.tokens == want.tokens if want.tokens else None,
            "first_and_last_loss": (self.losses[0], self.losses[-1]),
            "seconds": {name: round(seconds, 1) for name, seconds in self.seconds.items()},
        }

    @contextlib.contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - began


def train(model: nn.Module, batches: list[Batch], compiled: Callable[..., Any]) -> list[float]:
    """The loss before each of the steps."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)

    def train_step(batch: Batch) -> Tensor:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    step = compiled(train_step)
    losses = [step(batch) for batch in itertools.islice(itertools.cycle(batches), STEPS)]
    return [loss.item() for loss in losses]


def generate(model: nn.Module, prompt: Batch) -> list[list[int]]:
    """The likeliest tokens of each row."""
    with torch.no_grad():
        return model.generate(**prompt, max_new_tokens=NEW_TOKENS, do_sample=False).tolist()  # type: ignore


def cluster() -> contextlib.AbstractContextManager[Any]:
    """One of our own, unless the environment names one."""
    if "JAX_BACKEND_TARGET" in os.environ:
        return contextlib.nullcontext()
    import polypath

    return polypath.start(hosts=2, devices_per_host=4, platform="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description="One model on torch's CPU and on Polypath's device.")
    parser.add_argument("model", choices=CASES)
    parser.add_argument("--mesh", choices=MESHES, nargs="+", default=MESHES)
    parser.add_argument("--device", choices=("polypath", "cpu"), default="polypath")
    args = parser.parse_args()
    case = CASES[args.model]
    if args.device == "polypath":
        import polypath

        polypath.torch.device()
    want = Results(case, Place())
    with cluster() if args.device == "polypath" else contextlib.nullcontext():
        for mesh in args.mesh:
            place = Cluster(mesh, case) if args.device == "polypath" else Place()
            got = Results(case, place, want.trained).beside(want)
            print(json.dumps({"model": args.model, "mesh": mesh, **got}), flush=True)


if __name__ == "__main__":
    main()
