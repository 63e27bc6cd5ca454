"""torch's own decompositions of the operators that have no lowering."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import torch
import torch._decomp
import torch._prims

from polypath.torch.lowerings import encoder
from polypath.torch.lowerings.table import LOWERINGS

_WRONG: Final[frozenset[Any]] = frozenset()
"""Decompositions that give something else than torch's own kernel."""


@functools.cache
def decompositions() -> dict[torch._ops.OpOverload, Callable[..., Any]]:
    """By operator, for all that have no lowering: what AOTAutograd takes, and the kernels run."""
    every = {**torch._decomp.decomposition_table, **torch._decomp.core_aten_decompositions()}
    table = {
        operator: function
        for operator, function in every.items()
        if isinstance(operator, torch._ops.OpOverload) and operator not in LOWERINGS and operator not in _WRONG
    }
    table.update(_primitives())
    for operator in _BATCH_NORMS:
        table[operator] = functools.partial(_batch_norm, operator)
    table[torch.ops.aten._native_multi_head_attention.default] = encoder.native_multi_head_attention
    table[torch.ops.aten._transformer_encoder_layer_fwd.default] = encoder.transformer_encoder_layer_fwd
    return table


_BATCH_NORMS: Final[tuple[Any, ...]] = (
    torch.ops.aten.native_batch_norm.default,
    torch.ops.aten._native_batch_norm_legit.default,
    torch.ops.aten._native_batch_norm_legit_functional.default,
)


def _batch_norm(operator: torch._ops.OpOverload, *args: Any) -> tuple[torch.Tensor, ...]:
    """As on the CPU, it saves nothing for the backward pass of what is not training."""
    result, mean, rstd, *statistics = torch._decomp.decomposition_table[operator](*args)
    training = args[5]
    saved = (mean, rstd) if training else (result.new_empty(0), result.new_empty(0))
    return (result, *saved, *statistics)


def _primitives() -> dict[torch._ops.OpOverload, Callable[..., Any]]:
    """torch's references end in operators of `prims`, each of which says what it is in `aten`."""
    prims: Any = torch.ops.prims
    found: dict[torch._ops.OpOverload, Callable[..., Any]] = {}
    for name in torch._prims.__all__:
        operator = getattr(getattr(prims, name, None), "default", None)
        if isinstance(operator, torch._ops.OpOverload) and operator not in LOWERINGS and hasattr(operator, "impl_aten"):
            found[operator] = getattr(operator, "impl_aten")  # noqa: B009 - torch sets it afterwards.
    return found
