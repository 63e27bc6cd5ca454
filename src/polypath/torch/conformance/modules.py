"""The modules of torch's `module_db`: on torch's CPU and on the device with the same parameters.

Where training differs from evaluation both are used, as in PyTorch's own tests. What is compared of a forward pass
are its results and the module's buffers, of a backward pass the gradients of inputs and parameters.
"""

from __future__ import annotations

import copy
import functools
import importlib
import io
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from polypath.torch.conformance.compare import CPU, Case, Disagreement, NotHere, cast, gradients, placed
from polypath.torch.conformance.verdicts import Variant

_OTHERS: Final = (torch.float64, torch.bfloat16)


class _Sample:
    """A module on the CPU with inputs of its forward pass, neither of which is ever changed."""

    def __init__(self, info: Any, given: Any, training: bool) -> None:
        torch.manual_seed(0)
        self._class, self._given = info.module_cls, given.constructor_input
        self.inputs: Any = (tuple(given.forward_input.args), dict(given.forward_input.kwargs))
        self.module: nn.Module = self.make(CPU)
        if info.is_lazy:
            with torch.no_grad():
                args, kwargs = placed(self.inputs, CPU)
                self.module(*args, **kwargs)
        self.training = training
        self.dtype = torch.float32
        self.module.train(training)
        self.is_lazy = info.is_lazy

    def make(self, device: torch.device) -> nn.Module:
        """Another one, made there."""
        with device:
            args, kwargs = copy.deepcopy(placed((self._given.args, self._given.kwargs), device))
            return self._class(*args, **kwargs).to(device)  # It may be made of modules that were given.

    def to(self, dtype: torch.dtype) -> _Sample:
        """The same in another dtype."""
        other = copy.copy(self)
        other.dtype = dtype
        other.module = copy.deepcopy(self.module).to(dtype)
        other.inputs = cast(self.inputs, torch.float32, dtype)
        return other


def entries() -> dict[str, Any]:
    """Those of the database, by name."""
    return {info.name: info for info in importlib.import_module("torch.testing._internal.common_modules").module_db}


def cases(info: Any, variant: Variant) -> Iterator[Case]:
    """The module's samples.

    Raises:
        NotHere: there is no such variant.
    """
    if torch.float32 not in info.dtypes:
        raise NotHere("it takes no float32")
    samples = list(_samples(info))
    use = _USES[variant]
    for dtype in _OTHERS if variant is Variant.DTYPES else (torch.float32,):
        for sample, label in samples:
            yield Case(
                functools.partial(lambda sample, dtype, at: use(sample().to(dtype), at), sample, dtype),
                functools.partial(lambda sample: use(sample().to(torch.float64), CPU), sample),
                label if dtype is torch.float32 else f"{dtype}, {label}",
            )


def _samples(info: Any) -> Iterator[tuple[Callable[[], _Sample], str]]:
    """Each with its label; made when it is used, as hundreds of modules need not be there at once."""
    for training in (True, False) if info.train_and_eval_differ else (True,):
        torch.manual_seed(0)
        given = info.module_inputs_func(info, device="cpu", dtype=torch.float32, requires_grad=True, training=training)
        for one in given:
            if one.forward_input is not None:
                label = ", ".join(filter(None, (one.desc, "training" if training else "evaluating")))
                yield functools.cache(functools.partial(_Sample, info, one, training)), label


# --- Using a module ---------------------------------------------------------------------------


def _module(sample: _Sample, device: torch.device) -> nn.Module:
    return copy.deepcopy(sample.module).to(device)


def _results(result: Any) -> Any:
    if isinstance(result, PackedSequence):  # How it is packed is on the CPU, wherever the rest is.
        return [result.data, *(None if one is None else one.tolist() for one in result[1:])]
    return [_results(one) for one in result] if isinstance(result, tuple | list) else result


def _forward(sample: _Sample, device: torch.device) -> list[Any]:
    module = _module(sample, device)
    args, kwargs = placed(sample.inputs, device)
    return [_results(module(*args, **kwargs)), dict(module.named_buffers())]


def _both(sample: _Sample, device: torch.device, compiled: bool = False) -> list[Any]:
    module = _module(sample, device)
    args, kwargs = placed(sample.inputs, device)
    call = torch.compile(module, backend="polypath") if compiled else module
    result = _results(call(*args, **kwargs))
    gradients_ = _gradients(result, [args, kwargs, list(module.parameters())], device)
    return [result, dict(module.named_buffers()), gradients_]


def _gradients(result: Any, inputs: Any, device: torch.device) -> list[torch.Tensor]:
    try:
        return gradients(result, inputs, device)
    except NotHere:  # Some have no parameters, and inputs that are no floats.
        return []


def _in_another_dtype(sample: _Sample, device: torch.device) -> list[Any]:
    """(With half floats it is rounding that decides on which side of a kink a gradient is.)"""
    return _both(sample, device) if sample.dtype is torch.float64 else _forward(sample, device)


def _backward(sample: _Sample, device: torch.device) -> list[Any]:
    found = _both(sample, device)[2]
    if not found:
        raise NotHere("nothing in it has a gradient")
    return found


def _compiled(sample: _Sample, device: torch.device) -> list[Any]:
    if device.type == "cpu":
        return _both(sample, device)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    found = _both(sample, device, compiled=True)
    if not torch._dynamo.utils.counters["stats"]["unique_graphs"]:
        raise NotHere("Dynamo leaves it out")
    return found


def _state(sample: _Sample, device: torch.device) -> list[Any]:
    """The state as it is after being saved there and loaded here, and the results of a module that loaded it there."""
    made = _module(sample, device)
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    saved = torch.load(file, map_location="cpu")
    here = _another(sample, CPU)
    here.load_state_dict(saved)
    if any(not torch.equal(one, saved[name]) for name, one in here.state_dict().items()):
        raise Disagreement("the CPU's module has another state than was loaded into it")
    there = _another(sample, device)
    there.load_state_dict(here.state_dict())
    there.train(sample.training)
    args, kwargs = placed(sample.inputs, device)
    torch.manual_seed(0)
    state = {name: one.to(device) for name, one in saved.items()}
    return [state, _results(there(*args, **kwargs))]


def _another(sample: _Sample, device: torch.device) -> nn.Module:
    """A module with other parameters. (A lazy one has no shapes before its first use.)"""
    torch.manual_seed(1)
    return _module(sample, device) if sample.is_lazy else sample.make(device)


_USES: Final[dict[Variant, Any]] = {
    Variant.FORWARD: _forward,
    Variant.BACKWARD: _backward,
    Variant.DTYPES: _in_another_dtype,
    Variant.STATE: _state,
    Variant.COMPILED: _compiled,
}
