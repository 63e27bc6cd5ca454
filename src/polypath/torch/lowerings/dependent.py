"""Operators whose result cannot be computed on the devices before values are known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from polypath.torch.lowerings.indexing import has_mask
from polypath.torch.lowerings.table import aten, is_functional

_NAMES: Final = (
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "allclose",
    "argwhere",
    "bincount",
    "combinations",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "nonzero_numpy",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
    "unique_dim_consecutive",
)
_STATIC: Final = {aten.repeat_interleave.self_int}

DATA_DEPENDENT: Final[frozenset[torch._ops.OpOverload]] = frozenset(
    getattr(getattr(aten, name), overload)
    for name in _NAMES
    for overload in getattr(aten, name).overloads()
    if is_functional(getattr(getattr(aten, name), overload))
) - frozenset(_STATIC)
"""Always; a shape or a Python value is what comes out."""


def is_data_dependent(operator: torch._ops.OpOverload, arguments: Sequence[Any] = ()) -> bool:
    """Whether it is, with these arguments: indexing is where an index is a mask."""
    if operator in DATA_DEPENDENT:
        return True
    return operator is aten.index.Tensor and len(arguments) > 1 and has_mask(arguments[1])
