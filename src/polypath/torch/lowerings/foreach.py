"""Operators on lists of tensors, with which optimizers change all parameters at once: one by one, which XLA joins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import torch

from polypath.torch.dtypes import jax_dtype
from polypath.torch.lowerings import arithmetic, comparisons, creation, unary
from polypath.torch.lowerings.table import LOWERINGS, Lowering, aten, is_functional, lowers

_SINGLE: Final = (arithmetic, comparisons, creation, unary)
"""What fills the table with the operators of one tensor, before those of lists are made of them."""

_NAMES: Final = """
    abs acos add addcdiv addcmul asin atan ceil clamp_max clamp_min clone copy cos cosh div erf erfc exp expm1
    floor frac lerp lgamma log log10 log1p log2 max maximum minimum mul neg norm pow reciprocal round rsqrt
    sigmoid sign sin sinh sqrt sub tan tanh trunc
""".split()  # noqa: SIM905


def _lower(overload: torch._ops.OpOverload, single: torch._ops.OpOverload) -> Lowering:
    lowering = LOWERINGS[single]
    lists = {argument.name for argument in overload._schema.arguments if "List" in str(argument.type)}
    names = [argument.name for argument in overload._schema.arguments]

    def lowered(*args: Any, **kwargs: Any) -> list[Any]:
        given = dict(zip(names, args, strict=False)) | kwargs
        count = len(next(given[name] for name in names if name in lists))
        return [_one(lowering, single, given, lists, i) for i in range(count)]

    return lowered


def _one(lowering: Lowering, single: torch._ops.OpOverload, given: dict[str, Any], lists: set[str], index: int) -> Any:
    values = [value[index] if name in lists else value for name, value in given.items()]
    schema = single._schema.arguments
    args = [value for argument, value in zip(schema, values, strict=False) if not argument.kwarg_only]
    kwargs = {argument.name: value for argument, value in zip(schema, values, strict=False) if argument.kwarg_only}
    return lowering(*args, **kwargs)


def _single_of(name: str, overload: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """The operator on single tensors with arguments of the same kinds, that has a lowering."""
    wanted = [_kind(str(argument.type)) for argument in overload._schema.arguments]
    packet: Any = getattr(aten, name, None)
    for each in () if packet is None else packet.overloads():
        single = getattr(packet, each)
        kinds = [_kind(str(argument.type)) for argument in single._schema.arguments]
        if single in LOWERINGS and kinds[: len(wanted)] == wanted and _optional(single, len(wanted)):
            return single
    return None


def _optional(single: torch._ops.OpOverload, count: int) -> bool:
    return all(argument.has_default_value() for argument in single._schema.arguments[count:])


def _kind(type_: str) -> str:
    for many in ("List", "Optional"):
        type_ = type_.replace(f"{many}[Tensor]", "Tensor").replace(f"{many}[number]", "number")
    return type_


for _name in _NAMES:
    _packet: Any = getattr(aten, f"_foreach_{_name}", None)
    for _each in () if _packet is None else _packet.overloads():
        _overload = getattr(_packet, _each)
        if is_functional(_overload) and (_found := _single_of(_name, _overload)) is not None:
            LOWERINGS[_overload] = _lower(_overload, _found)


@lowers(aten._foreach_norm)
def norm(tensors: Sequence[jax.Array], ord: Any = 2, dtype: torch.dtype | None = None) -> list[jax.Array]:  # noqa: A002
    single = LOWERINGS[aten.linalg_vector_norm.default]
    return [single(x, ord, None, False, dtype=dtype) for x in tensors]


@lowers(aten._foreach_powsum)
def powsum(tensors: Sequence[jax.Array], ord: Any = 2, dtype: torch.dtype | None = None) -> list[jax.Array]:  # noqa: A002
    return [jnp.sum(jnp.abs(x if dtype is None else x.astype(jax_dtype(dtype))) ** ord) for x in tensors]


@lowers(aten._foreach_max)
def most(tensors: Sequence[jax.Array]) -> list[jax.Array]:
    return [jnp.max(x) for x in tensors]


@lowers(aten._foreach_maximum.Scalar, aten._foreach_maximum.ScalarList)
def maximum(tensors: Sequence[jax.Array], scalars: Any) -> list[jax.Array]:
    return [LOWERINGS[aten.clamp_min.default](x, scalar) for x, scalar in _beside(tensors, scalars)]


@lowers(aten._foreach_minimum.Scalar, aten._foreach_minimum.ScalarList)
def minimum(tensors: Sequence[jax.Array], scalars: Any) -> list[jax.Array]:
    return [LOWERINGS[aten.clamp_max.default](x, scalar) for x, scalar in _beside(tensors, scalars)]


@lowers(aten._foreach_mm)
def mm(tensors: Sequence[jax.Array], others: Sequence[jax.Array]) -> list[jax.Array]:
    return [LOWERINGS[aten.mm.default](x, other) for x, other in zip(tensors, others, strict=True)]


@lowers(aten._foreach_addcmul.Tensor)
def addcmul(
    tensors: Sequence[jax.Array], ones: Sequence[jax.Array], twos: Sequence[jax.Array], scalars: jax.Array
) -> list[jax.Array]:
    single = LOWERINGS[aten.addcmul.default]
    return [single(x, a, b, value=scalars[i]) for i, (x, a, b) in enumerate(zip(tensors, ones, twos, strict=True))]


@lowers(aten._foreach_addcdiv.Tensor)
def addcdiv(
    tensors: Sequence[jax.Array], ones: Sequence[jax.Array], twos: Sequence[jax.Array], scalars: jax.Array
) -> list[jax.Array]:
    single = LOWERINGS[aten.addcdiv.default]
    return [single(x, a, b, value=scalars[i]) for i, (x, a, b) in enumerate(zip(tensors, ones, twos, strict=True))]


def _beside(tensors: Sequence[jax.Array], scalars: Any) -> Iterator[tuple[jax.Array, Any]]:
    yield from zip(tensors, scalars if isinstance(scalars, list | tuple) else [scalars] * len(tensors), strict=True)
