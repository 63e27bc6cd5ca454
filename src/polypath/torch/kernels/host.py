"""Operators that run on torch's CPU in the client, and what the device refuses for good."""

from __future__ import annotations

import functools
import warnings
from typing import Any, Final

import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from polypath.torch.buffers import NAME, tensor_of
from polypath.torch.errors import TorchError
from polypath.torch.kernels.rules import is_written
from polypath.torch.kernels.transfers import copy_, download, upload


class HostWarning(UserWarning):
    """An operator ran on the client's CPU."""


_told: Final[set[str]] = set()


def tell(op: OpOverload) -> None:
    """Say once for an operator that it runs here, and what that costs."""
    if op.name() not in _told:
        _told.add(op.name())
        warnings.warn(
            f"{op} has no lowering to XLA and runs on the client's CPU: its arguments are fetched from the cluster "
            "and its results put back at each call.",
            HostWarning,
            stacklevel=3,
        )


def on_host(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do an operator on torch's CPU in this process."""
    here = pytree.tree_map(functools.partial(_fetched, op), (args, kwargs))
    if op._schema.is_mutable:  # What was fetched is memory that nobody may write to or resize.
        here = pytree.tree_map(lambda one: one.clone() if isinstance(one, torch.Tensor) else one, here)
    results = op(*here[0], **here[1])
    names = [argument.name for argument in op._schema.arguments]
    given = dict(zip(names, args, strict=False)) | kwargs
    fetched = dict(zip(names, here[0], strict=False)) | here[1]
    for argument in op._schema.arguments:
        if is_written(argument):
            there, source_of = given[argument.name], fetched[argument.name]
            for target, source in zip(pytree.tree_leaves(there), pytree.tree_leaves(source_of), strict=True):
                if isinstance(target, torch.Tensor) and target.device.type == NAME:
                    if target.shape != source.shape:
                        target.resize_(source.shape)
                    copy_(target, source)
    if op._schema.is_mutable:
        by_id = {
            id(source): target
            for target, source in zip(pytree.tree_leaves((args, kwargs)), pytree.tree_leaves(here), strict=True)
            if isinstance(source, torch.Tensor)
        }
        return pytree.tree_map(lambda one: by_id.get(id(one), _placed(one)), results)
    return pytree.tree_map(_placed, results)


def _fetched(op: OpOverload, leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.device.type == NAME:
        return download(leaf, op)
    if isinstance(leaf, torch.device) and leaf.type == NAME:
        return torch.device("cpu")
    return leaf


def _placed(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.layout is not torch.strided:
        raise TorchError("The cluster's device has no sparse tensors; make this one on the CPU.")
    if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
        return tensor_of(upload(leaf), leaf.dtype)
    return leaf


def refuse_sparse(op: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Say that the device has no sparse tensors.

    Raises:
        TorchError: always.
    """
    raise TorchError(
        f"{op} is of a sparse tensor, and the cluster's device has none; use dense ones (.to_dense()), or do that on "
        "the CPU."
    )
