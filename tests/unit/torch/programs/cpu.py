"""What a program that stays on the CPU sees of torch, as JSON; with `--imported`, after `import polypath.torch`.

Each behaviour is a function; its result is printed under its name, with the warnings that it gave.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
import pickle
import random
import sys
import unittest.mock
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo

if "--imported" in sys.argv:
    import polypath.torch  # noqa: F401
from torch.utils.data import DataLoader, TensorDataset

DATA = TensorDataset(torch.arange(32.0).reshape(16, 2))


def digest(*tensors: torch.Tensor) -> str:
    """What tells values apart to the last bit."""
    return hashlib.sha256(b"".join(tensor.detach().contiguous().numpy().tobytes() for tensor in tensors)).hexdigest()


def defaults() -> Any:
    place = torch.tensor(1.0).device, torch.nn.Linear(1, 1).weight.device, torch.get_default_device()
    return [str(one) for one in (*place, torch.get_default_dtype())]


def backends() -> Any:
    return [
        torch.backends.mha.get_fastpath_enabled(),
        torch.backends.mkldnn.enabled,
        torch.backends.cudnn.enabled,
        torch.backends.cuda.flash_sdp_enabled(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.__future__.get_swap_module_params_on_conversion(),
        torch.multiprocessing.get_sharing_strategy(),
        os.environ.get("ACCELERATE_TORCH_DEVICE"),
    ]


def kernels() -> Any:
    """The operators whose kernel for tensors of the CPU is Polypath's."""
    changed: list[str] = []
    for name in torch._C._dispatch_get_all_op_names():
        for line in torch._C._dispatch_dump(name).splitlines():
            if (
                line.startswith(("CPU:", "AutogradCPU:", "AutocastCPU:", "BackendSelect:", "Python:"))
                and "/polypath/" in line
            ):
                changed.append(f"{name} {line.partition(':')[0]}")
    return sorted(changed)


def random_streams() -> Any:
    torch.manual_seed(3)
    random.seed(3)
    drawn = torch.rand(5), torch.randn(3, generator=torch.Generator().manual_seed(2)), torch.randperm(9)
    with torch.random.fork_rng(devices=[]):
        torch.rand(2)
    return [digest(*drawn, torch.rand(2), torch.get_rng_state()), random.random()]


def generators() -> Any:
    generator = torch.Generator().manual_seed(7)
    return [
        type(generator).__name__,
        isinstance(torch.default_generator, torch.Generator),
        str(generator.device),
        generator.clone_state().initial_seed(),
    ]


def training() -> Any:
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1)
    )
    before = list(model.parameters())
    model.to(torch.float64).to(torch.float32).requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()
    return [digest(*model.state_dict().values()), all(a is b for a, b in zip(before, model.parameters(), strict=True))]


def encoder() -> Any:
    torch.manual_seed(1)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    padding = torch.tensor([[False, False, True], [False, False, False]])
    with torch.no_grad():
        return digest(torch.nn.TransformerEncoder(layer, 2).eval()(torch.randn(2, 3, 8), src_key_padding_mask=padding))


def autocast() -> Any:
    x = torch.ones(2, 2)
    with torch.autocast("cpu", torch.bfloat16):
        inside = torch.is_autocast_enabled("cpu"), (x @ x).dtype, torch.nn.functional.mse_loss(x, x).dtype
    return [
        str(one) for one in (*inside, torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu"), (x @ x).dtype)
    ]


def checkpointing() -> Any:
    torch.manual_seed(5)
    x = torch.ones(4, requires_grad=True)
    for reentrant in (True, False):
        drop = torch.utils.checkpoint.checkpoint(torch.nn.functional.dropout, x * 2, use_reentrant=reentrant)
        drop.sum().backward()
    return digest(x.grad)


def saving() -> Any:
    file = io.BytesIO()
    torch.save({"x": torch.arange(3), "view": torch.ones(2, 2)[1:]}, file)
    file.seek(0)
    loaded = torch.load(file)
    pickled = pickle.loads(pickle.dumps(loaded["x"]))
    return [
        digest(loaded["x"], loaded["view"], copy.deepcopy(pickled)),
        str(loaded["x"].device),
        pickled.untyped_storage().nbytes(),
    ]


def loaders() -> Any:
    generator = torch.Generator().manual_seed(0)
    batches = [[x for (x,) in DataLoader(DATA, 4, shuffle=True, generator=generator, num_workers=n)] for n in (0, 1)]
    return [digest(*one) for one in batches]


def pinned_loader() -> Any:
    return digest(*[x for (x,) in DataLoader(DATA, 4, pin_memory=True)])


def pinned() -> Any:
    return [torch.ones(2).is_pinned(), DATA.tensors[0].untyped_storage().is_pinned()]


def compiling() -> Any:
    """Which backend `torch.compile` calls, once with each way to name none."""
    called: list[str] = []

    def inductor(graph: torch.fx.GraphModule, inputs: Any, **_: Any) -> Callable[..., Any]:
        called.append("inductor")
        return graph.forward

    with unittest.mock.patch("torch._inductor.compile_fx.compile_fx", inductor):
        for options in ({}, {"mode": "max-autotune"}, {"dynamic": True}):
            torch.compiler.reset()
            torch.compile(lambda x: x + 1, **options)(torch.ones(2))
    return called


def parallel() -> Any:
    torch.manual_seed(2)
    return digest(torch.nn.DataParallel(torch.nn.Linear(2, 2))(torch.ones(3, 2)))


def accelerator() -> Any:
    return [
        str(torch.accelerator.current_accelerator()),
        torch.accelerator.is_available(),
        torch.accelerator.device_count(),
    ]


BEHAVIOURS = (
    defaults,
    backends,
    kernels,
    random_streams,
    generators,
    training,
    encoder,
    autocast,
    checkpointing,
    saving,
    loaders,
    pinned_loader,
    pinned,
    compiling,
    parallel,
    accelerator,
)

if __name__ == "__main__":
    seen: dict[str, Any] = {}
    for behaviour in BEHAVIOURS:
        with warnings.catch_warnings(record=True) as given:
            warnings.simplefilter("always")
            result = behaviour()
        told = {f"{one.category.__name__}: {one.message}".replace(str(os.getpid()), "PID") for one in given}
        seen[behaviour.__name__] = [result, sorted(told)]
    print(json.dumps(seen))
