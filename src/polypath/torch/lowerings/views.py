"""Operators that see an array otherwise, which are views in torch, and those that write through such a view."""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from polypath.torch.lowerings.table import aten, lowers, reads_strides
from polypath.torch.lowerings.types import Shape, axis, cast, dtype, is_contiguous


@lowers(aten.view, aten._unsafe_view, aten.reshape, aten.view_copy.default, aten._reshape_copy, aten._reshape_alias)
def view(x: jax.Array, shape: Shape | torch.dtype, strides: Any = None) -> jax.Array:
    return view_as(x, shape) if isinstance(shape, torch.dtype) else x.reshape(tuple(shape))


@lowers(aten.view_copy.dtype)
def view_as(x: jax.Array, to: torch.dtype) -> jax.Array:
    """The same bytes in another type; where its size differs, the last dimension does."""
    of = dtype(to)
    before, after = x.dtype.itemsize, of.itemsize
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    if np.issubdtype(x.dtype, np.complexfloating):
        x = jnp.stack([x.real, x.imag], -1).reshape(*x.shape[:-1], -1) if x.ndim else jnp.stack([x.real, x.imag])
        return view_as(x, to)
    if np.issubdtype(of, np.complexfloating):
        parts = view_as(x, torch.float32 if after == 8 else torch.float64)
        return jax.lax.complex(parts[..., 0::2], parts[..., 1::2])
    if of == jnp.bool_:
        return x.view(jnp.uint8) != 0
    if before == after:
        return jax.lax.bitcast_convert_type(x, of)
    if before > after:
        parts = jax.lax.bitcast_convert_type(x, of)
        return parts.reshape(*parts.shape[:-2], -1)
    times = after // before
    return jax.lax.bitcast_convert_type(x.reshape(*x.shape[:-1], x.shape[-1] // times, times), of)


@lowers(aten.permute, aten.permute_copy)
def permute(x: jax.Array, dims: Shape) -> jax.Array:
    return jnp.transpose(x, [axis(dim, x.ndim) for dim in dims])


@lowers(aten.transpose.int, aten.transpose_copy, aten.swapaxes)
def transpose(x: jax.Array, one: int, other: int) -> jax.Array:
    return jnp.swapaxes(x, one, other) if x.ndim else x


@lowers(aten.t, aten.t_copy)
def t(x: jax.Array) -> jax.Array:
    return x.T


@lowers(aten.expand, aten.expand_copy)
def expand(x: jax.Array, shape: Shape, *, implicit: bool = False) -> jax.Array:
    new = len(shape) - x.ndim
    full = [x.shape[at - new] if size == -1 else size for at, size in enumerate(shape)]
    return jnp.broadcast_to(x, full)


@lowers(aten.squeeze, aten.squeeze_copy)
def squeeze(x: jax.Array, dim: int | Shape | None = None) -> jax.Array:
    if x.ndim == 0:
        return x
    wanted = range(x.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    return jnp.squeeze(x, tuple({axis(one, x.ndim) for one in wanted if x.shape[one] == 1}))


@lowers(aten.unsqueeze, aten.unsqueeze_copy)
def unsqueeze(x: jax.Array, dim: int) -> jax.Array:
    return jnp.expand_dims(x, dim)


@lowers(aten.select, aten.select_copy)
def select(x: jax.Array, dim: int, index: int) -> jax.Array:
    return jax.lax.index_in_dim(x, index, axis(dim, x.ndim), keepdims=False)


def _bounds(size: int, start: int | None, end: int | None) -> tuple[int, int]:
    def within(at: int) -> int:
        return min(max(at + size if at < 0 else at, 0), size)

    first = within(0 if start is None else start)
    return first, max(first, within(size if end is None else end))


@lowers(aten.slice, aten.slice_copy)
def slice_of(x: jax.Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> jax.Array:
    dim = axis(dim, x.ndim)
    first, last = _bounds(x.shape[dim], start, end)
    return jax.lax.slice_in_dim(x, first, last, step, dim)


@lowers(aten.narrow, aten.narrow_copy)
def narrow(x: jax.Array, dim: int, start: int, length: int) -> jax.Array:
    dim = axis(dim, x.ndim)
    first = start + x.shape[dim] if start < 0 else start
    return jax.lax.slice_in_dim(x, first, first + length, 1, dim)


def _along(x: jax.Array, dim: int, index: Any) -> Any:
    return (slice(None),) * axis(dim, x.ndim) + (index,)


@lowers(aten.slice_scatter)
def slice_scatter(
    x: jax.Array, source: jax.Array, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> jax.Array:
    first, last = _bounds(x.shape[dim], start, end)
    return x.at[_along(x, dim, slice(first, last, step))].set(cast(source, x.dtype))


@lowers(aten.select_scatter)
def select_scatter(x: jax.Array, source: jax.Array, dim: int, index: int) -> jax.Array:
    size = x.shape[dim]
    if not -size <= index < size:
        raise IndexError(f"select_scatter(): index {index} is out of range for size {size} of dimension {dim}.")
    return x.at[_along(x, dim, index)].set(cast(source, x.dtype))


@lowers(aten.diagonal, aten.diagonal_copy)
def diagonal(x: jax.Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> jax.Array:
    return jnp.diagonal(x, offset, dim1, dim2)


@lowers(aten.diagonal_scatter)
def diagonal_scatter(x: jax.Array, source: jax.Array, offset: int = 0, dim1: int = 0, dim2: int = 1) -> jax.Array:
    moved = jnp.moveaxis(x, (dim1, dim2), (-2, -1))
    at = jnp.arange(source.shape[-1])
    moved = moved.at[..., at + max(-offset, 0), at + max(offset, 0)].set(cast(source, x.dtype))
    return jnp.moveaxis(moved, (-2, -1), (dim1, dim2))


def _places(size: Shape, stride: Shape, offset: int | None) -> np.ndarray[Any, Any]:
    at = np.full((), offset or 0, np.int64)
    for length, step in zip(size, stride, strict=True):
        at = at[..., None] + np.arange(length) * step
    return at.reshape(tuple(size))


def _memory_order(x: jax.Array, strides: Shape | None) -> tuple[int, ...]:
    """The dimensions as they lie in memory, outermost first.

    Raises:
        NotImplementedError: there are gaps or overlaps, so the array is not all that is in its memory.
    """
    if is_contiguous(x.shape, strides):
        return tuple(range(x.ndim))
    assert strides is not None
    order = tuple(sorted(range(x.ndim), key=lambda dim: (-strides[dim], dim)))
    if not is_contiguous([x.shape[dim] for dim in order], [strides[dim] for dim in order]):
        raise NotImplementedError(
            "as_strided of a tensor that is itself a view with gaps is not possible in a compiled program: "
            "call .contiguous() before it."
        )
    return order


@reads_strides(aten.as_strided, aten.as_strided_copy)
def as_strided(
    x: jax.Array, size: Shape, stride: Shape, offset: int | None = None, *, strides: Shape | None = None
) -> jax.Array:
    return jnp.transpose(x, _memory_order(x, strides)).reshape(-1)[_places(size, stride, offset)]


@reads_strides(aten.as_strided_scatter)
def as_strided_scatter(
    x: jax.Array, source: jax.Array, size: Shape, stride: Shape, offset: int | None = None, *,
    strides: Shape | None = None,
) -> jax.Array:  # fmt: skip
    order = _memory_order(x, strides)
    memory = jnp.transpose(x, order)
    put = memory.reshape(-1).at[_places(size, stride, offset)].set(cast(source, x.dtype))
    return jnp.transpose(put.reshape(memory.shape), tuple(int(one) for one in np.argsort(order)))


@lowers(aten.unfold, aten.unfold_copy)
def unfold(x: jax.Array, dim: int, size: int, step: int) -> jax.Array:
    if x.ndim == 0:
        return x.reshape(1)[:size]
    dim = axis(dim, x.ndim)
    starts = np.arange((x.shape[dim] - size) // step + 1) * step
    taken = jnp.take(x, starts[:, None] + np.arange(size), axis=dim)
    return jnp.moveaxis(taken, dim + 1, -1)


@lowers(aten.split.Tensor, aten.split_copy.Tensor, aten.unsafe_split.Tensor)
def split(x: jax.Array, size: int, dim: int = 0) -> list[jax.Array]:
    dim = axis(dim, x.ndim)
    if x.shape[dim] == 0:
        return [x]
    return [jax.lax.slice_in_dim(x, at, min(at + size, x.shape[dim]), 1, dim) for at in range(0, x.shape[dim], size)]


@lowers(aten.split_with_sizes, aten.split_with_sizes_copy, aten.unsafe_split_with_sizes)
def split_with_sizes(x: jax.Array, sizes: Shape, dim: int = 0) -> list[jax.Array]:
    ends = np.cumsum([0, *sizes])
    return [jax.lax.slice_in_dim(x, int(a), int(b), 1, axis(dim, x.ndim)) for a, b in itertools.pairwise(ends)]


@lowers(aten.unbind.int, aten.unbind_copy.int)
def unbind(x: jax.Array, dim: int = 0) -> list[jax.Array]:
    return [select(x, dim, at) for at in range(x.shape[dim])]


@lowers(aten.resize.default)
def resize(x: jax.Array, size: Shape, *, memory_format: Any = None) -> jax.Array:
    count, flat = math.prod(size), x.reshape(-1)
    return jnp.pad(flat[:count], (0, max(0, count - flat.size))).reshape(tuple(size))


@lowers(aten.view_as_real, aten.view_as_real_copy)
def view_as_real(x: jax.Array) -> jax.Array:
    return jnp.stack([x.real, x.imag], -1)


@lowers(aten.view_as_complex, aten.view_as_complex_copy)
def view_as_complex(x: jax.Array) -> jax.Array:
    return lax.complex(x[..., 0], x[..., 1])
