"""What torch says of an operator: what it writes, what is a view, and what its results are like."""

from __future__ import annotations

import functools
from typing import Any, Final, NamedTuple

import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

aten: Final = torch.ops.aten


class Meta(NamedTuple):
    """What torch says that a result is like."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    strides: tuple[int, ...]


def metas_of(
    op: OpOverload, leaves: list[Any], spec: pytree.TreeSpec
) -> tuple[list[Meta | None], pytree.TreeSpec] | None:
    """What torch's own rules say of the results: shapes, dtypes, strides. None where it has no rule."""
    if op in _RULES_OF_CUDA:
        return None
    fake = [meta_like(leaf) for leaf in leaves]
    args, kwargs = pytree.tree_unflatten(fake, spec)
    if any(arg.name == "device" for arg in op._schema.arguments):
        kwargs["device"] = torch.device("meta")
    try:
        result = op(*args, **kwargs)
    except NotImplementedError:
        return None
    flat, out_spec = pytree.tree_flatten(result)
    return [None if one is None else Meta(tuple(one.shape), one.dtype, one.stride()) for one in flat], out_spec


def meta_like(leaf: Any) -> Any:
    """An argument without data, for torch's rules."""
    if isinstance(leaf, torch.Tensor):
        if leaf.dim() == 0 and leaf.device.type == "cpu":
            return leaf  # Promotes, and mixes, as a number does.
        return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device="meta")
    return torch.device("meta") if isinstance(leaf, torch.device) else leaf


@functools.cache
def is_view(op: OpOverload) -> bool:
    """Whether a result is an argument seen otherwise."""
    return any(one.alias_info is not None and not one.alias_info.is_write for one in op._schema.returns)


def is_written(argument: torch._C.Argument) -> bool:
    """Whether an operator changes what it is given there."""
    return argument.alias_info is not None and argument.alias_info.is_write


_RULES_OF_CUDA: Final = frozenset({aten._grouped_mm.default})
"""Those for which torch's rules are those of its kernels for CUDA, which refuse what its CPU takes."""
