"""Operators of the user's own (`torch.library`), on the devices."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

import torch
from torch._library.custom_ops import CustomOpDef
from torch._ops import OpOverload, OpOverloadPacket

from polypath.torch.errors import TorchError
from polypath.torch.kernels import dispatch
from polypath.torch.lowerings.table import LOWERINGS, is_functional

_libraries: Final[dict[str, torch.library.Library]] = {}
"""By namespace."""


def register_lowering(op: Any, lowering: Callable[..., Any]) -> None:
    """Have an operator of your own computed by the cluster's devices, alone and in compiled functions.

    Without a lowering, an operator that is written in Python runs as it is written, on tensors of the device, and is
    refused within `torch.compile`.

        @torch.library.custom_op("mine::scale", mutates_args=())
        def scale(x: torch.Tensor, by: float) -> torch.Tensor: ...

        polypath.torch.register_lowering(scale, lambda x, by: x * by)

    Args:
        op: what `torch.library.custom_op` returned, `torch.ops.mine.scale`, or one overload of it.
        lowering: takes the operator's own arguments with JAX arrays in place of tensors, and returns arrays likewise
            (a tuple for several). It is traced by `jax.jit`, so it must be pure, and its results must have the shapes
            that the operator's fake implementation gives; they are cast to its dtypes.

    Raises:
        TorchError: `op` is none of these, one of torch's own, or writes to its arguments.
    """
    overload = _overload(op)
    if overload.namespace in ("aten", "prims"):
        raise TorchError(f"{overload} is torch's own operator, which Polypath lowers; register operators of your own.")
    if not is_functional(overload):
        raise TorchError(
            f"{overload} writes to its arguments, which no lowering can do; register an operator that returns the new "
            "values, and copy them with copy_() outside."
        )
    known = overload in LOWERINGS
    LOWERINGS[overload] = lowering
    if not known:
        library = _libraries.setdefault(overload.namespace, torch.library.Library(overload.namespace, "FRAGMENT"))
        kernel = functools.partial(torch.compiler.disable(dispatch.call), overload)
        library.impl(overload.name(), kernel, "PrivateUse1")


def _overload(op: Any) -> OpOverload:
    if isinstance(op, CustomOpDef):
        return op._opoverload
    if isinstance(op, OpOverloadPacket) and op.overloads() == ["default"]:
        return op.default
    if isinstance(op, OpOverload):
        return op
    raise TorchError(
        f"{op!r} is no operator with one overload; give what torch.library.custom_op returned, or an overload such as "
        "torch.ops.mine.scale.default."
    )
