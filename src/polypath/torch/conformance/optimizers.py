"""The optimizers of torch's `optim_db`: several steps on torch's CPU and on the device from the same parameters.

Each configuration of the database is used one parameter after another, and also with the flags that it supports
(`foreach`, `fused`, `differentiable`), those with `capturable` among them. torch's CPU knows no `capturable`: there the
same is computed without it.
"""

from __future__ import annotations

import copy
import functools
import importlib
import io
from collections.abc import Iterator
from typing import Any, Final
from unittest import mock

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from polypath.torch.conformance.compare import CPU, Case
from polypath.torch.conformance.verdicts import Variant

_SHAPES: Final = ((5, 3), (5,))
_MATRICES: Final = ((5, 3), (4, 4))
_STEPS: Final = 3
_FLAGS: Final = ("foreach", "fused", "capturable")
"""How a step is done, not what it computes."""


class _Sample:
    """A configuration of an optimizer."""

    def __init__(self, info: Any, given: Any, dtype: torch.dtype = torch.float32) -> None:
        self.info = info
        self.given = given
        self.dtype = dtype
        generator = torch.Generator().manual_seed(0)
        shapes = _MATRICES if info.name == "Muon" else _SHAPES
        draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
        self.start = [draw(shape).to(dtype) for shape in shapes]
        self.targets = [draw(shape).to(dtype) for shape in shapes]


class _Training:
    """Parameters somewhere, and an optimizer that changes them."""

    def __init__(self, sample: _Sample, device: torch.device, params: list[Tensor] | None = None) -> None:
        self.leaves = [nn.Parameter(one.clone().to(device)) for one in params or sample.start]
        self.is_differentiable = bool(sample.given.kwargs.get("differentiable"))
        # A differentiable step changes parameters in a way that autograd sees, as leaves must not be.
        self.params: list[Tensor] = (
            [one.clone() for one in self.leaves] if self.is_differentiable else list(self.leaves)
        )
        self._targets = [one.to(device) for one in sample.targets]
        self._sparse = sample.info.only_supports_sparse_grads
        kwargs = copy.deepcopy(sample.given.kwargs)
        if device.type == "cpu" and kwargs.get("capturable"):
            kwargs = {name: _number(one) for name, one in kwargs.items() if name not in _FLAGS}
        if sample.info.step_requires_closure:  # Rounding decides how many more there were.
            kwargs.setdefault("max_iter", 3)
        self.optimizer: Any = sample.info.optim_cls(self.params, **kwargs)
        self._needs_closure = sample.info.step_requires_closure

    def loss(self) -> Tensor:
        """The loss, with its gradients in the parameters."""
        self.optimizer.zero_grad()
        pairs = zip(self.params, self._targets, strict=True)
        loss = torch.stack([((p - t) ** 2 + (p - t) ** 4 / 4).sum() for p, t in pairs]).sum()
        if self.is_differentiable:
            for one, grad in zip(self.params, torch.autograd.grad(loss, self.params, create_graph=True), strict=True):
                one.grad = grad
            return loss
        loss.backward()
        if self._sparse:
            for one in self.params:
                assert one.grad is not None
                one.grad = one.grad.reshape(one.shape).to_sparse()
        return loss

    def step(self) -> Tensor:
        """One step; the loss before it."""
        if self._needs_closure:
            return self.optimizer.step(self.loss)
        loss = self.loss()
        self.optimizer.step()
        return loss

    def everything(self) -> list[Any]:
        """The parameters, and the optimizer's tensors of each."""
        state = self.optimizer.state_dict()["state"]
        return [self.params, {at: dict(sorted(of.items())) for at, of in state.items()}]


def entries() -> dict[str, Any]:
    """Those of the database, by name."""
    database: Any = importlib.import_module("torch.testing._internal.common_optimizers")
    return {f"optim.{info.name}": info for info in database.optim_db}


def cases(info: Any, variant: Variant) -> Iterator[Case]:
    """The optimizer's configurations."""
    database: Any = importlib.import_module("torch.testing._internal.common_optimizers")
    # (What is listed for CUDA is what torch offers on accelerators, ours among them.)
    skip = () if variant is Variant.STEPS else ("differentiable",)
    use = _USES[variant]
    every = database._get_optim_inputs_including_global_cliquey_kwargs("cuda", torch.float32, info, skip)
    # By flags, so that an even draw has some of each.
    for given in sorted(every, key=lambda one: one.desc.partition(" & ")[2]):
        sample, wider = _Sample(info, given), _Sample(info, given, torch.float64)
        yield Case(functools.partial(use, sample), functools.partial(_exactly, use, wider), given.desc)


def _exactly(use: Any, sample: _Sample) -> list[Any]:
    with mock.patch.object(Tensor, "bfloat16", lambda self: self):  # Muon would compute in it all the same.
        return use(sample, CPU)


# --- Using an optimizer -----------------------------------------------------------------------


def _number(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_number(one) for one in value)
    return value.item() if isinstance(value, Tensor) else value


def _steps(sample: _Sample, device: torch.device) -> list[Any]:
    training = _Training(sample, device)
    losses = [training.step() for _ in range(_STEPS)]
    found = [losses, *_comparable(training, device)]
    if training.is_differentiable:
        found.append(torch.autograd.grad(training.loss(), training.leaves))
    return found


def _compiled(sample: _Sample, device: torch.device) -> list[Any]:
    torch._dynamo.reset()
    training = _Training(sample, device)
    step = training.step if device.type == "cpu" else torch.compile(training.step, backend="polypath")
    losses = [step() for _ in range(_STEPS)]
    return [losses, *_comparable(training, device)]


def _state(sample: _Sample, device: torch.device) -> list[Any]:
    """Steps there, saved and loaded on the CPU, steps there, saved and loaded on the device, more steps."""
    training = _Training(sample, device)
    for place in (device, CPU, device):
        file = io.BytesIO()
        torch.save([training.params, training.optimizer.state_dict()], file)
        file.seek(0)
        params, state = torch.load(file, map_location="cpu")
        training = _Training(sample, place, [one.detach() for one in params])
        for group, own in zip(state["param_groups"], training.optimizer.param_groups, strict=True):
            group.update({name: own[name] for name in _FLAGS if name in own})  # `capturable` is not for the CPU.
        training.optimizer.load_state_dict(state)
        for _ in range(2):
            training.step()
    return _comparable(training, device)


def _comparable(training: _Training, device: torch.device) -> list[Any]:
    """What is on the CPU by torch's own rules (how many steps were made) is compared as if it were on the device."""

    def place(leaf: Any) -> Any:
        return leaf.detach().to(device) if isinstance(leaf, Tensor) else leaf

    params, state = training.everything()
    return [[one.detach() for one in params], pytree.tree_map(place, state)]


_USES: Final[dict[Variant, Any]] = {Variant.STEPS: _steps, Variant.STATE: _state, Variant.COMPILED: _compiled}
