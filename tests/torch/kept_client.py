"""Sharded tensors: saved in every way, and kept when a program fails on the cluster.

Prints one object of JSON: what was not as it was after it was saved, and what failures left.
"""

from __future__ import annotations

import copy
import io
import json
import pickle
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, load_model, save_file, save_model

import polypath.torch as pt
from polypath.torch.buffers import buffer_of
from polypath.torch.trace import trace

DEVICE = pt.device()
PLAN: dict[str, Any] = {"0.weight": ("data", "model"), "0.bias": ("model",), "1.weight": (None, ("data", "model"))}
TOO_MUCH = 10**14
"""Elements that no memory holds."""


def model(mesh: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(6, 8, dtype=torch.bfloat16)
    made = torch.nn.Sequential(torch.nn.Linear(8, 4), embedding, torch.nn.Linear(4, 4))
    made.register_buffer("one_device", torch.arange(6.0).reshape(2, 3).t())
    made.to(DEVICE)
    for name, parameter in made.named_parameters():
        if name in PLAN:
            pt.shard(parameter, mesh, PLAN[name])
    return made


def saved(mesh: Any, folder: Path) -> list[str]:
    """The ways of saving after which something is not as it was."""
    source = model(mesh)
    want = {name: tensor.cpu() for name, tensor in source.state_dict().items()}
    shardings = {name: buffer_of(tensor).ref.array.sharding for name, tensor in source.state_dict().items()}
    contiguous = {name: tensor.contiguous() for name, tensor in source.state_dict().items()}
    wrong: list[str] = []

    def check(way: str, state: dict[str, torch.Tensor]) -> None:
        same = all(torch.equal(state[name].cpu(), tensor) for name, tensor in want.items())
        now = source.state_dict()
        kept = all(torch.equal(now[name].cpu(), tensor) for name, tensor in want.items())
        laid_out = all(buffer_of(now[name]).ref.array.sharding == each for name, each in shardings.items())
        if not (same and kept and laid_out):
            wrong.append(way)

    for zipped in (True, False):
        file = io.BytesIO()
        torch.save(source.state_dict(), file, _use_new_zipfile_serialization=zipped)
        file.seek(0)
        loaded = torch.load(file)
        check(f"torch.save, zipped {zipped}", loaded)
        other = model(mesh)
        with torch.no_grad():
            other[0].weight.zero_()
        other.load_state_dict(loaded)
        check("load_state_dict", other.state_dict())
        pt.shard(loaded["0.weight"], mesh, PLAN["0.weight"])
        check("sharded once loaded", loaded)
    check("pickle", pickle.loads(pickle.dumps(source)).state_dict())
    twin = copy.deepcopy(source)
    check("deepcopy", twin.state_dict())
    if buffer_of(twin[0].weight).ref.array.sharding != shardings["0.weight"]:
        wrong.append("deepcopy, sharding")
    save_file(contiguous, folder / "tensors")
    check("safetensors.save_file", load_file(folder / "tensors"))
    save_model(source, str(folder / "model"))
    other = model(mesh)
    load_model(other, folder / "model")
    check("safetensors.save_model", other.state_dict())
    dcp.save(source.state_dict(), storage_writer=dcp.FileSystemWriter(folder / "dcp", thread_count=2), no_dist=True)
    state = {name: torch.zeros_like(tensor) for name, tensor in source.state_dict().items()}
    dcp.load(state, storage_reader=dcp.FileSystemReader(folder / "dcp"), no_dist=True)
    check("torch.distributed.checkpoint", state)
    check("DLPack", {name: torch.from_dlpack(tensor.detach()) for name, tensor in source.state_dict().items()})
    check("view of bytes", {**want, "0.weight": source[0].weight.detach().view(torch.int32).view(torch.float32)})
    return wrong


def failed(mesh: Any) -> dict[str, Any]:
    """What is left when programs fail: by devices that do not go together, and for want of memory."""
    half = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("x",))
    weight = torch.arange(8.0, device=DEVICE).reshape(2, 4).clone()
    other = torch.ones(4, device=DEVICE)
    pt.shard(weight, mesh, ("data", "model"))
    pt.shard(other, half, ("x",))
    weight.add_(1)
    together = weight + other
    found: dict[str, Any] = {"apart": _error(together.cpu), "after apart": weight.tolist()}
    alone, kept = torch.ones(3, device=DEVICE), torch.ones(3, device=DEVICE)
    torch.polypath.synchronize()
    huge = (alone.sum() + torch.zeros(TOO_MUCH, device=DEVICE)).exp()
    alone.add_(huge[0])
    trace.flush()  # It has started: the error comes when a value is read.
    found |= {"no memory": _error(alone.cpu), "kept": kept.tolist()}
    alone.copy_(torch.tensor([1.0, 2.0, 3.0]))
    return found | {"loaded again": alone.tolist()}


def _error(use: Any) -> str:
    try:
        use()
    except Exception as error:
        return " ".join((str(error), *getattr(error, "__notes__", ())))
    return ""


def main() -> None:
    mesh = jax.make_mesh((2, 4), ("data", "model"))
    with tempfile.TemporaryDirectory() as folder:
        json.dump({"saved": saved(mesh, Path(folder)), **failed(mesh)}, sys.stdout)


if __name__ == "__main__":
    main()
