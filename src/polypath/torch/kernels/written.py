"""Operators that write, in place or to `out=`: what only computes the same, and then a write."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable
from typing import Any, Final

import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from polypath.torch.buffers import NAME
from polypath.torch.errors import TorchError
from polypath.torch.kernels.rules import is_written, meta_like
from polypath.torch.kernels.transfers import copy_

aten: Final = torch.ops.aten

_functionals: Final[dict[OpOverload, OpOverload | None]] = {}


def functional_of(op: OpOverload) -> OpOverload | None:
    """The operator that computes what `op` writes; None if there is none."""
    if op not in _functionals:
        _functionals[op] = _find_functional(op)
    return _functionals[op]


def _find_functional(op: OpOverload) -> OpOverload | None:
    name = op._schema.name.removeprefix("aten::")
    arguments = op._schema.arguments
    wanted = [
        (arg.name, str(arg.type)) for arg in arguments if not (arg.is_out or (arg.kwarg_only and is_written(arg)))
    ]
    # (With `out=` besides, what is written comes in another order.)
    names = (name,) if any(arg.is_out for arg in arguments) else (name, name + "_functional")
    for candidate in (name[:-1], name + "_functional") if name.endswith("_") else names:
        packet = getattr(aten, candidate.replace("__functional", "_functional"), None)
        if packet is None:
            continue
        for overload in packet.overloads():
            found = getattr(packet, overload)
            if found._schema.is_mutable:
                continue
            if [(arg.name, str(arg.type)) for arg in found._schema.arguments] == wanted:
                return found
    return None


def written(op: OpOverload, functional: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Compute, then put the results into the arguments that are written."""
    schema = op._schema.arguments
    given = {arg.name: value for arg, value in zip(schema, args, strict=False)} | kwargs
    outs = [arg for arg in schema if is_written(arg)]
    is_out = [arg for arg in outs if arg.kwarg_only]
    if not is_out:
        _check_writes(op, args, kwargs)
    kept = {arg.name for arg in is_out}
    plain_args = [value for arg, value in zip(schema, args, strict=False) if arg.name not in kept]
    missing = {  # What one may leave out of `op` need not have a default in the other.
        arg.name: arg.default_value
        for arg in schema[len(args) :]
        if arg.name not in kwargs and arg.has_default_value() and not arg.is_out
    }
    results = functional(*plain_args, **missing, **{name: value for name, value in kwargs.items() if name not in kept})
    targets = pytree.tree_leaves([given[arg.name] for arg in outs])
    sources = pytree.tree_leaves(results)
    if len(sources) > len(targets):  # Those that are not written come first, and are results of their own.
        fresh, sources = sources[: len(sources) - len(targets)], sources[len(sources) - len(targets) :]
    else:
        fresh = []
    for target, source in zip(targets, sources, strict=True):
        if target is not None:
            _put(op, target, source, resize=bool(is_out))
    if not op._schema.returns:
        return None
    if fresh:
        return fresh[0] if len(op._schema.returns) == 1 else tuple(fresh)
    changed = [given[arg.name] for arg in outs]
    return changed[0] if len(op._schema.returns) == 1 else tuple(changed)


def _check_writes(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Have torch's own rules refuse what cannot be done in place."""
    key = (op, *(_kind(leaf) for leaf in pytree.tree_leaves((args, kwargs))))
    if key in _checked:
        return
    fake_args, fake_kwargs = pytree.tree_map(meta_like, (args, kwargs))
    with contextlib.suppress(NotImplementedError):  # Where there is no rule, the write itself is checked.
        op(*fake_args, **fake_kwargs)
    _checked.add(key)


_checked: Final[set[Hashable]] = set()


def _kind(leaf: Any) -> Hashable:
    if isinstance(leaf, torch.Tensor):
        return (tuple(leaf.shape), leaf.stride(), leaf.dtype, leaf.device.type)
    return type(leaf)


def _put(op: OpOverload, target: torch.Tensor, source: torch.Tensor, *, resize: bool) -> None:
    if target.device.type != NAME:
        raise TorchError(
            f"{op} is to write to a tensor on {target.device} what was computed on the cluster; give it one there."
        )
    if resize and target.shape != source.shape:
        target.resize_(source.shape)
    if resize and not torch.can_cast(source.dtype, target.dtype):
        raise RuntimeError(
            f"result type {source.dtype} can't be cast to the desired output type {target.dtype} (of {op})"
        )
    copy_(target, source)
