"""Products of matrices, convolutions, and Fourier transforms: what the devices are made for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from jax import lax

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import Scalar, cast, dtype, is_low, to_complex, to_real, wide

Ints = Sequence[int]


def precision(x: jax.Array) -> lax.Precision | None:
    """float32 is computed as float32 unless the user told torch (`set_float32_matmul_precision`) that less will do."""
    if x.dtype not in (jnp.float32, jnp.complex64):
        return None
    wanted = torch.get_float32_matmul_precision()
    return {"highest": lax.Precision.HIGHEST, "high": lax.Precision.HIGH}.get(wanted, lax.Precision.DEFAULT)


def product(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x @ y`."""
    return jnp.matmul(x, y, precision=precision(x))


def _exact_product(x: jax.Array, y: jax.Array) -> jax.Array:
    """`x @ y`, of half floats in float32: what is added to it is added before it is rounded, as torch's kernels do."""
    return jnp.matmul(x, y, preferred_element_type=jnp.float32) if is_low(x.dtype) else product(x, y)


@lowers(aten.mm.default, aten.bmm.default, aten.mv.default, aten.dot.default, aten.matmul)
def matmul(x: jax.Array, y: jax.Array) -> jax.Array:
    return product(x, y)


@lowers(aten.mm.dtype, aten.bmm.dtype)
def matmul_as(x: jax.Array, y: jax.Array, to: torch.dtype) -> jax.Array:
    return jnp.matmul(x, y, precision=precision(x), preferred_element_type=dtype(to))


@lowers(aten.vdot)
def vdot(x: jax.Array, y: jax.Array) -> jax.Array:
    return product(x.conj(), y)


def _plus(x: jax.Array, found: jax.Array, beta: Scalar, alpha: Scalar) -> jax.Array:
    """What is multiplied by a zero `beta` counts for nothing, NaN neither."""
    if alpha != 1:
        found = found * cast(alpha, found.dtype)
    if beta == 0:
        return found
    return found + (x if beta == 1 else x * cast(beta, x.dtype))


@lowers(aten.addmm.default, aten.addmv, aten.baddbmm.default)
def addmm(x: jax.Array, one: jax.Array, two: jax.Array, *, beta: Scalar = 1, alpha: Scalar = 1) -> jax.Array:
    return _plus(wide(x), _exact_product(one, two), beta, alpha).astype(one.dtype)


@lowers(aten.addbmm)
def addbmm(x: jax.Array, one: jax.Array, two: jax.Array, *, beta: Scalar = 1, alpha: Scalar = 1) -> jax.Array:
    return _plus(x, jnp.einsum("bij,bjk->ik", one, two, precision=precision(one)), beta, alpha)


@lowers(aten.addr)
def addr(x: jax.Array, one: jax.Array, two: jax.Array, *, beta: Scalar = 1, alpha: Scalar = 1) -> jax.Array:
    if x.dtype == jnp.bool_:
        outer = (one[:, None] & two) if alpha else jnp.zeros((one.size, two.size), jnp.bool_)
        return (outer | x) if beta else outer
    return _plus(x, one[:, None] * two, beta, alpha)


@lowers(aten.linear)
def linear(x: jax.Array, weight: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    return product(x, weight.T) if bias is None else (_exact_product(x, weight.T) + wide(bias)).astype(x.dtype)


@lowers(aten._trilinear)
def trilinear(
    one: jax.Array, two: jax.Array, three: jax.Array, expand1: Ints, expand2: Ints, expand3: Ints, sumdim: Ints,
    unroll_dim: int = 1,
) -> jax.Array:  # fmt: skip
    one, two, three = (jnp.expand_dims(x, tuple(by)) for x, by in ((one, expand1), (two, expand2), (three, expand3)))
    return jnp.sum(one * two * three, axis=tuple(sumdim))


def _each(given: Ints, n: int) -> list[int]:
    return list(given) * n if len(given) == 1 else list(given)


@lowers(aten.convolution, aten._convolution)
def convolution(
    x: jax.Array, weight: jax.Array, bias: jax.Array | None, stride: Ints, padding: Ints, dilation: Ints,
    transposed: bool, output_padding: Ints, groups: int, *_: Any,
) -> jax.Array:  # fmt: skip
    n = weight.ndim - 2
    stride, padding, dilation, output_padding = (_each(one, n) for one in (stride, padding, dilation, output_padding))
    windows, spread = stride, [1] * n
    edges = [(pad, pad) for pad in padding]
    if transposed:
        # The same as a convolution of the spread input with the mirrored kernel.
        ins, outs = weight.shape[:2]
        weight = jnp.flip(weight, range(2, n + 2)).reshape(groups, ins // groups, outs, *weight.shape[2:])
        weight = jnp.swapaxes(weight, 1, 2).reshape(groups * outs, ins // groups, *weight.shape[3:])
        windows, spread = [1] * n, stride
        reach = [step * (size - 1) for step, size in zip(dilation, weight.shape[2:], strict=True)]
        edges = [(r - p, r - p + more) for r, p, more in zip(reach, padding, output_padding, strict=True)]
    found = lax.conv_general_dilated(
        x, weight, windows, edges, spread, dilation, feature_group_count=groups, precision=precision(x)
    )
    return found if bias is None else found + bias.reshape(-1, *[1] * n)


@lowers(aten.convolution_backward)
def convolution_backward(
    grad: jax.Array, x: jax.Array, weight: jax.Array, bias_sizes: Any, stride: Ints, padding: Ints, dilation: Ints,
    transposed: bool, output_padding: Ints, groups: int, mask: Sequence[bool],
) -> tuple[jax.Array | None, ...]:  # fmt: skip
    def forward(x: jax.Array, weight: jax.Array) -> jax.Array:
        return convolution(x, weight, None, stride, padding, dilation, transposed, output_padding, groups)

    to_x, to_weight = jax.vjp(forward, x, weight)[1](grad)
    to_bias = grad.sum((0, *range(2, grad.ndim)))
    return tuple(one if wanted else None for one, wanted in zip((to_x, to_weight, to_bias), mask, strict=True))


def _scaled(x: jax.Array, sizes: Sequence[int], norm: int) -> jax.Array:
    """torch's numbers for norms: 0 is none, 1 by the root of n, 2 by n."""
    count = 1
    for size in sizes:
        count *= size
    return x if norm == 0 else x / x.real.dtype.type(count**0.5 if norm == 1 else count)


def _transform(x: jax.Array, dims: Ints, *, forward: bool) -> jax.Array:
    for dim in dims:
        x = jnp.fft.fft(x, axis=dim) if forward else jnp.fft.ifft(x, axis=dim, norm="forward")
    return x


@lowers(aten._fft_c2c)
def fft(x: jax.Array, dim: Ints, norm: int, forward: bool) -> jax.Array:
    return _scaled(_transform(x, dim, forward=forward), [x.shape[one] for one in dim], norm) if dim else x


@lowers(aten._fft_r2c)
def rfft(x: jax.Array, dim: Ints, norm: int, onesided: bool) -> jax.Array:
    sizes = [x.shape[one] for one in dim]
    if not onesided:
        return fft(x.astype(to_complex(x.dtype)), dim, norm, True)
    return _scaled(_transform(jnp.fft.rfft(x, axis=dim[-1]), dim[:-1], forward=True), sizes, norm)


@lowers(aten._fft_c2r)
def irfft(x: jax.Array, dim: Ints, norm: int, last: int) -> jax.Array:
    sizes = [x.shape[one] for one in dim[:-1]] + [last]
    x = _transform(x, dim[:-1], forward=False)
    return _scaled(jnp.fft.irfft(x, last, axis=dim[-1], norm="forward"), sizes, norm).astype(to_real(x.dtype))


@lowers(aten._cdist_forward)
def cdist(x: jax.Array, y: jax.Array, p: float, mode: int | None = None) -> jax.Array:
    difference = jnp.abs(x[..., :, None, :] - y[..., None, :, :])
    return _p_norm(difference, p)


@lowers(aten._cdist_backward)
def cdist_backward(grad: jax.Array, x: jax.Array, y: jax.Array, p: float, found: jax.Array) -> jax.Array:
    difference, found, grad = x[..., :, None, :] - y[..., None, :, :], found[..., None], grad[..., None]
    return jnp.sum(_p_norm_slope(difference, found, p) * grad, axis=-2)


def _p_norm(size: jax.Array, p: float) -> jax.Array:
    if p == 0:
        return jnp.sum(size != 0, axis=-1).astype(size.dtype)
    if p == float("inf"):
        return jnp.max(size, axis=-1, initial=0)
    return jnp.sum(size, axis=-1) if p == 1 else jnp.sum(size**p, axis=-1) ** (1 / p)


def _p_norm_slope(difference: jax.Array, found: jax.Array, p: float) -> jax.Array:
    size, sign = jnp.abs(difference), jnp.sign(difference)
    safe = jnp.where(found == 0, 1, found)
    if p == 0:
        slope = jnp.zeros_like(size)
    elif p == 1:
        slope = sign
    elif p == float("inf"):
        slope = sign * (size == found)
    else:
        slope = sign * jnp.where(size == 0, 0, jnp.where(size == 0, 1, size) ** (p - 1)) / safe ** (p - 1)
    return jnp.where(found == 0, 0, slope) if p > 1 else slope


@lowers(aten._pdist_forward)
def pdist(x: jax.Array, p: float = 2) -> jax.Array:
    row, column = jnp.triu_indices(x.shape[0], 1)
    return _p_norm(jnp.abs(x[row] - x[column]), p)


@lowers(aten._pdist_backward)
def pdist_backward(grad: jax.Array, x: jax.Array, p: float, found: jax.Array) -> jax.Array:
    row, column = jnp.triu_indices(x.shape[0], 1)
    share = _p_norm_slope(x[row] - x[column], found[:, None], p) * grad[:, None]
    return jnp.zeros_like(x).at[row].add(share).at[column].add(-share)


@lowers(aten.dist)
def dist(x: jax.Array, y: jax.Array, p: Scalar = 2) -> jax.Array:
    from polypath.torch.lowerings.reductions import vector_norm

    return vector_norm(jnp.subtract(x, y), p)
