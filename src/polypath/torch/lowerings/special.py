"""Special functions: families of polynomials, Bessel's, and those about the gamma function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import jax
import jax.numpy as jnp
import jax.scipy.special as jsp
from jax import lax

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import Operand, inexact, promoted_float, wide

Next = Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
"""The next polynomial of: the number of the present one, x, the present one, the one before."""


def _chebyshev(k: jax.Array, x: jax.Array, p: jax.Array, q: jax.Array) -> jax.Array:
    return 2 * x * p - q


def _family(first: Callable[[jax.Array], jax.Array], following: Next, *, shifted: bool = False) -> Any:
    def lowering(x: Operand, n: Operand) -> jax.Array:
        x, n = jnp.broadcast_arrays(*promoted_float(x, n))
        if x.size == 0:
            return x
        n = jnp.trunc(n)
        x = 2 * x - 1 if shifted else x

        def step(state: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
            k, p, q, found = state
            p, q = following(k, x, p, q), p
            return k + 1, p, q, jnp.where(n == k + 1, p, found)

        found = jnp.where(n < 0, 0, jnp.where(n == 0, 1, first(x))).astype(x.dtype)
        start = (jnp.ones((), x.dtype), first(x), jnp.ones_like(x), found)
        return lax.while_loop(lambda state: state[0] < jnp.max(n), step, start)[-1]

    return lowering


_FAMILIES: Final[dict[str, tuple[Callable[[jax.Array], jax.Array], Next]]] = {
    "chebyshev_polynomial_t": (lambda x: x, _chebyshev),
    "chebyshev_polynomial_u": (lambda x: 2 * x, _chebyshev),
    "chebyshev_polynomial_v": (lambda x: 2 * x - 1, _chebyshev),
    "chebyshev_polynomial_w": (lambda x: 2 * x + 1, _chebyshev),
    "hermite_polynomial_h": (lambda x: 2 * x, lambda k, x, p, q: 2 * x * p - 2 * k * q),
    "hermite_polynomial_he": (lambda x: x, lambda k, x, p, q: x * p - k * q),
    "laguerre_polynomial_l": (lambda x: 1 - x, lambda k, x, p, q: ((2 * k + 1 - x) * p - k * q) / (k + 1)),
    "legendre_polynomial_p": (lambda x: x, lambda k, x, p, q: ((2 * k + 1) * x * p - k * q) / (k + 1)),
}
for _name, (_first, _next) in _FAMILIES.items():
    lowers(getattr(aten, f"special_{_name}"))(_family(_first, _next))
    if _name.startswith("chebyshev"):
        lowers(getattr(aten, f"special_shifted_{_name}"))(_family(_first, _next, shifted=True))


def _of_floats(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    return lambda x: function(wide(inexact(x))).astype(inexact(x).dtype)


lowers(aten.special_modified_bessel_i0)(_of_floats(jsp.i0))
lowers(aten.special_modified_bessel_i1)(_of_floats(jsp.i1))


@lowers(aten.special_spherical_bessel_j0)
def spherical_bessel_j0(x: jax.Array) -> jax.Array:
    x = inexact(x)
    near = 1 - x * x / 6 * (1 - x * x / 20 * (1 - x * x / 42))
    return jnp.where(jnp.isinf(x), 0, jnp.where(jnp.abs(x) < 0.5, near, jnp.sin(x) / jnp.where(x == 0, 1, x)))


def _scaled_k(order: int) -> Callable[[jax.Array], jax.Array]:
    """exp(x) K(x): the integral of exp(-x (cosh t - 1)) cosh(order t), which the trapezoidal rule gives exactly."""
    steps = 200

    def lowering(x: jax.Array) -> jax.Array:
        x = inexact(x)
        x64 = jnp.where(x > 0, x, 1).astype(jnp.float64)[..., None]
        end = jnp.arccosh(1 + 60 / x64)
        t = end * jnp.arange(steps + 1) / steps
        values = jnp.exp(-x64 * (jnp.cosh(t) - 1)) * jnp.cosh(order * t)
        found = (jnp.sum(values, axis=-1) - values[..., 0] / 2) * end[..., 0] / steps
        return jnp.where(x == 0, jnp.inf, jnp.where(x < 0, jnp.nan, found)).astype(x.dtype)

    return lowering


def _k(order: int) -> Callable[[jax.Array], jax.Array]:
    return lambda x: (_scaled_k(order)(inexact(x).astype(jnp.float64)) * jnp.exp(-x)).astype(inexact(x).dtype)


for _order in (0, 1):
    lowers(getattr(aten, f"special_scaled_modified_bessel_k{_order}"))(_scaled_k(_order))
    lowers(getattr(aten, f"special_modified_bessel_k{_order}"))(_k(_order))


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
