"""Operators of one element: functions, rounding, activations."""

from __future__ import annotations

import math
from typing import Any, Final

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
from jax import lax

from polypath.torch.lowerings.table import LOWERINGS, aten, lowers
from polypath.torch.lowerings.types import (
    Operand,
    Unary,
    cast,
    inexact,
    is_bool,
    is_complex,
    is_float,
    is_inexact,
    wide,
)


def _sigmoid(x: jax.Array) -> jax.Array:
    return 1 / (1 + jnp.exp(-x)) if is_complex(x.dtype) else jax.nn.sigmoid(x)


def _erfc_scaled(x: jax.Array) -> jax.Array:
    """exp(x²)·erfc(x), by a continued fraction where exp(x²) is too large."""
    small = jnp.exp(jnp.square(jnp.minimum(x, 2.0))) * jsp.erfc(jnp.minimum(x, 2.0))
    far = jnp.maximum(x, 2.0)
    fraction = far
    for k in range(60, 0, -1):
        fraction = far + (k / 2) / fraction
    return jnp.where(x < 2.0, small, 1 / (fraction * math.sqrt(math.pi)))


FLOATING: Final[dict[Any, Unary]] = {
    aten.acos: jnp.arccos,
    aten.acosh: jnp.arccosh,
    aten.asin: jnp.arcsin,
    aten.asinh: jnp.arcsinh,
    aten.atan: jnp.arctan,
    aten.atanh: jnp.arctanh,
    aten.cos: jnp.cos,
    aten.cosh: jnp.cosh,
    aten.digamma: jsp.digamma,
    aten.erf: jsp.erf,
    aten.erfc: jsp.erfc,
    aten.erfinv: jsp.erfinv,
    aten.exp: jnp.exp,
    aten.exp2: lambda x: jnp.exp(x * math.log(2)) if is_complex(x.dtype) else jnp.exp2(x),
    aten.expm1: jnp.expm1,
    aten.i0: jsp.i0,
    aten.lgamma: jsp.gammaln,
    aten.log: jnp.log,
    aten.log10: jnp.log10,
    aten.log1p: jnp.log1p,
    aten.log2: jnp.log2,
    aten.reciprocal: jnp.reciprocal,
    aten.rsqrt: lambda x: 1 / jnp.sqrt(x) if is_complex(x.dtype) else lax.rsqrt(x),
    aten.sigmoid: _sigmoid,
    aten.sin: jnp.sin,
    aten.sinh: jnp.sinh,
    aten.special_entr: lambda x: jnp.where(
        jnp.isnan(x), x, jnp.where(x > 0, -x * jnp.log(x), jnp.where(x == 0, 0.0, -jnp.inf))
    ),
    aten.special_erfcx: _erfc_scaled,
    aten.special_i0e: jsp.i0e,
    aten.special_i1: jsp.i1,
    aten.special_i1e: jsp.i1e,
    aten.special_ndtri: jsp.ndtri,
    aten.sqrt: jnp.sqrt,
    aten.tan: jnp.tan,
    aten.tanh: jnp.tanh,
}
"""Integers become floats."""


def _real_first(function: Unary) -> Unary:
    return lambda x: x if not is_inexact(x.dtype) else function(x)


def _sign(x: jax.Array) -> jax.Array:
    return x if is_bool(x.dtype) else jnp.where(jnp.isnan(x), 0, jnp.sign(x)) if is_float(x.dtype) else jnp.sign(x)


KEEPING: Final[dict[Any, Unary]] = {
    aten.abs: lambda x: x if is_bool(x.dtype) else jnp.abs(x),
    aten.alias: lambda x: x,
    aten.alias_copy: lambda x: x,
    aten.bitwise_not: jnp.bitwise_not,
    aten._conj: jnp.conj,
    aten._conj_physical: jnp.conj,
    aten.conj_physical: jnp.conj,
    aten.ceil: _real_first(jnp.ceil),
    aten.detach: lambda x: x,
    aten.detach_copy: lambda x: x,
    aten.floor: _real_first(jnp.floor),
    aten.frac: lambda x: x - jnp.trunc(x),
    aten.imag: jnp.imag,
    aten.isfinite: jnp.isfinite,
    aten.isinf: jnp.isinf,
    aten.isnan: jnp.isnan,
    aten.isneginf: jnp.isneginf,
    aten.isposinf: jnp.isposinf,
    aten.lift: lambda x: x,
    aten.lift_fresh: lambda x: x,
    aten.lift_fresh_copy: lambda x: x,
    aten.logical_not: lambda x: x == 0,
    aten.neg: jnp.negative,
    aten.positive: lambda x: x,
    aten.real: jnp.real,
    aten.relu: lambda x: jnp.where(jnp.isnan(x), x, jnp.maximum(x, 0)) if is_float(x.dtype) else jnp.maximum(x, 0),
    aten.sgn: lambda x: jnp.sign(x) if is_complex(x.dtype) else _sign(x),
    aten.sign: _sign,
    aten.signbit: lambda x: jnp.signbit(x) if is_float(x.dtype) else x < 0,
    aten.square: lambda x: x * x,
    aten.trunc: _real_first(jnp.trunc),
    aten._neg_view: jnp.negative,
    aten._neg_view_copy: jnp.negative,
    aten._conj_copy: jnp.conj,
}
"""Integers stay what they are."""


def _in_floats(function: Unary) -> Unary:
    def lowering(x: jax.Array) -> jax.Array:
        return function(wide(inexact(x))).astype(inexact(x).dtype)

    return lowering


for _operator, _function in FLOATING.items():
    LOWERINGS[_operator.default] = _in_floats(_function)
for _operator, _function in KEEPING.items():
    LOWERINGS[_operator.default] = _function


@lowers(aten.frexp)
def frexp(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    mantissa, exponent = jnp.frexp(x)
    return mantissa, exponent.astype(jnp.int32)


@lowers(aten.angle)
def angle(x: jax.Array) -> jax.Array:
    if is_complex(x.dtype):
        return jnp.angle(x)
    x = inexact(x)
    return jnp.where(jnp.isnan(x), x, jnp.where(x < 0, math.pi, 0.0)).astype(x.dtype)


@lowers(aten.round)
def round_half_even(x: jax.Array, decimals: int = 0) -> jax.Array:
    if not is_inexact(x.dtype):
        return x
    if decimals == 0:
        return jnp.round(x)
    scale = 10.0 ** abs(decimals)
    if decimals > 0:
        return (jnp.round(wide(x) * scale) / scale).astype(x.dtype)
    return (jnp.round(wide(x) / scale) * scale).astype(x.dtype)


@lowers(aten.nan_to_num)
def nan_to_num(
    x: jax.Array, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> jax.Array:
    if not is_inexact(x.dtype):
        return x
    return jnp.nan_to_num(x, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


@lowers(aten.gelu)
def gelu(x: jax.Array, *, approximate: str = "none") -> jax.Array:
    return jax.nn.gelu(wide(x), approximate=approximate == "tanh").astype(x.dtype)


@lowers(aten.silu)
def silu(x: jax.Array) -> jax.Array:
    x_ = wide(inexact(x))
    return (x_ * _sigmoid(x_)).astype(inexact(x).dtype)


@lowers(aten.hardshrink_backward, aten.softshrink_backward)
def shrink_backward(grad: jax.Array, x: jax.Array, bound: Operand) -> jax.Array:
    return jnp.where(jnp.abs(x) <= bound, 0, grad)


@lowers(aten.hardtanh)
def hardtanh(x: jax.Array, least: Operand = -1, most: Operand = 1) -> jax.Array:
    return jnp.minimum(jnp.maximum(x, cast(least, x.dtype)), cast(most, x.dtype))
