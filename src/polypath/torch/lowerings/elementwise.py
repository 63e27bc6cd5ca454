"""Operators of one element and its partners: arithmetic, comparisons, activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
from jax import lax

from polypath.torch.lowerings.table import LOWERINGS, aten, lowers
from polypath.torch.lowerings.types import (
    Operand,
    cast,
    default_float,
    dtype,
    inexact,
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

Unary = Callable[[jax.Array], jax.Array]


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


@lowers(aten.frexp)
def frexp(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    mantissa, exponent = jnp.frexp(x)
    return mantissa, exponent.astype(jnp.int32)


@lowers(aten.complex)
def complex_of(real: jax.Array, imag: jax.Array) -> jax.Array:
    return lax.complex(*jnp.broadcast_arrays(*[wide(one) for one in promoted(real, imag)]))


@lowers(aten.polar)
def polar(absolute: jax.Array, angle: jax.Array) -> jax.Array:
    return complex_of(absolute * jnp.cos(angle), absolute * jnp.sin(angle))


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


@lowers(aten.igamma, aten.special_gammainc)
def gammainc(x: jax.Array, y: jax.Array) -> jax.Array:
    return _gamma(jsp.gammainc, 0.0, x, y)


@lowers(aten.igammac, aten.special_gammaincc)
def gammaincc(x: jax.Array, y: jax.Array) -> jax.Array:
    return _gamma(jsp.gammaincc, 1.0, x, y)


def _gamma(function: Callable[..., jax.Array], at_zero: float, x: jax.Array, y: jax.Array) -> jax.Array:
    a, z = jnp.broadcast_arrays(*promoted_float(x, y))
    bad = (a < 0) | (z < 0) | ((a == 0) & (z == 0)) | jnp.isnan(a) | jnp.isnan(z)
    found = function(wide(jnp.where(bad, 1, a)), wide(jnp.where(bad, 1, z))).astype(a.dtype)
    found = jnp.where(a == 0, 1 - at_zero, found)
    found = jnp.where(jnp.isinf(a), jnp.where(jnp.isinf(z), jnp.nan, at_zero), found)
    found = jnp.where(jnp.isinf(z) & ~jnp.isinf(a), 1 - at_zero, found)
    return jnp.where(bad, jnp.nan, found)


@lowers(aten.special_zeta)
def zeta(x: Operand, q: Operand) -> jax.Array:
    """XLA's loses digits near 0 in float32 and where q is negative, and has NaN where the function has poles."""
    x, q = jnp.broadcast_arrays(*promoted_float(x, q))
    pole = ((q <= 0) & (q == jnp.floor(q)) & (x > 1)) | (x == 1)
    power, start = x.astype(jnp.float64), jnp.where(pole | jnp.isinf(q), 1, q).astype(jnp.float64)

    def step(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        at, total = state
        return jnp.where(at < 1, at + 1, at), total + jnp.where(at < 1, at**-power, 0)

    # The sum's first terms, up to where q is positive.
    at, total = lax.while_loop(lambda state: jnp.any(state[0] < 1), step, (start, jnp.zeros_like(start)))
    return jnp.where(pole, jnp.inf, total + jsp.zeta(power, at)).astype(x.dtype)


@lowers(aten.polygamma.default)
def polygamma(n: int, x: jax.Array) -> jax.Array:
    x = inexact(x)
    if n == 0:
        return jsp.digamma(x)
    x64 = x.astype(jnp.float64)
    if n == 1:  # torch mirrors it where it is negative.
        here = jnp.where(x64 < 0.5, 1 - x64, x64)
        mirrored = jnp.square(math.pi / jnp.sin(math.pi * x64)) - jsp.zeta(2.0, here)
        return jnp.where(x64 < 0.5, mirrored, jsp.zeta(2.0, here)).astype(x.dtype)
    sign = 1.0 if n % 2 else -1.0
    return (sign * math.factorial(n) * zeta(float(n + 1), x64)).astype(x.dtype)


@lowers(aten._to_copy)
def to_copy(x: jax.Array, *, dtype: Any = None, **_: Any) -> jax.Array:
    return x if dtype is None else cast(x, _jax_type(dtype))


def _jax_type(of: Any) -> Any:
    return dtype(of)


@lowers(aten.clone, aten.contiguous)
def clone(x: jax.Array, *, memory_format: Any = None) -> jax.Array:
    return x


@lowers(aten.copy)
def copy(x: jax.Array, source: jax.Array, non_blocking: bool = False) -> jax.Array:
    return jnp.broadcast_to(cast(source, x.dtype), x.shape)


@lowers(aten.view_as_real, aten.view_as_real_copy)
def view_as_real(x: jax.Array) -> jax.Array:
    return jnp.stack([x.real, x.imag], -1)


@lowers(aten.view_as_complex, aten.view_as_complex_copy)
def view_as_complex(x: jax.Array) -> jax.Array:
    return lax.complex(x[..., 0], x[..., 1])


@lowers(aten.heaviside)
def heaviside(x: jax.Array, values: jax.Array) -> jax.Array:
    x, values = promoted(x, values)
    return jnp.where(x == 0, values, jnp.where(jnp.isnan(x), 0, (x > 0)).astype(x.dtype))
