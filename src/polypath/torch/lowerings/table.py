"""The table of lowerings: which function on jax arrays stands for which operator of torch.

A lowering takes the operator's own arguments with arrays in place of tensors (a `dtype` is
a `torch.dtype`), sees logical shapes only, and returns arrays alike. Those of `random` take a key first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import torch

Lowering = Callable[..., Any]
_F = TypeVar("_F", bound=Lowering)

LOWERINGS: Final[dict[torch._ops.OpOverload, Lowering]] = {}
RANDOM: Final[set[torch._ops.OpOverload]] = set()
"""Those whose lowering takes a key first."""
STRIDED: Final[set[torch._ops.OpOverload]] = set()
"""Those whose lowering takes the strides of its first array, as `strides=`."""
aten: Any = torch.ops.aten


def if_known(name: str) -> list[Any]:
    """The operator of that name, if this version of torch has it."""
    return [getattr(aten, name)] if hasattr(aten, name) else []


def lowers(*operators: Any) -> Callable[[_F], _F]:
    """The function below lowers these operators; a packet means its functional overloads."""

    def register(function: _F) -> _F:
        for operator in operators:
            for overload in _functional(operator):
                LOWERINGS[overload] = function
        return function

    return register


def reads_strides(*operators: Any) -> Callable[[_F], _F]:
    """As `lowers`; what torch computes depends on how the first argument lies in memory."""

    def register(function: _F) -> _F:
        for operator in operators:
            STRIDED.update(_functional(operator))
        return lowers(*operators)(function)

    return register


def draws(*operators: Any) -> Callable[[_F], _F]:
    """As `lowers`; the function's first argument is a key of random numbers."""

    def register(function: _F) -> _F:
        for operator in operators:
            RANDOM.update(_functional(operator))
        return lowers(*operators)(function)

    return register


def _functional(operator: Any) -> list[torch._ops.OpOverload]:
    if isinstance(operator, torch._ops.OpOverload):
        return [operator]
    overloads: list[torch._ops.OpOverload] = [getattr(operator, name) for name in operator.overloads()]
    chosen = [one for one in overloads if is_functional(one)]
    if not chosen:
        raise ValueError(f"{operator} has no functional overload, so there is nothing to lower.")
    return chosen


def is_functional(operator: torch._ops.OpOverload) -> bool:
    """Whether it writes to none of its arguments and takes tensors or plain values (not names of dimensions)."""
    schema = operator._schema
    if schema.is_mutable:
        return False
    return not any("Dimname" in str(argument.type) for argument in schema.arguments)
