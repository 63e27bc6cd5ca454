"""What stands for torch's operators on the devices: functions on jax arrays that `jax.jit` can trace.

An operator either has a lowering, or a decomposition of torch's into operators that have, or its
result's shape depends on data; else it cannot run on the devices. Decides nothing about devices, memory or views.
"""

from __future__ import annotations

from typing import Final

import torch

from polypath.torch.dtypes import jax_dtype as dtype
from polypath.torch.lowerings import (
    arithmetic,
    bessel,
    comparisons,
    creation,
    experts,
    foreach,
    fused,
    images,
    indexing,
    joins,
    linalg,
    losses,
    matmul,
    nn,
    random,
    recurrent,
    reductions,
    special,
    unary,
    views,
)
from polypath.torch.lowerings.decomposed import decompositions
from polypath.torch.lowerings.dependent import DATA_DEPENDENT, is_data_dependent
from polypath.torch.lowerings.table import LOWERINGS, RANDOM, STRIDED, Lowering

__all__ = ["DATA_DEPENDENT", "decompositions", "dtype", "find", "is_data_dependent", "is_random", "takes_strides"]


_TABLES: Final = (
    arithmetic,
    bessel,
    comparisons,
    creation,
    foreach,
    fused,
    images,
    indexing,
    joins,
    linalg,
    losses,
    matmul,
    nn,
    random,
    recurrent,
    reductions,
    special,
    unary,
    views,
)
"""Each of these modules fills the table."""


def find(operator: torch._ops.OpOverload) -> Lowering | None:
    """The lowering of a functional overload."""
    return LOWERINGS.get(operator) or experts.find(operator)


def is_random(operator: torch._ops.OpOverload) -> bool:
    """Whether the lowering takes a key of random numbers first."""
    return operator in RANDOM


def takes_strides(operator: torch._ops.OpOverload) -> bool:
    """Whether the lowering is to be told the strides of its first array (in elements), as `strides=`."""
    return operator in STRIDED
