"""Operators that fold dimensions away or run along one: sums, extremes, cumulative ones, sorting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import (
    Scalar,
    axes,
    axis,
    cast,
    dtype,
    inexact,
    is_complex,
    is_float,
    is_inexact,
    to_real,
    wide,
)

Dims = int | Sequence[int] | None
Pair = tuple[jax.Array, jax.Array]


def _summed(x: jax.Array, to: torch.dtype | None) -> jax.Array:
    """In the type that sums have: integers become int64."""
    if to is not None:
        return cast(x, dtype(to))
    return x if is_inexact(x.dtype) else x.astype(jnp.int64)


def _fold(function: Callable[..., jax.Array], x: jax.Array, dims: Dims, keepdim: bool) -> jax.Array:
    return function(wide(x), axis=axes(dims, x.ndim), keepdims=keepdim).astype(x.dtype)


@lowers(aten.sum.default)
def sum_all(x: jax.Array, *, dtype: torch.dtype | None = None) -> jax.Array:
    return sum_dims(x, None, dtype=dtype)


@lowers(aten.sum.dim_IntList)
def sum_dims(x: jax.Array, dim: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> jax.Array:
    return _fold(jnp.sum, _summed(x, dtype), dim, keepdim)


@lowers(aten.nansum)
def nansum(x: jax.Array, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> jax.Array:
    return _fold(jnp.sum, _summed(jnp.where(jnp.isnan(x), 0, x), dtype), dim, keepdim)


@lowers(aten.mean.default)
def mean_all(x: jax.Array, *, dtype: torch.dtype | None = None) -> jax.Array:
    return mean_dims(x, None, dtype=dtype)


@lowers(aten.mean.dim)
def mean_dims(x: jax.Array, dim: Dims, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> jax.Array:
    return _fold(jnp.mean, _summed(x, dtype), dim, keepdim)


@lowers(aten.prod.default)
def prod_all(x: jax.Array, *, dtype: torch.dtype | None = None) -> jax.Array:
    return _fold(jnp.prod, _summed(x, dtype), None, False)


@lowers(aten.prod.dim_int)
def prod_dim(x: jax.Array, dim: int, keepdim: bool = False, *, dtype: torch.dtype | None = None) -> jax.Array:
    return _fold(jnp.prod, _summed(x, dtype), dim, keepdim)


def _byte(x: jax.Array, found: jax.Array) -> jax.Array:
    return found.astype(jnp.uint8) if x.dtype == jnp.uint8 else found


@lowers(aten.any.default, aten.any.dim, aten.any.dims)
def any_of(x: jax.Array, dim: Dims = None, keepdim: bool = False) -> jax.Array:
    over = () if dim == [] and x.ndim == 0 else axes(dim, x.ndim)
    return _byte(x, jnp.any(x != 0, axis=over, keepdims=keepdim))


@lowers(aten.all.default, aten.all.dim, aten.all.dims)
def all_of(x: jax.Array, dim: Dims = None, keepdim: bool = False) -> jax.Array:
    return _byte(x, jnp.all(x != 0, axis=axes(dim, x.ndim), keepdims=keepdim))


@lowers(aten.amax)
def amax(x: jax.Array, dim: Dims = None, keepdim: bool = False) -> jax.Array:
    return jnp.max(x, axis=axes(dim, x.ndim), keepdims=keepdim)


@lowers(aten.amin)
def amin(x: jax.Array, dim: Dims = None, keepdim: bool = False) -> jax.Array:
    return jnp.min(x, axis=axes(dim, x.ndim), keepdims=keepdim)


lowers(aten.max.default)(amax)
lowers(aten.min.default)(amin)


@lowers(aten.argmax)
def argmax(x: jax.Array, dim: int | None = None, keepdim: bool = False) -> jax.Array:
    return _argument(jnp.argmax, x, dim, keepdim)


@lowers(aten.argmin)
def argmin(x: jax.Array, dim: int | None = None, keepdim: bool = False) -> jax.Array:
    return _argument(jnp.argmin, x, dim, keepdim)


def _argument(function: Callable[..., jax.Array], x: jax.Array, dim: int | None, keepdim: bool) -> jax.Array:
    if x.ndim == 0:
        return jnp.zeros((), jnp.int64)
    return function(x, axis=dim, keepdims=keepdim).astype(jnp.int64)


@lowers(aten.max.dim)
def max_dim(x: jax.Array, dim: int, keepdim: bool = False) -> Pair:
    return amax(x, dim, keepdim), argmax(x, dim, keepdim)


@lowers(aten.min.dim)
def min_dim(x: jax.Array, dim: int, keepdim: bool = False) -> Pair:
    return amin(x, dim, keepdim), argmin(x, dim, keepdim)


@lowers(aten.var.correction)
def var(x: jax.Array, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False) -> jax.Array:
    return var_mean(x, dim, correction=correction, keepdim=keepdim)[0]


@lowers(aten.std.correction)
def std(x: jax.Array, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False) -> jax.Array:
    return jnp.sqrt(var(x, dim, correction=correction, keepdim=keepdim))


@lowers(aten.var_mean.correction)
def var_mean(x: jax.Array, dim: Dims = None, *, correction: float | None = None, keepdim: bool = False) -> Pair:
    over, of, x = axes(dim, x.ndim), x.dtype, wide(x)
    count = int(np.prod([x.shape[one] for one in over]))
    mean = jnp.mean(x, axis=over, keepdims=True)
    squares = jnp.sum(jnp.square(jnp.abs(x - mean)), axis=over, keepdims=keepdim)
    left = max(count - (1 if correction is None else correction), 0)
    mean = mean if keepdim else jnp.squeeze(mean, over)
    return (squares / squares.dtype.type(left)).astype(to_real(of)), mean.astype(of)


@lowers(aten.logsumexp)
def logsumexp(x: jax.Array, dim: Dims, keepdim: bool = False) -> jax.Array:
    return _fold(jax.scipy.special.logsumexp, inexact(x), dim, keepdim)


@lowers(aten.linalg_vector_norm)
def vector_norm(
    x: jax.Array, p: Scalar = 2, dim: Dims = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> jax.Array:
    given = _summed(inexact(x), dtype)
    of, over = to_real(given.dtype), axes(dim, x.ndim)
    size = jnp.abs(wide(given))

    def total(values: jax.Array) -> jax.Array:
        return jnp.sum(values, axis=over, keepdims=keepdim)

    empty = int(np.prod([x.shape[one] for one in over])) == 0
    if p == 0:
        found = total((size != 0).astype(size.dtype))
    elif p == 1:
        found = total(size)
    elif p == 2:
        found = jnp.sqrt(total(size * size))
    elif p == float("inf"):
        found = jnp.max(size, axis=over, keepdims=keepdim, initial=0 if empty else None)
    elif p == float("-inf"):
        found = jnp.min(size, axis=over, keepdims=keepdim)
    else:
        found = total(size**p) ** (1.0 / p)  # type: ignore[operator]
    return found.astype(of)


@lowers(aten.cumsum)
def cumsum(x: jax.Array, dim: int, *, dtype: torch.dtype | None = None) -> jax.Array:
    return _along(jnp.cumsum, _summed(x, dtype), dim)


@lowers(aten.cumprod)
def cumprod(x: jax.Array, dim: int, *, dtype: torch.dtype | None = None) -> jax.Array:
    return _along(jnp.cumprod, _summed(x, dtype), dim)


def _along(function: Callable[..., jax.Array], x: jax.Array, dim: int) -> jax.Array:
    if x.ndim == 0:
        return x
    return function(wide(x), axis=dim).astype(x.dtype)


@lowers(aten.logcumsumexp)
def logcumsumexp(x: jax.Array, dim: int) -> jax.Array:
    if x.ndim == 0 or x.size == 0:
        return x
    if is_complex(x.dtype):
        return jnp.log(jnp.cumsum(jnp.exp(x), axis=dim))
    return lax.cumlogsumexp(wide(x), axis(dim, x.ndim)).astype(x.dtype)


def _cumulative(better: Callable[..., jax.Array]) -> Callable[..., Pair]:
    def step(left: Pair, right: Pair) -> Pair:
        take = better(right[0], left[0]) | jnp.isnan(right[0])
        return jnp.where(take, right[0], left[0]), jnp.where(take, right[1], left[1])

    def lowering(x: jax.Array, dim: int) -> Pair:
        if x.ndim == 0:
            return x, jnp.zeros((), jnp.int64)
        along = axis(dim, x.ndim)
        at = lax.broadcasted_iota(jnp.int64, x.shape, along)
        return (x, at) if x.size == 0 else lax.associative_scan(step, (x, at), axis=along)

    return lowering


def _not_worse(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """What comes later wins where it is equal, and nothing wins over NaN but another."""
    return lambda new, old: function(new, old) & ~jnp.isnan(old)


lowers(aten.cummax)(_cumulative(_not_worse(jnp.greater_equal)))
lowers(aten.cummin)(_cumulative(_not_worse(jnp.less_equal)))


@lowers(aten.sort.default)
def sort(x: jax.Array, dim: int = -1, descending: bool = False) -> Pair:
    return sort_stable(x, stable=True, dim=dim, descending=descending)


@lowers(aten.sort.stable)
def sort_stable(x: jax.Array, *, stable: bool | None = False, dim: int = -1, descending: bool = False) -> Pair:
    """Always stable, as on the CPU."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int64)
    order = jnp.argsort(x, axis=dim, stable=True, descending=descending)
    return jnp.take_along_axis(x, order, axis=dim), order.astype(jnp.int64)


@lowers(aten.argsort.default, aten.argsort.stable)
def argsort(x: jax.Array, dim: int = -1, descending: bool = False, *, stable: bool = True) -> jax.Array:
    return sort(x, dim, descending)[1]


@lowers(aten.topk)
def topk(x: jax.Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Pair:  # noqa: A002
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int64)
    along = axis(dim, x.ndim)
    if largest and is_float(x.dtype):
        values, at = lax.top_k(jnp.moveaxis(x, along, -1), k)
        return jnp.moveaxis(values, -1, along), jnp.moveaxis(at, -1, along).astype(jnp.int64)
    values, at = sort(x, dim, largest)
    return lax.slice_in_dim(values, 0, k, 1, along), lax.slice_in_dim(at, 0, k, 1, along)


@lowers(aten.kthvalue)
def kthvalue(x: jax.Array, k: int, dim: int = -1, keepdim: bool = False) -> Pair:
    return _picked(x, k - 1, dim, keepdim)


def _picked(x: jax.Array, place: int | jax.Array, dim: int, keepdim: bool) -> Pair:
    """The element of that place in the order, and where it was."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int64)
    values, at = sort(x, dim)
    if isinstance(place, int):
        place = jnp.full([1 if one == axis(dim, x.ndim) else size for one, size in enumerate(x.shape)], place)
    value, index = (jnp.take_along_axis(one, place, axis=dim) for one in (values, at))
    return (value, index) if keepdim else (jnp.squeeze(value, dim), jnp.squeeze(index, dim))


@lowers(aten.median.dim)
def median_dim(x: jax.Array, dim: int, keepdim: bool = False) -> Pair:
    return _median(x, dim, keepdim, skip=False)


@lowers(aten.nanmedian.dim)
def nanmedian_dim(x: jax.Array, dim: int, keepdim: bool = False) -> Pair:
    return _median(x, dim, keepdim, skip=True)


def _median(x: jax.Array, dim: int, keepdim: bool, *, skip: bool) -> Pair:
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int64)
    bad = jnp.sum(jnp.isnan(x), axis=dim, keepdims=True)
    size = x.shape[dim]
    middle = jnp.maximum(size - bad - 1, 0) // 2
    # NaN is sorted last, so the first of them stands behind the numbers.
    place = middle if skip else jnp.where(bad > 0, size - bad, (size - 1) // 2)
    return _picked(x, place, dim, keepdim)


@lowers(aten.median.default)
def median(x: jax.Array) -> jax.Array:
    return _no_median(x) if x.size == 0 else median_dim(x.reshape(-1), 0)[0]


@lowers(aten.nanmedian.default)
def nanmedian(x: jax.Array) -> jax.Array:
    return _no_median(x) if x.size == 0 else nanmedian_dim(x.reshape(-1), 0)[0]


def _no_median(x: jax.Array) -> jax.Array:
    return jnp.asarray(jnp.nan if is_float(x.dtype) else jnp.iinfo(x.dtype).min, x.dtype)


@lowers(aten.mode)
def mode(x: jax.Array, dim: int = -1, keepdim: bool = False) -> Pair:
    """The smallest of the most frequent values, and the last place that it stands at."""
    if x.ndim == 0:
        return x, jnp.zeros((), jnp.int64)
    values = jnp.moveaxis(x, dim, -1)
    ordered = jnp.sort(values, axis=-1)
    often = jnp.sum(ordered[..., :, None] == ordered[..., None, :], axis=-1)
    value = jnp.take_along_axis(ordered, jnp.argmax(often, axis=-1)[..., None], axis=-1)
    at = values.shape[-1] - 1 - jnp.argmax(jnp.flip(values == value, -1), axis=-1)[..., None]
    value, at = jnp.moveaxis(value, -1, dim), jnp.moveaxis(at.astype(jnp.int64), -1, dim)
    return (value, at) if keepdim else (jnp.squeeze(value, dim), jnp.squeeze(at, dim))


@lowers(aten.count_nonzero)
def count_nonzero(x: jax.Array, dim: Dims = None) -> jax.Array:
    return jnp.sum(x != 0, axis=axes(dim, x.ndim), dtype=jnp.int64)


@lowers(aten.searchsorted)
def searchsorted(
    ordered: jax.Array, values: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
    sorter: jax.Array | None = None,
) -> jax.Array:  # fmt: skip
    to = jnp.int32 if out_int32 else jnp.int64
    if sorter is not None:
        ordered = jnp.take_along_axis(ordered, sorter, axis=-1)
    values = jnp.asarray(values)
    common = jnp.promote_types(ordered.dtype, values.dtype)
    ordered, values = ordered.astype(common), values.astype(common)
    side = side or ("right" if right else "left")
    if ordered.ndim == 1:
        return jnp.searchsorted(ordered, values, side=side).astype(to)
    return jnp.vectorize(lambda a, v: jnp.searchsorted(a, v, side=side), signature="(n),(m)->(m)")(
        ordered, values
    ).astype(to)


@lowers(aten.bucketize)
def bucketize(values: Any, boundaries: jax.Array, *, out_int32: bool = False, right: bool = False) -> jax.Array:
    return searchsorted(boundaries, values, out_int32=out_int32, right=right)


@lowers(aten.histc)
def histc(x: jax.Array, bins: int = 100, least: Scalar = 0, most: Scalar = 0) -> jax.Array:
    low, high = cast(least, x.dtype), cast(most, x.dtype)
    flat = x.reshape(-1)
    if least == most and flat.size:
        low, high = jnp.min(flat), jnp.max(flat)
    low, high = jnp.where(low == high, low - 1, low), jnp.where(low == high, high + 1, high)
    at = ((flat - low) / (high - low) * bins).astype(jnp.int64)
    at = jnp.where(flat == high, bins - 1, at)
    inside = (flat >= low) & (flat <= high)
    return jnp.zeros(bins, x.dtype).at[jnp.where(inside, at, bins)].add(1, mode="drop")
