"""The operators of torch's `op_db`, in float32: how each variant uses them."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import torch

from polypath.torch.conformance.compare import CPU, Case, Disagreement, NotHere, cast, gradients, placed, tensors
from polypath.torch.conformance.verdicts import Variant

_UNINITIALIZED: Final = ("empty", "new_empty", "resize_")
_UP_TO_SIGN: Final = frozenset(
    ("svd", "linalg.svd", "svd_lowrank", "pca_lowrank", "linalg.eigh", "linalg.eig", "symeig")
)
_BY_CHANNEL: Final = ("dropout2d", "dropout3d", "feature_")

Sample = Any
"""torch's `SampleInput`."""
_Use = Callable[[Any, Sample, torch.device], list[Any]]
_Once = Callable[[torch.device], list[Any]]


def entries() -> dict[str, Any]:
    """Those of the database, by name."""
    database: Any = importlib.import_module("torch.testing._internal.common_methods_invocations")
    # Some seed the generator at each use, so that what they draw would not be known as random.
    database.wrapper_set_seed = lambda op, *args, **kwargs: op(*args, **kwargs)
    return {op.full_name: op for op in database.op_db}


def cases(op: Any, variant: Variant) -> Iterator[Case]:
    """The operator's samples.

    Raises:
        NotHere: there is no such variant.
    """
    if torch.float32 not in op.dtypes:
        raise NotHere("it takes no float32")
    if not _has(op, variant):
        raise NotHere("there is no such variant")
    torch.manual_seed(0)
    for sample in list(op.sample_inputs("cpu", torch.float32, requires_grad=variant is Variant.BACKWARD)):
        use: _Once = functools.partial(_USES[variant], op, sample)
        if not tensors((sample.input, sample.args, sample.kwargs)):  # It makes one out of nothing.
            use = functools.partial(_with_default, use)
        yield Case(
            use,
            functools.partial(_exactly, op, variant, sample),
            uninitialized=op.name.startswith(_UNINITIALIZED),
            up_to_sign=op.name in _UP_TO_SIGN,
            by_means=any(name in op.name for name in _BY_CHANNEL),
        )


def _has(op: Any, variant: Variant) -> bool:
    return {
        Variant.FORWARD: True,
        Variant.BACKWARD: op.supports_autograd,
        Variant.IN_PLACE: op.inplace_variant is not None,
        Variant.OUT: op.supports_out,
    }[variant]


def _exactly(op: Any, variant: Variant, sample: Sample) -> list[Any]:
    return _USES[variant](op, sample.transform(lambda one: cast(one, torch.float32, torch.float64)), CPU)


def _with_default(use: _Once, device: torch.device) -> list[Any]:
    with device:
        return use(device)


def _given(sample: Sample, device: torch.device) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    return placed((sample.input, tuple(sample.args), dict(sample.kwargs)), device)


def _forward(op: Any, sample: Sample, device: torch.device) -> list[Any]:
    x, args, kwargs = _given(sample, device)
    return [op(x, *args, **kwargs)]


def _backward(op: Any, sample: Sample, device: torch.device) -> list[Any]:
    given = _given(sample, device)
    x, args, kwargs = given
    result = op(x, *args, **kwargs)
    differentiable = sample.output_process_fn_grad(result) if sample.output_process_fn_grad else result
    return list(gradients(differentiable, given, device))


def _view_of_base(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A view with the same values, that has gaps in memory, and what it is a view of."""
    base = torch.stack([x.detach(), x.detach()], -1)
    return base, base[..., 0]


def _in_place(op: Any, sample: Sample, device: torch.device) -> list[Any]:
    if sample.broadcasts_input or not isinstance(sample.input, torch.Tensor):
        raise NotHere("its result is larger than its input")
    x, args, kwargs = _given(sample, device)
    base, view = _view_of_base(x)
    with torch.no_grad():
        result = op.inplace_variant(view, *args, **kwargs)
    return [result, base]


def _out(op: Any, sample: Sample, device: torch.device) -> list[Any]:
    given = _given(sample, CPU)
    with torch.no_grad():
        likes = op(given[0], *given[1], **given[2])
    if not all(isinstance(one, torch.Tensor) for one in _items(likes)):
        raise NotHere("its result is no tensor")
    if device.type == "cpu":
        return _written(op, sample, likes)
    x, args, kwargs = _given(sample, device)
    pairs = [_view_of_base(torch.full_like(one, 1).to(device)) for one in _items(likes)]
    views = [view for _, view in pairs]
    with torch.no_grad():
        result = op(x, *args, **kwargs, out=views[0] if isinstance(likes, torch.Tensor) else tuple(views))
    if result is not None and any(one is not view for one, view in zip(_items(result), views, strict=True)):
        raise Disagreement("the result is not what was given as out=")
    return [views, [base for base, _ in pairs]]


def _written(op: Any, sample: Sample, likes: Any) -> list[Any]:
    """What ought to be in views and bases. The CPU itself crashes at some views, or writes elsewhere: it gets none."""
    x, args, kwargs = _given(sample, CPU)
    outs = [torch.ones_like(one, memory_format=torch.contiguous_format) for one in _items(likes)]
    with torch.no_grad():
        op(x, *args, **kwargs, out=outs[0] if isinstance(likes, torch.Tensor) else tuple(outs))
    return [outs, [torch.stack([one, torch.ones_like(one)], -1) for one in outs]]


_USES: Final[dict[Variant, _Use]] = {
    Variant.FORWARD: _forward,
    Variant.BACKWARD: _backward,
    Variant.IN_PLACE: _in_place,
    Variant.OUT: _out,
}


def _items(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
