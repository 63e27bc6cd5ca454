"""Operators that move elements and compute nothing: views, joins, padding, creation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np
import torch

from polypath.torch.lowerings.table import aten, lowers, reads_strides
from polypath.torch.lowerings.types import (
    Operand,
    Scalar,
    axes,
    axis,
    cast,
    default_float,
    dtype,
    is_contiguous,
    is_inexact,
    result_type,
)

Shape = Sequence[int]


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


@lowers(aten.cat, aten.concat, aten.concatenate)
def cat(tensors: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    of = result_type(*tensors)
    some = [one for one in tensors if one.shape != (0,)] or list(tensors[:1])
    return jnp.concatenate([cast(one, of) for one in some], axis(dim, some[0].ndim))


@lowers(aten.stack)
def stack(tensors: Sequence[jax.Array], dim: int = 0) -> jax.Array:
    of = result_type(*tensors)
    return jnp.stack([cast(one, of) for one in tensors], dim)


@lowers(aten.repeat)
def repeat(x: jax.Array, times: Shape) -> jax.Array:
    return jnp.tile(x, tuple(times))


@lowers(aten.repeat_interleave.self_int)
def repeat_interleave(x: jax.Array, times: int, dim: int | None = None, *, output_size: Any = None) -> jax.Array:
    return jnp.repeat(x, times, axis=dim)


@lowers(aten.flip)
def flip(x: jax.Array, dims: Shape) -> jax.Array:
    return jnp.flip(x, axes(dims, x.ndim)) if dims else x


@lowers(aten.roll)
def roll(x: jax.Array, shifts: Shape, dims: Shape = ()) -> jax.Array:
    return jnp.roll(x, tuple(shifts), tuple(dims)) if dims else jnp.roll(x, shifts[0] if shifts else 0)


@lowers(aten.tril)
def tril(x: jax.Array, diagonal: int = 0) -> jax.Array:
    return jnp.tril(x, diagonal)


@lowers(aten.triu)
def triu(x: jax.Array, diagonal: int = 0) -> jax.Array:
    return jnp.triu(x, diagonal)


@lowers(aten.constant_pad_nd)
def constant_pad(x: jax.Array, pad: Shape, value: Scalar = 0) -> jax.Array:
    edges = [(0, 0, 0)] * (x.ndim - len(pad) // 2)
    edges += [(pad[at], pad[at + 1], 0) for at in range(len(pad) - 2, -2, -2)]
    if any(low + size + high < 0 for (low, high, _), size in zip(edges, x.shape, strict=True)):
        raise ValueError(f"Padding {list(pad)} takes more than there is from a tensor of shape {list(x.shape)}.")
    return jax.lax.pad(x, cast(value, x.dtype), edges)


def _given(to: torch.dtype | None, value: Scalar | None = None) -> np.dtype[Any]:
    if to is not None:
        return dtype(to)
    return default_float() if value is None else result_type(value)


@lowers(aten.full.default)
def full(size: Shape, value: Scalar, *, dtype: torch.dtype | None = None) -> jax.Array:
    return jnp.broadcast_to(cast(value, _given(dtype, value)), tuple(size))


@lowers(aten.scalar_tensor)
def scalar_tensor(value: Scalar, *, dtype: torch.dtype | None = None) -> jax.Array:
    return cast(value, _given(dtype))


@lowers(aten.zeros.default, aten.empty.memory_format, aten._efficientzerotensor.default)
def zeros(size: Shape, *, dtype: torch.dtype | None = None, memory_format: Any = None) -> jax.Array:
    return jnp.zeros(tuple(size), _given(dtype))


@lowers(aten.empty_permuted, aten.empty_strided)
def empty_strided(size: Shape, layout: Shape, *, dtype: torch.dtype | None = None) -> jax.Array:
    return jnp.zeros(tuple(size), _given(dtype))


@lowers(aten.ones.default)
def ones(size: Shape, *, dtype: torch.dtype | None = None) -> jax.Array:
    return jnp.ones(tuple(size), _given(dtype))


def _like(x: jax.Array, to: torch.dtype | None) -> np.dtype[Any]:
    return x.dtype if to is None else dtype(to)


@lowers(aten.full_like)
def full_like(x: jax.Array, value: Scalar, *, dtype: torch.dtype | None = None, memory_format: Any = None) -> jax.Array:
    return jnp.broadcast_to(cast(value, _like(x, dtype)), x.shape)


@lowers(aten.zeros_like, aten.empty_like)
def zeros_like(x: jax.Array, *, dtype: torch.dtype | None = None, memory_format: Any = None) -> jax.Array:
    return jnp.zeros(x.shape, _like(x, dtype))


@lowers(aten.ones_like)
def ones_like(x: jax.Array, *, dtype: torch.dtype | None = None, memory_format: Any = None) -> jax.Array:
    return jnp.ones(x.shape, _like(x, dtype))


@lowers(aten.new_empty, aten.new_zeros)
def new_zeros(x: jax.Array, size: Shape, *, dtype: torch.dtype | None = None) -> jax.Array:
    return jnp.zeros(tuple(size), _like(x, dtype))


@lowers(aten.new_ones)
def new_ones(x: jax.Array, size: Shape, *, dtype: torch.dtype | None = None) -> jax.Array:
    return jnp.ones(tuple(size), _like(x, dtype))


@lowers(aten.new_full)
def new_full(x: jax.Array, size: Shape, value: Scalar, *, dtype: torch.dtype | None = None) -> jax.Array:
    return jnp.broadcast_to(cast(value, _like(x, dtype)), tuple(size))


@lowers(aten.new_empty_strided)
def new_empty_strided(x: jax.Array, size: Shape, stride: Shape, *, dtype: torch.dtype | None = None) -> jax.Array:
    return jnp.zeros(tuple(size), _like(x, dtype))


@lowers(aten.fill)
def fill(x: jax.Array, value: Operand) -> jax.Array:
    return jnp.broadcast_to(cast(value, x.dtype), x.shape)


@lowers(aten.arange.default)
def arange(end: Scalar, *, dtype: torch.dtype | None = None) -> jax.Array:
    return arange_step(0, end, dtype=dtype)


@lowers(aten.arange.start)
def arange_start(start: Scalar, end: Scalar, *, dtype: torch.dtype | None = None) -> jax.Array:
    return arange_step(start, end, dtype=dtype)


@lowers(aten.arange.start_step)
def arange_step(start: Any, end: Any, step: Any = 1, *, dtype: torch.dtype | None = None) -> jax.Array:
    whole = all(isinstance(one, int) for one in (start, end, step))
    to = np.dtype(np.int64) if whole and dtype is None else _given(dtype)
    if not is_inexact(to):
        start, end, step = int(start), int(end), int(step)
    count = max(0, math.ceil((end - start) / step))
    if not is_inexact(to):
        return start + step * jax.lax.iota(to, count)
    return (start + step * jax.lax.iota(jnp.float64, count)).astype(to)


@lowers(aten.linspace.default)
def linspace(start: Scalar, end: Scalar, steps: int, *, dtype: torch.dtype | None = None) -> jax.Array:
    to = _given(dtype)
    if steps < 2:
        return jnp.full((steps,), start).astype(to)
    at = jax.lax.iota(jnp.int64, steps)
    step: Any = (end - start) / (steps - 1)  # type: ignore[operator]
    return jnp.where(at < steps // 2, start + step * at, end - step * (steps - 1 - at)).astype(to)


@lowers(aten.eye)
def eye(n: int, m: int | None = None, *, dtype: torch.dtype | None = None) -> jax.Array:
    return jnp.eye(n, m, dtype=_given(dtype))


def _mirrored(at: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    return size - 1 - np.abs(size - 1 - np.abs(at))


def _nearest(at: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    return np.clip(at, 0, size - 1)


_MODES: Final = {"reflection_pad": _mirrored, "replication_pad": _nearest}


def _edge_pad(inside: Any) -> Any:
    def lowering(x: jax.Array, pad: Shape) -> jax.Array:
        for back in range(len(pad) // 2):
            dim, (low, high) = x.ndim - 1 - back, pad[2 * back : 2 * back + 2]
            size = x.shape[dim]
            x = jnp.take(x, inside(np.arange(-low, size + high), size), axis=dim)
        return x

    return lowering


def _backward(forward: Any) -> Any:
    return lambda grad, x, pad: jax.vjp(lambda x: forward(x, pad), x)[1](grad)[0]


for _name, _inside in _MODES.items():
    for _n in (1, 2, 3):
        lowers(getattr(aten, f"{_name}{_n}d"))(_edge_pad(_inside))
        lowers(getattr(aten, f"{_name}{_n}d_backward"))(_backward(_edge_pad(_inside)))


@lowers(aten.resize.default)
def resize(x: jax.Array, size: Shape, *, memory_format: Any = None) -> jax.Array:
    count, flat = math.prod(size), x.reshape(-1)
    return jnp.pad(flat[:count], (0, max(0, count - flat.size))).reshape(tuple(size))
