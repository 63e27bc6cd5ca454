"""One use of something on torch's CPU and on the device, compared.

Owns what "agrees" means: the same structure, types and shapes, and values as near as `RTOL` and `ATOL` say, or as
near to what torch's CPU computes in float64 as what it computes in the narrower type is, within `_SLACK`. Where
torch's CPU does not repeat a result with another seed, it is random: then types and shapes are compared,
and the values as two samples of one distribution (Kolmogorov and Smirnov). Singular and eigenvectors are compared
but for their signs, which are anybody's choice. Uninitialized memory has no values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch.nn.utils.rnn import PackedSequence
from torch.utils import _pytree as pytree

from polypath.conformance.child import describe
from polypath.torch.conformance.verdicts import Found, Verdict, worst

RTOL: Final = 1e-4
ATOL: Final = 1e-5
_LEAST_CHANCE: Final = 1e-6
"""Two samples that are this unlikely to be of one distribution are not."""
_DRAWS: Final = 1000
_SLACK: Final = 4.0
_NARROW: Final = (torch.float32, torch.complex64, torch.float16, torch.bfloat16)
"""Types of which float64 is an exact reference."""
CPU: Final = torch.device("cpu")


class Disagreement(Exception):
    """The device's results are not the CPU's."""


class NotHere(Exception):
    """This case says nothing about this variant."""


@dataclass(frozen=True)
class Case:
    """One use, which may be repeated."""

    use: Callable[[torch.device], list[Any]]
    """Uses it once, there: all that is to be compared."""
    exact: Callable[[], list[Any]]
    """The same on torch's CPU in float64."""
    label: str = ""
    """What tells it from the other cases of its entry."""
    uninitialized: bool = False
    up_to_sign: bool = False
    by_means: bool = False
    """It draws once for many values, so that only the means of several uses are draws of their own."""


def check(cases: Iterable[Case], device: torch.device, limit: int, on_host: list[str]) -> Found:
    """Compare each case.

    Args:
        limit: the most cases; more are thinned out evenly.
        on_host: gets the name of each operator that runs on the client's CPU.
    """
    on_host.clear()
    found = [_check_one(case, device) for case in thinned(list(cases), limit)]
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


def thinned(cases: list[Any], limit: int) -> list[Any]:
    """At most so many of them, drawn evenly."""
    step = max(len(cases) / limit, 1.0)
    return [cases[int(step * at)] for at in range(min(limit, len(cases)))]


def _check_one(case: Case, device: torch.device) -> Found:
    named = f"{case.label}: " if case.label else ""
    try:
        torch.manual_seed(0)
        expected = case.use(CPU)
    except NotHere as why:
        return Found(Verdict.ABSENT, str(why))
    except Exception as error:
        return Found(Verdict.ABSENT, f"torch's CPU refuses: {describe(type(error), error)}")
    try:
        _compare(case, expected, case.use(device), device)
    except NotHere as why:
        return Found(Verdict.ABSENT, str(why))
    except Disagreement as difference:
        return Found(Verdict.WRONG, f"{named}{difference}")
    except Exception as error:
        return Found(Verdict.RAISES, f"{named}{describe(type(error), error)}")
    return Found(Verdict.AGREE)


# --- What cases are made of -------------------------------------------------------------------


def placed(value: Any, device: torch.device) -> Any:
    """A copy of a sample's tensors there, and in place of the CPU that device."""

    def place(leaf: Any) -> Any:
        if isinstance(leaf, PackedSequence):  # Its sizes stay on the CPU.
            return PackedSequence(
                place(leaf.data), leaf.batch_sizes.clone(), place(leaf.sorted_indices), place(leaf.unsorted_indices)
            )
        if isinstance(leaf, torch.Tensor):
            return leaf.detach().clone().to(device).requires_grad_(leaf.requires_grad)
        if isinstance(leaf, torch.device) or (isinstance(leaf, str) and leaf == "cpu"):
            return device
        return leaf

    return pytree.tree_map(place, value, is_leaf=lambda one: isinstance(one, PackedSequence))


def cast(value: Any, before: torch.dtype, after: torch.dtype) -> Any:
    """A sample with one dtype in place of another."""

    def to(leaf: Any) -> Any:
        if isinstance(leaf, PackedSequence):
            return PackedSequence(to(leaf.data), *leaf[1:])
        if isinstance(leaf, torch.Tensor) and leaf.dtype is before:
            return leaf.detach().to(after).requires_grad_(leaf.requires_grad)
        return after if leaf is before else leaf

    return pytree.tree_map(to, value, is_leaf=lambda one: isinstance(one, PackedSequence))


def tensors(value: Any) -> list[torch.Tensor]:
    """All tensors in a structure."""
    return [one for one in pytree.tree_leaves(value) if isinstance(one, torch.Tensor)]


def gradients(result: Any, inputs: Any, device: torch.device) -> list[torch.Tensor]:
    """The gradients of all in `inputs` that has one, for random gradients of `result`.

    Raises:
        NotHere: nothing has one.
    """
    outputs = [one for one in tensors(result) if one.requires_grad]
    wanted = [one for one in tensors(inputs) if one.requires_grad]
    if not outputs or not wanted:
        raise NotHere("nothing in it has a gradient")
    generator = torch.Generator().manual_seed(1)
    kinds = [torch.complex128 if one.dtype.is_complex else torch.float64 for one in outputs]
    seeds = [
        torch.randn(one.shape, generator=generator, dtype=kind).to(one.dtype).to(device)
        for one, kind in zip(outputs, kinds, strict=True)
    ]
    found: Any = torch.autograd.grad(outputs, wanted, seeds, allow_unused=True)
    # One that is not there is zero.
    return [torch.zeros_like(x) if one is None else one for x, one in zip(wanted, found, strict=True)]


# --- Comparing --------------------------------------------------------------------------------


def _compare(case: Case, expected: list[Any], found: list[Any], device: torch.device) -> None:
    theirs, ours = pytree.tree_leaves(expected), pytree.tree_leaves(found)
    if len(theirs) != len(ours):
        raise Disagreement(f"{len(ours)} results instead of {len(theirs)}")
    for at, (want, got) in enumerate(zip(theirs, ours, strict=True)):
        if isinstance(want, float) and isinstance(got, float) and math.isclose(want, got, rel_tol=RTOL, abs_tol=ATOL):
            continue
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
        if case.uninitialized:
            continue
        difference = _difference(want, got)
        if not difference or (case.up_to_sign and not _difference(want.abs(), got.abs())):
            continue
        if _is_random(case, at, want):
            if not _is_one_distribution(case, at, device):
                raise Disagreement(f"result {at}: random values of another distribution")
        elif not _is_as_exact(case, want, got, at):
            raise Disagreement(f"result {at}: {difference}")


def _difference(want: torch.Tensor, got: torch.Tensor) -> str:
    tolerances: dict[str, Any] = {"rtol": RTOL, "atol": ATOL} if want.dtype in (torch.float32, torch.complex64) else {}
    try:
        torch.testing.assert_close(got.detach().cpu(), want.detach(), equal_nan=True, check_stride=False, **tolerances)
    except AssertionError as error:
        return " ".join(str(error).split())
    return ""


def _is_as_exact(case: Case, want: torch.Tensor, got: torch.Tensor, at: int) -> bool:
    if want.dtype not in _NARROW:
        return False
    try:
        reference: torch.Tensor = pytree.tree_leaves(case.exact())[at]
    except Exception:
        return False  # It has no float64.
    theirs, ours = ((one.detach().cpu() - reference).abs() for one in (want, got))
    allowed = max(_SLACK * theirs.max().item(), ATOL)
    return bool((ours <= allowed).all()) and ours.shape == theirs.shape


def _is_random(case: Case, at: int, want: torch.Tensor) -> bool:
    for seed in range(1, 5):
        torch.manual_seed(seed)
        if _difference(want, pytree.tree_leaves(case.use(CPU))[at]):
            return True
    return False


def _is_one_distribution(case: Case, at: int, device: torch.device) -> bool:
    from scipy import stats

    drawn: list[np.ndarray[Any, Any]] = []
    for place in (CPU, device):
        values: list[np.ndarray[Any, Any]] = []
        for seed in range(20):
            torch.manual_seed(seed)
            one: torch.Tensor = pytree.tree_leaves(case.use(place))[at]
            flat = one.detach().cpu().abs().double().reshape(-1).numpy()
            values.append(flat.mean(keepdims=True) if case.by_means else flat)
            if sum(one.size for one in values) >= _DRAWS:
                break
        drawn.append(np.concatenate(values))
    if not drawn[0].size:
        return True
    test: Any = stats.ks_2samp(drawn[0], drawn[1])
    return bool(test.pvalue > _LEAST_CHANCE)
