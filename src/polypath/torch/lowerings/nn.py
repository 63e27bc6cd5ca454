"""Layers of networks: softmax, norms, pooling, sampling of images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import wide

Ints = Sequence[int]


def _soft(function: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def lowering(x: jax.Array, dim: int, half_to_float: bool = False) -> jax.Array:
        if x.ndim == 0:
            return lowering(x.reshape(1), 0, half_to_float).reshape(())
        found = function(wide(x), axis=dim)
        return found if half_to_float else found.astype(x.dtype)

    return lowering


def _softmax(x: jax.Array, axis: int) -> jax.Array:
    # jax's guards rows of -inf, where torch gives NaN.
    shifted = jnp.exp(x - lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf)))
    return shifted / jnp.sum(shifted, axis=axis, keepdims=True)


def _log_softmax(x: jax.Array, axis: int) -> jax.Array:
    shifted = x - jnp.max(x, axis=axis, keepdims=True, initial=-jnp.inf)
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=axis, keepdims=True))


lowers(aten._softmax)(_soft(_softmax))
lowers(aten._log_softmax)(_soft(_log_softmax))


@lowers(aten.native_layer_norm)
def layer_norm(
    x: jax.Array, shape: Ints, weight: jax.Array | None, bias: jax.Array | None, eps: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    over = tuple(range(x.ndim - len(shape), x.ndim))
    x_ = wide(x)
    mean = jnp.mean(x_, axis=over, keepdims=True)
    rstd = lax.rsqrt(jnp.mean(jnp.square(x_ - mean), axis=over, keepdims=True) + eps)
    found = (x_ - mean) * rstd
    if weight is not None:
        found = found * weight
    if bias is not None:
        found = found + bias
    return found.astype(x.dtype), mean, rstd


@lowers(aten.native_layer_norm_backward)
def layer_norm_backward(
    grad: jax.Array, x: jax.Array, shape: Ints, mean: jax.Array, rstd: jax.Array, weight: jax.Array | None,
    bias: jax.Array | None, mask: Sequence[bool],
) -> tuple[jax.Array | None, ...]:  # fmt: skip
    over = tuple(range(x.ndim - len(shape), x.ndim))
    batch = tuple(range(x.ndim - len(shape)))
    grad_, normal = wide(grad), (wide(x) - wide(mean)) * wide(rstd)
    inner = grad_ if weight is None else grad_ * weight
    means = jnp.mean(inner, axis=over, keepdims=True), jnp.mean(inner * normal, axis=over, keepdims=True)
    to_x = wide(rstd) * (inner - means[0] - normal * means[1])
    return (
        to_x.astype(x.dtype) if mask[0] else None,
        jnp.sum(grad_ * normal, axis=batch).astype(x.dtype) if mask[1] and weight is not None else None,
        jnp.sum(grad_, axis=batch).astype(x.dtype) if mask[2] and bias is not None else None,
    )


def _each(given: Ints | int, n: int) -> list[int]:
    values = [given] if isinstance(given, int) else list(given)
    return values * n if len(values) == 1 else values


class _Window:
    """How a pooling window goes along one dimension."""

    def __init__(self, size: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> None:
        reach = dilation * (kernel - 1) + 1
        span = size + 2 * padding - reach
        self.count = (-(-span // stride) if ceil else span // stride) + 1
        if ceil and (self.count - 1) * stride >= size + padding:
            self.count -= 1  # The last one has to begin inside.
        self.size, self.kernel, self.stride, self.padding, self.dilation = size, kernel, stride, padding, dilation
        self.edges = (padding, max((self.count - 1) * stride + reach - size - padding, 0))
        self.starts = np.arange(self.count) * stride - padding

    def places(self) -> np.ndarray[Any, Any]:
        """For each step, the places under the window; -1 for those outside."""
        at = self.starts[:, None] + np.arange(self.kernel) * self.dilation
        return np.where((at < 0) | (at >= self.size), -1, at)

    def divisor(self, include_pad: bool) -> np.ndarray[Any, Any]:
        ends = np.minimum(self.starts + self.kernel, self.size + self.padding)
        if include_pad:
            return ends - self.starts
        return np.minimum(ends, self.size) - np.maximum(self.starts, 0)


def _windows(
    x: jax.Array, n: int, kernel: Ints, stride: Ints, padding: Ints | int, dilation: Ints | int, ceil: bool
) -> list[_Window]:
    kernels, strides = _each(kernel, n), _each(stride or kernel, n)
    given = zip(x.shape[-n:], kernels, strides, _each(padding, n), _each(dilation, n), strict=True)
    return [_Window(size, k, step, pad, spread, ceil) for size, k, step, pad, spread in given]


def _slide(x: jax.Array, windows: list[_Window], start: Any, function: Any) -> jax.Array:
    rest = x.ndim - len(windows)
    return lax.reduce_window(
        x,
        start,
        function,
        (1,) * rest + tuple(one.kernel for one in windows),
        (1,) * rest + tuple(one.stride for one in windows),
        ((0, 0),) * rest + tuple((one.edges[0], one.edges[1]) for one in windows),
        window_dilation=(1,) * rest + tuple(one.dilation for one in windows),
    )


def _least(x: jax.Array) -> Any:
    return -np.inf if jnp.issubdtype(x.dtype, jnp.floating) else jnp.iinfo(x.dtype).min


def _crop(found: jax.Array, windows: list[_Window]) -> jax.Array:
    return found[(..., *[slice(one.count) for one in windows])]


def _largest(x: jax.Array, places: list[Any]) -> tuple[jax.Array, jax.Array]:
    """The largest of each window and where it is in its plane. `places` is [steps, window] for each dimension."""
    n = len(places)
    spread = []
    for dim, at in enumerate(places):
        shape = [1] * (2 * n)
        shape[dim], shape[n + dim] = at.shape
        spread.append(jnp.asarray(at).reshape(shape))
    inside = jnp.asarray(True)
    flat = jnp.zeros((), jnp.int64)
    for at, size in zip(spread, x.shape[-n:], strict=True):
        inside, flat = inside & (at >= 0), flat * size + at
    taken = jnp.where(inside, x[(..., *spread)], _least(x))
    steps = taken.shape[: taken.ndim - n]
    taken = taken.reshape(*steps, -1)
    flat = jnp.broadcast_to(flat.reshape(*flat.shape[:n], -1), taken.shape)
    inside = jnp.broadcast_to(inside.reshape(*inside.shape[:n], -1), taken.shape)
    # A window of nothing but -inf has its first place inside.
    best = jnp.where(jnp.max(taken, -1) == _least(x), jnp.argmax(inside, -1), jnp.argmax(taken, -1))[..., None]
    return tuple(jnp.take_along_axis(one, best, -1)[..., 0] for one in (taken, flat))  # type: ignore[return-value]


def _pool_max(n: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def lowering(
        x: jax.Array, kernel: Ints, stride: Ints = (), padding: Ints | int = 0, dilation: Ints | int = 1,
        ceil_mode: bool = False,
    ) -> tuple[jax.Array, jax.Array]:  # fmt: skip
        windows = _windows(x, n, kernel, stride, padding, dilation, ceil_mode)
        # The places are only computed where something asks for them.
        values = _crop(_slide(x, windows, np.asarray(_least(x), x.dtype), lax.max), windows)
        return values, _largest(x, [one.places() for one in windows])[1]

    return lowering


def _unpool(n: int) -> Callable[..., jax.Array]:
    def lowering(grad: jax.Array, x: jax.Array, *given: Any) -> jax.Array:
        return _to_places(grad, x, given[-1], n)

    return lowering


def _to_places(grad: jax.Array, x: jax.Array, at: jax.Array, n: int) -> jax.Array:
    """Each gradient goes where its value came from in the plane."""
    rest, plane = x.shape[:-n], math.prod(x.shape[-n:])
    count = math.prod(rest)
    flat = jnp.zeros((count, plane), grad.dtype)
    rows = jnp.arange(count)[:, None]
    width = math.prod(grad.shape[-n:])
    return flat.at[rows, at.reshape(count, width)].add(grad.reshape(count, width)).reshape(x.shape)


lowers(aten.max_pool2d_with_indices)(_pool_max(2))
lowers(aten.max_pool3d_with_indices)(_pool_max(3))
lowers(aten.max_pool2d_with_indices_backward, aten.adaptive_max_pool2d_backward)(_unpool(2))
lowers(aten.max_pool3d_with_indices_backward, aten.adaptive_max_pool3d_backward)(_unpool(3))
lowers(aten.fractional_max_pool2d_backward)(_unpool(2))
lowers(aten.fractional_max_pool3d_backward)(_unpool(3))


def _adaptive_places(size: int, count: int) -> np.ndarray[Any, Any]:
    starts = np.arange(count) * size // count
    ends = -(-(np.arange(count) + 1) * size // count)
    at = starts[:, None] + np.arange(int(max(ends - starts)) if count else 0)
    return np.where(at < ends[:, None], at, -1)


def _adaptive_max(n: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def lowering(x: jax.Array, size: Ints) -> tuple[jax.Array, jax.Array]:
        if 0 in (*size, *x.shape):
            shape = (*x.shape[:-n], *size)
            return jnp.zeros(shape, x.dtype), jnp.zeros(shape, jnp.int64)
        return _largest(x, [_adaptive_places(*one) for one in zip(x.shape[-n:], size, strict=True)])

    return lowering


lowers(aten.adaptive_max_pool2d)(_adaptive_max(2))
lowers(aten.adaptive_max_pool3d)(_adaptive_max(3))


def _adaptive_mean(n: int) -> Callable[..., jax.Array]:
    def lowering(x: jax.Array, size: Ints) -> jax.Array:
        for dim, count in zip(range(x.ndim - n, x.ndim), size, strict=True):
            at = _adaptive_places(x.shape[dim], count)
            shape = [1] * (x.ndim + 1)
            shape[dim : dim + 2] = at.shape
            inside = (at >= 0).reshape(shape)
            taken = jnp.where(inside, jnp.take(x, np.maximum(at, 0), axis=dim), 0)
            x = (jnp.sum(wide(taken), axis=dim + 1) / inside.sum(dim + 1)).astype(x.dtype)
        return x

    return lowering


def _slope(forward: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The backward operator whose arguments are the gradient, the input, and then what forward takes."""
    return lambda grad, x, *given: jax.vjp(lambda x: forward(x, *given), x)[1](grad)[0]


for _n in (2, 3):
    _forward = _adaptive_mean(_n)
    lowers(getattr(aten, f"_adaptive_avg_pool{_n}d"))(_forward)
    lowers(getattr(aten, f"_adaptive_avg_pool{_n}d_backward"))(
        lambda grad, x, forward=_forward, n=_n: _slope(forward)(grad, x, grad.shape[-n:])
    )


def _pool_mean(n: int) -> Callable[..., jax.Array]:
    def lowering(
        x: jax.Array, kernel: Ints, stride: Ints = (), padding: Ints | int = 0, ceil_mode: bool = False,
        count_include_pad: bool = True, divisor: int | None = None,
    ) -> jax.Array:  # fmt: skip
        windows = _windows(x, n, kernel, stride, padding, 1, ceil_mode)
        total = _crop(_slide(wide(x), windows, np.zeros((), wide(x).dtype), lax.add), windows)
        by: Any = divisor
        if by is None:
            by = np.ones((), np.int64)
            for one in windows:
                by = by[..., None] * one.divisor(count_include_pad)
        return (total / jnp.asarray(by, total.dtype)).astype(x.dtype)

    return lowering


for _n in (1, 2, 3):
    lowers(getattr(aten, f"avg_pool{_n}d"))(_pool_mean(_n))
    if _n > 1:
        lowers(getattr(aten, f"avg_pool{_n}d_backward"))(_slope(_pool_mean(_n)))


def _fractional(n: int) -> Callable[..., tuple[jax.Array, jax.Array]]:
    def lowering(x: jax.Array, kernel: Ints, size: Ints, samples: jax.Array) -> tuple[jax.Array, jax.Array]:
        batched = x.ndim == n + 2
        planes = x.reshape(-1, *x.shape[-n:])
        samples = samples.reshape(-1, n) if batched else samples[0]

        def one(plane: jax.Array, sample: jax.Array) -> tuple[jax.Array, jax.Array]:
            places = []
            for dim in range(n):
                # torch's samples have the last dimension first, but in three dimensions.
                draw = sample[dim if n == 3 else n - 1 - dim]
                length, window, count = plane.shape[dim], kernel[dim], size[dim]
                step = (length - window) / (count - 1) if count > 1 else 0.0
                at = jnp.arange(count)
                starts = jnp.floor((at + draw) * plane.dtype.type(step)) - jnp.floor(draw * plane.dtype.type(step))
                starts = jnp.where(at == count - 1, length - window, starts).astype(jnp.int64)
                places.append(starts[:, None] + jnp.arange(window))
            return _largest(plane, places)

        values, at = jax.vmap(one)(planes, samples)
        return values.reshape(*x.shape[:-n], *size), at.reshape(*x.shape[:-n], *size)

    return lowering


lowers(aten.fractional_max_pool2d)(_fractional(2))
lowers(aten.fractional_max_pool3d)(_fractional(3))


def _sampled(x: jax.Array, at: list[jax.Array], how: int, padding: int, corners: bool) -> jax.Array:
    """One image [C, ...] at points from -1 to 1, one array for each dimension. `how`: 0 linear, 1 nearest, 2 cubic."""
    sizes = x.shape[1:]
    points = [_in_pixels(one, size, corners) for one, size in zip(at, sizes, strict=True)]
    if how != 2:
        points = [_within(one, size, padding, corners) for one, size in zip(points, sizes, strict=True)]

    def value(places: list[jax.Array]) -> jax.Array:
        if how == 2:
            places = [_within(one, size, padding, corners) for one, size in zip(places, sizes, strict=True)]
        inside = jnp.asarray(True)
        for one, size in zip(places, sizes, strict=True):
            inside = inside & (one >= 0) & (one < size)
        safe = [jnp.where(inside, one, 0).astype(jnp.int64) for one in places]
        return jnp.where(inside, x[(slice(None), *safe)], 0)

    if how == 1:
        return value([jnp.round(one) for one in points])
    low = [lax.stop_gradient(jnp.floor(one)) for one in points]
    reach, weigh = (range(-1, 3), _cubic_weight) if how == 2 else (range(2), _linear_weight)
    total: Any = 0
    for steps in itertools.product(reach, repeat=len(points)):
        weight: Any = 1
        for one, below, step in zip(points, low, steps, strict=True):
            weight = weight * weigh(one - below, step)
        total = total + value([below + step for below, step in zip(low, steps, strict=True)]) * weight
    return total


def _linear_weight(part: jax.Array, step: int) -> jax.Array:
    return part if step else 1 - part


def _cubic_weight(part: jax.Array, step: int) -> jax.Array:
    """Keys' kernel with -0.75, of the neighbour that is `step` from the one below."""
    away = {-1: part + 1, 0: part, 1: 1 - part, 2: 2 - part}[step]
    if step in (0, 1):
        return (1.25 * away - 2.25) * away * away + 1
    return ((-0.75 * away + 3.75) * away - 6.0) * away + 3.0


def _in_pixels(at: jax.Array, size: int, corners: bool) -> jax.Array:
    return (at + 1) / 2 * (size - 1) if corners else ((at + 1) * size - 1) / 2


def _within(at: jax.Array, size: int, padding: int, corners: bool) -> jax.Array:
    """A place brought inside as the padding says. `padding`: 0 zeros, 1 border, 2 reflection."""
    if padding == 1:
        return jnp.clip(at, 0, size - 1)
    if padding == 2:
        low, high = (0.0, size - 1.0) if corners else (-0.5, size - 0.5)
        span = high - low
        if span <= 0:
            return jnp.zeros_like(at)
        away = jnp.abs(at - low)
        extra, flips = jnp.fmod(away, span), lax.stop_gradient(jnp.floor(away / span))
        return jnp.clip(jnp.where(flips % 2 == 0, extra + low, span - extra + low), 0, size - 1)
    return at


@lowers(aten.grid_sampler_2d, aten.grid_sampler_3d)
def grid_sampler(x: jax.Array, grid: jax.Array, how: int, padding: int, corners: bool) -> jax.Array:
    def one(image: jax.Array, points: jax.Array) -> jax.Array:
        return _sampled(image, [points[..., dim] for dim in reversed(range(x.ndim - 2))], how, padding, corners)

    return jax.vmap(one)(x, grid)


@lowers(aten.grid_sampler_2d_backward, aten.grid_sampler_3d_backward)
def grid_sampler_backward(
    grad: jax.Array, x: jax.Array, grid: jax.Array, how: int, padding: int, corners: bool, mask: Sequence[bool]
) -> tuple[jax.Array | None, ...]:
    slopes = jax.vjp(lambda x, grid: grid_sampler(x, grid, how, padding, corners), x, grid)[1](grad)
    return tuple(one if wanted else None for one, wanted in zip(slopes, mask, strict=True))
