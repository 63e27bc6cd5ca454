"""Operators of an element and its partners that compute: sums, products, powers, blends."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from torch._inductor.inductor_prims import fma

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import (
    Operand,
    Unary,
    cast,
    default_float,
    is_bool,
    is_complex,
    is_float,
    is_inexact,
    is_one,
    promoted,
    promoted_float,
    result_type,
    wide,
)


@lowers(aten.add)
def add(x: Operand, y: Operand, *, alpha: Operand = 1) -> jax.Array:
    x, y = promoted(x, y)
    if is_bool(x.dtype):
        return jnp.logical_or(x, y) if alpha else x
    return x + (y if is_one(alpha) else y * cast(alpha, y.dtype))


@lowers(aten.sub)
def subtract(x: Operand, y: Operand, alpha: Operand = 1) -> jax.Array:
    x, y = promoted(x, y)
    return x - (y if is_one(alpha) else y * cast(alpha, y.dtype))


@lowers(aten.rsub)
def subtract_from(x: Operand, y: Operand, alpha: Operand = 1) -> jax.Array:
    return subtract(y, x, alpha)


@lowers(aten.mul)
def multiply(x: Operand, y: Operand) -> jax.Array:
    x, y = promoted(x, y)
    return x * y


@lowers(aten.div.Tensor, aten.div.Scalar, aten.true_divide.Tensor, aten.true_divide.Scalar)
def divide(x: Operand, y: Operand) -> jax.Array:
    x, y = promoted_float(x, y)
    return x / y


@lowers(aten.div.Tensor_mode, aten.div.Scalar_mode)
def divide_rounding(x: Operand, y: Operand, *, rounding_mode: str | None = None) -> jax.Array:
    if rounding_mode is None:
        return divide(x, y)
    if rounding_mode == "floor":
        return floor_divide(x, y)
    x, y = promoted(x, y)
    if is_float(x.dtype):
        return jnp.trunc(wide(x) / wide(y)).astype(x.dtype)
    return lax.div(*jnp.broadcast_arrays(x, y))


@lowers(aten.floor_divide)
def floor_divide(x: Operand, y: Operand) -> jax.Array:
    x, y = promoted(x, y)
    if not is_float(x.dtype):
        return jnp.floor_divide(x, y)
    of, x, y = x.dtype, wide(x), wide(y)
    left = lax.rem(*jnp.broadcast_arrays(x, y))
    whole = (x - left) / y
    whole = jnp.where((left != 0) & ((y < 0) != (left < 0)), whole - 1, whole)
    near = jnp.floor(whole)
    near = jnp.where(whole - near > 0.5, near + 1, near)
    near = jnp.where(whole == 0, jnp.copysign(jnp.zeros_like(whole), x / y), near)
    return jnp.where(y == 0, x / y, near).astype(of)


@lowers(aten.remainder)
def remainder(x: Operand, y: Operand) -> jax.Array:
    x, y = promoted(x, y)
    left = fmod(x, y)
    return jnp.where((left != 0) & ((left < 0) != (y < 0)), left + y, left)


@lowers(aten.fmod)
def fmod(x: Operand, y: Operand) -> jax.Array:
    x, y = jnp.broadcast_arrays(*promoted(x, y))
    return lax.rem(wide(x), wide(y)).astype(x.dtype)


@lowers(aten.pow)
def power(x: Operand, y: Operand) -> jax.Array:
    to = result_type(x, y)
    if isinstance(y, (int, float)) and not isinstance(x, (bool, int, float, complex)):
        if isinstance(y, float) and not is_inexact(x.dtype):
            x = x.astype(default_float())
        if y == 2:
            return cast(x, to) * cast(x, to)
        if y == 0.5 and is_inexact(to):
            return jnp.sqrt(cast(x, to))
        if is_inexact(to) and not is_complex(to) and float(y).is_integer() and abs(y) <= 64:
            return lax.integer_pow(wide(cast(x, to)), int(y)).astype(to)
    x, y = cast(x, to), cast(y, to)
    if not is_inexact(to):
        negative = jnp.where(x == 1, 1, jnp.where(x == -1, jnp.where(y % 2 == 0, 1, -1), 0)).astype(to)
        return jnp.where(y < 0, negative, jnp.power(x, jnp.maximum(y, 0)))
    if is_complex(to):
        nothing = (x == 0) & (y.real > 0)
        return jnp.where(y == 0, 1, jnp.where(nothing, 0, jnp.power(x, y)))
    return jnp.power(wide(x), wide(y)).astype(to)


@lowers(aten.float_power)
def float_power(x: Operand, y: Operand) -> jax.Array:
    to = jnp.complex128 if is_complex(result_type(x, y)) else jnp.float64
    return power(cast(x, to), cast(y, to))


def _pairs(function: Callable[..., jax.Array], *, floating: bool = False) -> Callable[..., jax.Array]:
    rule = promoted_float if floating else promoted

    def lowering(x: Operand, y: Operand) -> jax.Array:
        x, y = rule(x, y)
        return function(x, y)

    return lowering


def _polar_sum(x: jax.Array, y: jax.Array) -> jax.Array:
    if is_complex(x.dtype):
        return jnp.where(x == y, x + math.log(2), jnp.logaddexp(x, y))
    return jnp.logaddexp(x, y)


def _times_log(log: Unary) -> Callable[[jax.Array, jax.Array], jax.Array]:
    def function(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.where(jnp.isnan(y), y, jnp.where(x == 0, 0, x * log(y)))

    return function


def _lcm(x: jax.Array, y: jax.Array) -> jax.Array:
    divisor = jnp.gcd(x, y)
    return jnp.abs(x // jnp.where(divisor == 0, 1, divisor) * y)


for _operator, _function in {
    aten.maximum: jnp.maximum,
    aten.minimum: jnp.minimum,
    aten.fmax: jnp.fmax,
    aten.fmin: jnp.fmin,
    aten.hypot: jnp.hypot,
    aten.gcd: lambda x, y: jnp.abs(jnp.gcd(x, y)),
    aten.lcm: _lcm,
    aten.nextafter: lambda x, y: jnp.nextafter(*jnp.broadcast_arrays(x, y)),
}.items():
    lowers(_operator)(_pairs(_function))
for _operator, _function in {
    aten.atan2: jnp.arctan2,
    aten.copysign: jnp.copysign,
    aten.logaddexp: _polar_sum,
    aten.logaddexp2: jnp.logaddexp2,
    aten.xlogy: _times_log(jnp.log),
    aten.special_xlog1py: _times_log(jnp.log1p),
}.items():
    lowers(_operator)(_pairs(_function, floating=True))


@lowers(aten.ldexp)
def ldexp(x: Operand, y: Operand) -> jax.Array:
    x, y = promoted_float(x, power(2.0, y))
    return x * y


@lowers(aten.complex)
def complex_of(real: jax.Array, imag: jax.Array) -> jax.Array:
    return lax.complex(*jnp.broadcast_arrays(*[wide(one) for one in promoted(real, imag)]))


@lowers(aten.polar)
def polar(absolute: jax.Array, angle: jax.Array) -> jax.Array:
    return complex_of(absolute * jnp.cos(angle), absolute * jnp.sin(angle))


@lowers(aten.lerp)
def lerp(start: jax.Array, end: jax.Array, weight: Operand) -> jax.Array:
    weight = cast(weight, start.dtype)
    near = jnp.abs(weight) < 0.5
    return jnp.where(near, start + weight * (end - start), end - (end - start) * (1 - weight))


@lowers(aten.addcmul)
def addcmul(x: jax.Array, one: jax.Array, two: jax.Array, *, value: Operand = 1) -> jax.Array:
    to = result_type(x, one, two)
    product = cast(one, to) * cast(two, to)
    return cast(x, to) + (product if is_one(value) else cast(value, to) * product)


@lowers(aten.addcdiv)
def addcdiv(x: jax.Array, one: jax.Array, two: jax.Array, *, value: Operand = 1) -> jax.Array:
    to = result_type(x, one, two)
    return cast(x, to) + cast(value, to) * cast(one, to) / cast(two, to)


@lowers(fma)
def multiply_add(x: jax.Array, y: jax.Array, z: jax.Array) -> jax.Array:
    """What Dynamo makes of `add_(x, alpha=tensor)` and `addcmul_(..., value=tensor)`; XLA decides how it is rounded."""
    return x * y + z
