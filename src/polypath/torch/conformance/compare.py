"""One operator of torch's test database, in one variant: torch's CPU beside the device.

Owns what "agrees" means: the same structure, types and shapes, and values as near as `RTOL` and `ATOL` say, or as
near to what torch's CPU computes in float64 as what it computes in float32 is, within `_SLACK`. An operator
whose results torch's CPU does not repeat with another seed is random: then types and shapes are compared,
and the values as two samples of one distribution (Kolmogorov and Smirnov). Singular and eigenvectors are compared
but for their signs, which are anybody's choice. Uninitialized memory has no values.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
import torch
from torch.utils import _pytree as pytree

from polypath.conformance.child import describe
from polypath.torch.conformance.verdicts import Found, Variant, Verdict, worst

RTOL: Final = 1e-4
ATOL: Final = 1e-5
_LEAST_CHANCE: Final = 1e-6
"""Two samples that are this unlikely to be of one distribution are not."""
_DRAWS: Final = 1000
_UNINITIALIZED: Final = ("empty", "new_empty", "resize_")
_UP_TO_SIGN: Final = frozenset(
    ("svd", "linalg.svd", "svd_lowrank", "pca_lowrank", "linalg.eigh", "linalg.eig", "symeig")
)
_BY_CHANNEL: Final = ("dropout2d", "dropout3d", "feature_")
"""They draw once for many values, so that only the means of several uses are draws of their own."""
_SLACK: Final = 4.0

Sample = Any
"""torch's `SampleInput`."""
_Use = Callable[[Any, Sample, torch.device], list[Any]]
_Once = Callable[[torch.device], list[Any]]
"""Uses an operator once, there: all that is to be compared."""


class Disagreement(Exception):
    """The device's results are not the CPU's."""


class NotHere(Exception):
    """This sample says nothing about this variant."""


def check(op: Any, variant: Variant, device: torch.device, limit: int, on_host: list[str]) -> Found:
    """Use the operator with its samples.

    Args:
        limit: the most samples; more are thinned out evenly.
        on_host: gets the name of each operator that runs on the client's CPU.
    """
    if torch.float32 not in op.dtypes:
        return Found(Verdict.ABSENT, "it takes no float32")
    if not _has(op, variant):
        return Found(Verdict.ABSENT, "there is no such variant")
    samples = _thinned(list(_samples(op, variant is Variant.BACKWARD)), limit)
    on_host.clear()
    found = [_check_one(op, variant, sample, device) for sample in samples]
    used = [one for one in found if one.verdict is not Verdict.ABSENT]
    if not used:
        return Found(Verdict.ABSENT, found[0].reason if found else "there are no samples")
    decisive = worst(used)
    if decisive.verdict is Verdict.AGREE and on_host:
        return Found(Verdict.HOST, ", ".join(sorted(set(on_host))))
    if decisive.verdict is Verdict.AGREE:
        return decisive
    same = sum(one.verdict is decisive.verdict for one in used)
    return Found(decisive.verdict, f"{same} of {len(used)} samples: {decisive.reason}")


def _samples(op: Any, requires_grad: bool) -> Iterator[Sample]:
    torch.manual_seed(0)
    return op.sample_inputs("cpu", torch.float32, requires_grad=requires_grad)


def _thinned(samples: list[Sample], limit: int) -> list[Sample]:
    step = max(len(samples) / limit, 1.0)
    return [samples[int(step * at)] for at in range(min(limit, len(samples)))]


def _has(op: Any, variant: Variant) -> bool:
    return {
        Variant.FORWARD: True,
        Variant.BACKWARD: op.supports_autograd,
        Variant.IN_PLACE: op.inplace_variant is not None,
        Variant.OUT: op.supports_out,
    }[variant]


def _check_one(op: Any, variant: Variant, sample: Sample, device: torch.device) -> Found:
    use = functools.partial(_USES[variant], op, sample)
    try:
        torch.manual_seed(0)
        expected = use(torch.device("cpu"))
    except NotHere as why:
        return Found(Verdict.ABSENT, str(why))
    except Exception as error:
        return Found(Verdict.ABSENT, f"torch's CPU refuses: {describe(type(error), error)}")
    if not _tensors((sample.input, sample.args, sample.kwargs)):  # It makes one out of nothing.
        use = functools.partial(_with_default, use)
    try:
        exact = functools.partial(_USES[variant], op, _in_float64(sample))
        _compare(op, expected, use(device), use, exact, device)
    except Disagreement as difference:
        return Found(Verdict.WRONG, str(difference))
    except Exception as error:
        return Found(Verdict.RAISES, describe(type(error), error))
    return Found(Verdict.AGREE)


# --- Using an operator ------------------------------------------------------------------------


def _placed(value: Any, device: torch.device) -> Any:
    def place(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor):
            return leaf.detach().clone().to(device).requires_grad_(leaf.requires_grad)
        if isinstance(leaf, torch.device) or (isinstance(leaf, str) and leaf == "cpu"):
            return device
        return leaf

    return pytree.tree_map(place, value)


def _with_default(use: _Once, device: torch.device) -> list[Any]:
    with device:
        return use(device)


def _given(sample: Sample, device: torch.device) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    return _placed((sample.input, tuple(sample.args), dict(sample.kwargs)), device)


def _forward(op: Any, sample: Sample, device: torch.device) -> list[Any]:
    x, args, kwargs = _given(sample, device)
    return [op(x, *args, **kwargs)]


def _backward(op: Any, sample: Sample, device: torch.device) -> list[Any]:
    given = _given(sample, device)
    x, args, kwargs = given
    result = op(x, *args, **kwargs)
    differentiable = sample.output_process_fn_grad(result) if sample.output_process_fn_grad else result
    outputs = [one for one in _tensors(differentiable) if one.requires_grad]
    inputs = [one for one in _tensors(given) if one.requires_grad]
    if not outputs or not inputs:
        raise NotHere("nothing in it has a gradient")
    generator = torch.Generator().manual_seed(1)
    seeds = [torch.randn(one.shape, generator=generator, dtype=one.dtype).to(device) for one in outputs]
    gradients: Any = torch.autograd.grad(outputs, inputs, seeds, allow_unused=True)
    # One that is not there is zero.
    return [torch.zeros_like(x) if one is None else one for x, one in zip(inputs, gradients, strict=True)]


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
    given = _given(sample, torch.device("cpu"))
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
    x, args, kwargs = _given(sample, torch.device("cpu"))
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


def _tensors(value: Any) -> list[torch.Tensor]:
    return [one for one in pytree.tree_leaves(value) if isinstance(one, torch.Tensor)]


# --- Comparing --------------------------------------------------------------------------------


def _compare(
    op: Any, expected: list[Any], found: list[Any], use: _Once, exact: Callable[[torch.device], Any], device: Any
) -> None:
    theirs, ours = pytree.tree_leaves(expected), pytree.tree_leaves(found)
    if len(theirs) != len(ours):
        raise Disagreement(f"{len(ours)} results instead of {len(theirs)}")
    for at, (want, got) in enumerate(zip(theirs, ours, strict=True)):
        if not isinstance(want, torch.Tensor) or not isinstance(got, torch.Tensor):
            if type(want) is not type(got) or want != got:
                raise Disagreement(f"result {at} is {got!r} instead of {want!r}")
            continue
        if (want.dtype, want.shape) != (got.dtype, got.shape):
            raise Disagreement(
                f"result {at} is {got.dtype} of shape {list(got.shape)} instead of {want.dtype} of {list(want.shape)}"
            )
        if got.device.type != device.type:
            raise Disagreement(f"result {at} is on {got.device}")
        if op.name.startswith(_UNINITIALIZED):
            continue
        difference = _difference(want, got)
        if not difference or (op.name in _UP_TO_SIGN and not _difference(want.abs(), got.abs())):
            continue
        if _is_random(use, at, want):
            if not _is_one_distribution(use, at, device, any(name in op.name for name in _BY_CHANNEL)):
                raise Disagreement(f"result {at}: random values of another distribution")
        elif not _is_as_exact(want, got, exact, at):
            raise Disagreement(f"result {at}: {difference}")


def _difference(want: torch.Tensor, got: torch.Tensor) -> str:
    tolerances: dict[str, Any] = {"rtol": RTOL, "atol": ATOL} if want.dtype in (torch.float32, torch.complex64) else {}
    try:
        torch.testing.assert_close(got.detach().cpu(), want.detach(), equal_nan=True, check_stride=False, **tolerances)
    except AssertionError as error:
        return " ".join(str(error).split())
    return ""


def _in_float64(sample: Sample) -> Sample:
    def wider(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor) and leaf.dtype is torch.float32:
            return leaf.detach().double().requires_grad_(leaf.requires_grad)
        return torch.float64 if leaf is torch.float32 else leaf

    return sample.transform(wider)


def _is_as_exact(want: torch.Tensor, got: torch.Tensor, exact: Callable[[torch.device], Any], at: int) -> bool:
    if want.dtype not in (torch.float32, torch.complex64):
        return False
    try:
        reference: torch.Tensor = pytree.tree_leaves(exact(torch.device("cpu")))[at]
    except Exception:
        return False  # It has no float64.
    theirs, ours = ((one.detach().cpu() - reference).abs() for one in (want, got))
    allowed = max(_SLACK * theirs.max().item(), ATOL)
    return bool((ours <= allowed).all()) and ours.shape == theirs.shape


def _is_random(use: _Once, at: int, want: torch.Tensor) -> bool:
    for seed in range(1, 5):
        torch.manual_seed(seed)
        again = pytree.tree_leaves(use(torch.device("cpu")))[at]
        if _difference(want, again):
            return True
    return False


def _is_one_distribution(use: _Once, at: int, device: torch.device, by_means: bool) -> bool:
    from scipy import stats

    drawn: list[np.ndarray[Any, Any]] = []
    for place in (torch.device("cpu"), device):
        values: list[np.ndarray[Any, Any]] = []
        for seed in range(20):
            torch.manual_seed(seed)
            one: torch.Tensor = pytree.tree_leaves(use(place))[at]
            flat = one.detach().cpu().abs().double().reshape(-1).numpy()
            values.append(flat.mean(keepdims=True) if by_means else flat)
            if sum(one.size for one in values) >= _DRAWS:
                break
        drawn.append(np.concatenate(values))
    if not drawn[0].size:
        return True
    test: Any = stats.ks_2samp(drawn[0], drawn[1])
    return bool(test.pvalue > _LEAST_CHANCE)
