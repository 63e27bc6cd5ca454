"""Bessel functions of the first and the second kind, of orders 0 and 1, on real numbers.

The rational approximations and their coefficients are those of Cephes (Stephen L. Moshier, `j0.c` and `j1.c`,
https://www.netlib.org/cephes/, whose peak error in float64 is about 1e-15): up to 5 one of x², the zeros of J taken
out; above that Hankel's expansion, with polynomials of 25 / x². torch has the same coefficients, but leaves out the
leading 1 of the denominators, which is worth 1e-7 at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import jax
import jax.numpy as jnp

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import inexact

# fmt: off
_PP0: Final = (
    7.96936729297347051624e-04, 8.28352392107440799803e-02, 1.23953371646414299388e+00,
    5.44725003058768775090e+00, 8.74716500199817011941e+00, 5.30324038235394892183e+00,
    9.99999999999999997821e-01,
)
_PQ0: Final = (
    9.24408810558863637013e-04, 8.56288474354474431428e-02, 1.25352743901058953537e+00,
    5.47097740330417105182e+00, 8.76190883237069594232e+00, 5.30605288235394617618e+00,
    1.00000000000000000218e+00,
)
_QP0: Final = (
    -1.13663838898469149931e-02, -1.28252718670509318512e+00, -1.95539544257735972385e+01,
    -9.32060152123768231369e+01, -1.77681167980488050595e+02, -1.47077505154951170175e+02,
    -5.14105326766599330220e+01, -6.05014350600728481186e+00,
)
_QQ0: Final = (
    1.0, 6.43178256118178023184e+01, 8.56430025976980587198e+02, 3.88240183605401609683e+03,
    7.24046774195652478189e+03, 5.93072701187316984827e+03, 2.06209331660327847417e+03,
    2.42005740240291393179e+02,
)
_RP0: Final = (
    -4.79443220978201773821e+09, 1.95617491946556577543e+12, -2.49248344360967716204e+14,
    9.70862251047306323952e+15,
)
_RQ0: Final = (
    1.0, 4.99563147152651017219e+02, 1.73785401676374683123e+05, 4.84409658339962045305e+07,
    1.11855537045356834862e+10, 2.11277520115489217587e+12, 3.10518229857422583814e+14,
    3.18121955943204943306e+16, 1.71086294081043136091e+18,
)
_YP0: Final = (
    1.55924367855235737965e+04, -1.46639295903971606143e+07, 5.43526477051876500413e+09,
    -9.82136065717911466409e+11, 8.75906394395366999549e+13, -3.46628303384729719441e+15,
    4.42733268572569800351e+16, -1.84950800436986690637e+16,
)
_YQ0: Final = (
    1.0, 1.04128353664259848412e+03, 6.26107330137134956842e+05, 2.68919633393814121987e+08,
    8.64002487103935000337e+10, 2.02979612750105546709e+13, 3.17157752842975028269e+15,
    2.50596256172653059228e+17,
)
_PP1: Final = (
    7.62125616208173112003e-04, 7.31397056940917570436e-02, 1.12719608129684925192e+00,
    5.11207951146807644818e+00, 8.42404590141772420927e+00, 5.21451598682361504063e+00,
    1.00000000000000000254e+00,
)
_PQ1: Final = (
    5.71323128072548699714e-04, 6.88455908754495404082e-02, 1.10514232634061696926e+00,
    5.07386386128601488557e+00, 8.39985554327604159757e+00, 5.20982848682361821619e+00,
    9.99999999999999997461e-01,
)
_QP1: Final = (
    5.10862594750176621635e-02, 4.98213872951233449420e+00, 7.58238284132545283818e+01,
    3.66779609360150777800e+02, 7.10856304998926107277e+02, 5.97489612400613639965e+02,
    2.11688757100572135698e+02, 2.52070205858023719784e+01,
)
_QQ1: Final = (
    1.0, 7.42373277035675149943e+01, 1.05644886038262816351e+03, 4.98641058337653607651e+03,
    9.56231892404756170795e+03, 7.99704160447350683650e+03, 2.82619278517639096600e+03,
    3.36093607810698293419e+02,
)
_RP1: Final = (
    -8.99971225705559398224e+08, 4.52228297998194034323e+11, -7.27494245221818276015e+13,
    3.68295732863852883286e+15,
)
_RQ1: Final = (
    1.0, 6.20836478118054335476e+02, 2.56987256757748830383e+05, 8.35146791431949253037e+07,
    2.21511595479792499675e+10, 4.74914122079991414898e+12, 7.84369607876235854894e+14,
    8.95222336184627338078e+16, 5.32278620332680085395e+18,
)
_YP1: Final = (
    1.26320474790178026440e+09, -6.47355876379160291031e+11, 1.14509511541823727583e+14,
    -8.12770255501325109621e+15, 2.02439475713594898196e+17, -7.78877196265950026825e+17,
)
_YQ1: Final = (
    1.0, 5.94301592346128195359e+02, 2.35564092943068577943e+05, 7.34811944459721705660e+07,
    1.87601316108706159478e+10, 3.88231277496238566008e+12, 6.20557727146953693363e+14,
    6.87141087355300489866e+16, 3.97270608116560655612e+18,
)
# fmt: on
_ZEROS: Final = ((5.78318596294678452118, 30.4712623436620863991), (14.6819706421238932572, 49.2184563216946036703))
"""The squares of the first two zeros of J0, and of J1 past the one at 0."""


def _ratio(above: tuple[float, ...], below: tuple[float, ...], x: jax.Array) -> jax.Array:
    return jnp.polyval(jnp.asarray(above, x.dtype), x) / jnp.polyval(jnp.asarray(below, x.dtype), x)


def _far(order: int, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """J and Y of x > 5."""
    p, q = ((_PP0, _PQ0), (_QP0, _QQ0)) if order == 0 else ((_PP1, _PQ1), (_QP1, _QQ1))
    z = 25 / (x * x)
    along, across = _ratio(*p, z), 5 / x * _ratio(*q, z)
    phase = x - (0.25 + 0.5 * order) * math.pi
    size = jnp.sqrt(2 / (math.pi * x))
    cos, sin = jnp.cos(phase), jnp.sin(phase)
    return size * (along * cos - across * sin), size * (along * sin + across * cos)


def _near_j(order: int, x: jax.Array) -> jax.Array:
    """J of 0 <= x <= 5."""
    z = x * x
    ratio = _ratio(_RP0, _RQ0, z) if order == 0 else x * _ratio(_RP1, _RQ1, z)
    return ratio * (z - _ZEROS[order][0]) * (z - _ZEROS[order][1])


def _near_y(order: int, x: jax.Array) -> jax.Array:
    """Y of 0 < x <= 5."""
    z = x * x
    if order == 0:
        return _ratio(_YP0, _YQ0, z) + 2 / math.pi * jnp.log(x) * _near_j(0, x)
    return x * _ratio(_YP1, _YQ1, z) + 2 / math.pi * (_near_j(1, x) * jnp.log(x) - 1 / x)


def _in_float64(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """The phase of a large x has few digits left in float32."""
    return lambda x: function(inexact(x).astype(jnp.float64)).astype(inexact(x).dtype)


def _j(order: int) -> Callable[[jax.Array], jax.Array]:
    def function(x: jax.Array) -> jax.Array:
        size = jnp.abs(x)
        near, far = jnp.minimum(size, 5), jnp.maximum(size, 5)
        found = jnp.where(size <= 5, _near_j(order, near), _far(order, far)[0])
        return jnp.where(jnp.signbit(x), -found, found) if order == 1 else found

    return _in_float64(function)


def _y(order: int) -> Callable[[jax.Array], jax.Array]:
    def function(x: jax.Array) -> jax.Array:
        positive = jnp.where(x > 0, x, 1)
        near, far = jnp.minimum(positive, 5), jnp.maximum(positive, 5)
        found = jnp.where(positive <= 5, _near_y(order, near), _far(order, far)[1])
        return jnp.where(x == 0, -jnp.inf, jnp.where(x > 0, found, jnp.nan))

    return _in_float64(function)


for _order in (0, 1):
    lowers(getattr(aten, f"special_bessel_j{_order}"))(_j(_order))
    lowers(getattr(aten, f"special_bessel_y{_order}"))(_y(_order))
