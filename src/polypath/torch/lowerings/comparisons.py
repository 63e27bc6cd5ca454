"""Operators that compare and choose: comparisons, logic, bits, bounds, masks."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import Operand, cast, is_inexact, promoted, result_type


def _compare(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def lowering(x: Operand, y: Operand) -> jax.Array:
        return function(*_comparable(x, y))

    return lowering


def _comparable(x: Operand, y: Operand) -> list[jax.Array]:
    return promoted(x, y)


for _operator, _function in {
    aten.eq: jnp.equal,
    aten.ne: jnp.not_equal,
    aten.lt: jnp.less,
    aten.le: jnp.less_equal,
    aten.gt: jnp.greater,
    aten.ge: jnp.greater_equal,
}.items():
    lowers(_operator.Tensor, _operator.Scalar)(_compare(_function))


def _logical(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda x, y: function(x != 0, y != 0)


lowers(aten.logical_and)(_logical(jnp.logical_and))
lowers(aten.logical_or)(_logical(jnp.logical_or))
lowers(aten.logical_xor)(_logical(jnp.logical_xor))


def _bits(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    return lambda x, y: function(*promoted(x, y))


lowers(aten.bitwise_and, aten.__and__)(_bits(jnp.bitwise_and))
lowers(aten.bitwise_or, aten.__or__)(_bits(jnp.bitwise_or))
lowers(aten.bitwise_xor, aten.__xor__)(_bits(jnp.bitwise_xor))


@lowers(aten.bitwise_left_shift, aten.__lshift__)
def left_shift(x: Operand, y: Operand) -> jax.Array:
    x, y = promoted(x, y)
    if is_inexact(x.dtype):
        return x * jnp.exp2(y)
    too_far = (y < 0) | (y >= jnp.iinfo(x.dtype).bits)
    return jnp.where(too_far, 0, jnp.left_shift(x, jnp.where(too_far, 0, y)))


@lowers(aten.bitwise_right_shift, aten.__rshift__)
def right_shift(x: Operand, y: Operand) -> jax.Array:
    x, y = promoted(x, y)
    if is_inexact(x.dtype):
        return x / jnp.exp2(y)
    last = jnp.iinfo(x.dtype).bits - 1
    too_far = (y < 0) | (y > last)
    far = jnp.right_shift(x, last) if jnp.issubdtype(x.dtype, jnp.signedinteger) else jnp.zeros_like(x)
    return jnp.where(too_far, far, jnp.right_shift(x, jnp.where(too_far, 0, y)))


@lowers(aten.clamp)
def clamp(x: jax.Array, least: Operand | None = None, most: Operand | None = None) -> jax.Array:
    to = result_type(x, least, most)
    x = cast(x, to)
    if least is not None:
        x = jnp.maximum(x, cast(least, to))
    return x if most is None else jnp.minimum(x, cast(most, to))


@lowers(aten.clamp_min)
def clamp_min(x: jax.Array, least: Operand) -> jax.Array:
    return clamp(x, least)


@lowers(aten.clamp_max)
def clamp_max(x: jax.Array, most: Operand) -> jax.Array:
    return clamp(x, None, most)


@lowers(aten.where.self, aten.where.Scalar, aten.where.ScalarOther, aten.where.ScalarSelf)
def where(condition: jax.Array, x: Operand, y: Operand) -> jax.Array:
    x, y = promoted(x, y)
    return jnp.where(condition != 0, x, y)


@lowers(aten.masked_fill)
def masked_fill(x: jax.Array, mask: jax.Array, value: Operand) -> jax.Array:
    return jnp.where(mask, cast(value, x.dtype), x)


@lowers(aten.heaviside)
def heaviside(x: jax.Array, values: jax.Array) -> jax.Array:
    x, values = promoted(x, values)
    return jnp.where(x == 0, values, jnp.where(jnp.isnan(x), 0, (x > 0)).astype(x.dtype))
