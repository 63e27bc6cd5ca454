"""Operators that take and put elements by arrays of places.

A place out of bounds gives NaN (or the least integer) where torch's CPU raises: a program on the
devices cannot stop half way. What would be written there is dropped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import Operand, axis, cast, is_inexact, wide

Indices = Sequence[jax.Array | None]


def _is_mask(index: jax.Array | None) -> bool:
    return index is not None and index.dtype in (jnp.bool_, jnp.uint8)


def has_mask(indices: Sequence[Any]) -> bool:
    """Whether how much is taken depends on values."""
    return any(index is not None and str(index.dtype).rpartition(".")[2] in ("bool", "uint8") for index in indices)


def _places(indices: Indices) -> Any:
    return tuple(slice(None) if index is None else index for index in indices)


@lowers(aten.index.Tensor, aten._unsafe_index.Tensor)
def index(x: jax.Array, indices: Indices) -> jax.Array:
    return x.at[_places(indices)].get(mode="fill")


@lowers(aten._unsafe_masked_index)
def masked_index(x: jax.Array, mask: jax.Array, indices: Indices, fill: Operand) -> jax.Array:
    return jnp.where(mask, x.at[_places(indices)].get(mode="clip"), cast(fill, x.dtype))


@lowers(aten._unsafe_masked_index_put_accumulate)
def masked_index_put(x: jax.Array, mask: jax.Array, indices: Indices, values: jax.Array) -> jax.Array:
    inside = [None if at is None else jnp.clip(at, -size, size - 1) for at, size in zip(indices, x.shape, strict=False)]
    return x.at[_places(inside)].add(jnp.where(mask, values, 0))


@lowers(aten.index_put, aten._unsafe_index_put)
def index_put(x: jax.Array, indices: Indices, values: jax.Array, accumulate: bool = False, **_: Any) -> jax.Array:
    values = cast(values, x.dtype)
    if any(_is_mask(one) for one in indices):
        if values.size == 1 and len(indices) == 1 and indices[0] is not None:
            mask = indices[0].reshape(indices[0].shape + (1,) * (x.ndim - indices[0].ndim)) != 0
            return jnp.where(mask, x + values.reshape(()) if accumulate else values.reshape(()), x)
        indices = _spelled_out(x, indices, values)
    at = x.at[_places(indices)]
    return at.add(values, mode="drop") if accumulate else at.set(values, mode="drop")


def _spelled_out(x: jax.Array, indices: Indices, values: jax.Array) -> list[jax.Array | None]:
    """Masks as places. There are as many as values for them, the rest are out of bounds."""
    spelled: list[jax.Array | None] = []
    for one in indices:
        if not _is_mask(one):
            spelled.append(one)
            continue
        assert one is not None
        count = one.size
        if values.ndim and values.shape[0] > 1 and indices[0] is one:
            count = values.shape[0]
        elif values.size != 1 and len(indices) > 1:
            raise NotImplementedError(
                "index_put with a mask beside other indices has a shape that depends on values: "
                "use torch.where, or index with mask.nonzero()."
            )
        spelled.extend(jnp.nonzero(one, size=count, fill_value=max(x.shape, default=0)))
    return spelled


@lowers(aten.index_select)
def index_select(x: jax.Array, dim: int, at: jax.Array) -> jax.Array:
    if x.ndim == 0:
        return x
    return jnp.take(x, at.reshape(-1), axis=axis(dim, x.ndim), mode="fill")


@lowers(aten.index_copy)
def index_copy(x: jax.Array, dim: int, at: jax.Array, source: jax.Array) -> jax.Array:
    return _index_write(x, dim, at, source, "set")


@lowers(aten.index_add)
def index_add(x: jax.Array, dim: int, at: jax.Array, source: jax.Array, *, alpha: Operand = 1) -> jax.Array:
    return _index_write(x, dim, at, source * cast(alpha, source.dtype), "add")


def _index_write(x: jax.Array, dim: int, at: jax.Array, source: jax.Array, how: str) -> jax.Array:
    if x.ndim == 0:
        return _index_write(x.reshape(1), 0, at, source.reshape(-1), how).reshape(())
    source = cast(source, x.dtype)
    if source.ndim < x.ndim:
        source = source.reshape(source.shape + (1,) * (x.ndim - source.ndim))
    place = (slice(None),) * axis(dim, x.ndim) + (at.reshape(-1),)
    return getattr(x.at[place], how)(source, mode="drop")


@lowers(aten.index_fill.int_Scalar, aten.index_fill.int_Tensor)
def index_fill(x: jax.Array, dim: int, at: jax.Array, value: Operand) -> jax.Array:
    if x.ndim == 0:
        return index_fill(x.reshape(1), 0, at, value).reshape(())
    return x.at[(slice(None),) * axis(dim, x.ndim) + (at.reshape(-1),)].set(cast(value, x.dtype), mode="drop")


@lowers(aten.index_reduce)
def index_reduce(
    x: jax.Array, dim: int, at: jax.Array, source: jax.Array, reduce: str, *, include_self: bool = True
) -> jax.Array:
    if x.ndim == 0:
        return index_reduce(x.reshape(1), 0, at, source.reshape(-1), reduce, include_self=include_self).reshape(())
    shape = [1] * x.ndim
    shape[axis(dim, x.ndim)] = -1
    return scatter_reduce(
        x, dim, jnp.broadcast_to(at.reshape(shape), source.shape), source, reduce, include_self=include_self
    )


def _grid(dim: int, at: jax.Array) -> Any:
    """The places that an index array along one dimension names, of all dimensions."""
    return tuple(at if one == dim else lax.broadcasted_iota(at.dtype, at.shape, one) for one in range(at.ndim))


@lowers(aten.gather)
def gather(x: jax.Array, dim: int, at: jax.Array, *, sparse_grad: bool = False) -> jax.Array:
    if x.ndim == 0:
        return jnp.broadcast_to(x, at.shape)
    if at.ndim == 0:
        return gather(x, dim, at.reshape(1)).reshape(())
    if at.size == 0:
        return jnp.zeros(at.shape, x.dtype)
    return x.at[_grid(axis(dim, x.ndim), at)].get(mode="fill")


def _scatter(x: jax.Array, dim: int, at: jax.Array, source: Operand, how: str) -> jax.Array:
    if x.ndim == 0:
        one = source.reshape(-1) if isinstance(source, jax.Array) else source
        return _scatter(x.reshape(1), 0, at.reshape(-1), one, how).reshape(())
    if at.size == 0:
        return x
    if at.ndim == 0:
        at = at.reshape(1)
    source = cast(source, x.dtype)
    if source.ndim:
        source = source[tuple(slice(size) for size in at.shape)]
    return getattr(x.at[_grid(axis(dim, x.ndim), at)], how)(jnp.broadcast_to(source, at.shape), mode="drop")


@lowers(aten.scatter.src, aten.scatter.value)
def scatter(x: jax.Array, dim: int, at: jax.Array, source: Operand) -> jax.Array:
    return _scatter(x, dim, at, source, "set")


@lowers(aten.scatter.reduce, aten.scatter.value_reduce)
def scatter_with(x: jax.Array, dim: int, at: jax.Array, source: Operand, *, reduce: str) -> jax.Array:
    return _scatter(x, dim, at, source, {"add": "add", "multiply": "multiply"}[reduce])


@lowers(aten.scatter_add)
def scatter_add(x: jax.Array, dim: int, at: jax.Array, source: jax.Array) -> jax.Array:
    return _scatter(x, dim, at, source, "add")


@lowers(aten.scatter_reduce.two)
def scatter_reduce(
    x: jax.Array, dim: int, at: jax.Array, source: jax.Array, reduce: str, *, include_self: bool = True
) -> jax.Array:
    how = {"sum": "add", "prod": "multiply", "mean": "add", "amax": "max", "amin": "min"}[reduce]
    start = x
    if not include_self:
        neutral = {"add": 0, "multiply": 1, "max": _extreme(x, "min"), "min": _extreme(x, "max")}[how]
        start = _scatter(x, dim, at, neutral, "set")
    found = _scatter(start, dim, at, source, how)
    if reduce != "mean":
        return found
    count = _scatter((jnp.ones_like if include_self else jnp.zeros_like)(x), dim, at, 1, "add")
    count = jnp.maximum(count, 1)
    return found / count if is_inexact(x.dtype) else jnp.floor_divide(found, count)


def _extreme(x: jax.Array, which: str) -> Any:
    if is_inexact(x.dtype):
        return float("-inf") if which == "min" else float("inf")
    return which == "max" if x.dtype == jnp.bool_ else int(getattr(jnp.iinfo(x.dtype), which))


@lowers(aten.take)
def take(x: jax.Array, at: jax.Array) -> jax.Array:
    return jnp.take(x.reshape(-1), at, mode="fill") if x.size else jnp.zeros(at.shape, x.dtype)


@lowers(aten.put)
def put(x: jax.Array, at: jax.Array, source: jax.Array, accumulate: bool = False) -> jax.Array:
    place = x.reshape(-1).at[at.reshape(-1)]
    source = source.reshape(-1)
    return (place.add(source, mode="drop") if accumulate else place.set(source, mode="drop")).reshape(x.shape)


@lowers(aten.masked_scatter)
def masked_scatter(x: jax.Array, mask: jax.Array, source: jax.Array) -> jax.Array:
    x, mask = jnp.broadcast_arrays(x, mask)
    if source.size == 0:
        return x
    place = (jnp.cumsum(mask.reshape(-1)) - 1).reshape(mask.shape)
    return jnp.where(mask, jnp.take(source.reshape(-1), place, mode="clip"), x)


@lowers(aten.masked_scatter_backward)
def masked_scatter_backward(grad: jax.Array, mask: jax.Array, sizes: Sequence[int]) -> jax.Array:
    grad, mask = jnp.broadcast_arrays(grad, mask)
    count = math.prod(sizes)
    place = jnp.where(mask.reshape(-1), jnp.cumsum(mask.reshape(-1)) - 1, count)
    return jnp.zeros(count, grad.dtype).at[place].set(grad.reshape(-1), mode="drop").reshape(tuple(sizes))


@lowers(aten.nonzero_static)
def nonzero_static(x: jax.Array, *, size: int, fill_value: int = -1) -> jax.Array:
    if x.ndim == 0:
        return jnp.zeros((size, 0), jnp.int64)
    return jnp.stack(jnp.nonzero(x, size=size, fill_value=fill_value), -1).astype(jnp.int64)


@lowers(aten.embedding)
def embedding(
    weight: jax.Array, at: jax.Array, padding: int = -1, scale_by_freq: bool = False, sparse: bool = False
) -> jax.Array:
    return jnp.take(weight, at, axis=0, mode="fill")


@lowers(aten.embedding_dense_backward)
def embedding_backward(grad: jax.Array, at: jax.Array, count: int, padding: int, scale_by_freq: bool) -> jax.Array:
    grad_ = wide(grad).reshape(-1, grad.shape[-1])
    at = at.reshape(-1)
    if scale_by_freq:
        often = jnp.zeros(count, grad_.dtype).at[at].add(1)
        grad_ = grad_ / often[at][:, None]
    grad_ = jnp.where((at == padding)[:, None], 0, grad_)
    return jnp.zeros((count, grad.shape[-1]), grad_.dtype).at[at].add(grad_, mode="drop").astype(grad.dtype)


@lowers(aten.tril_indices)
def tril_indices(row: int, col: int, offset: int = 0, **_: Any) -> jax.Array:
    return jnp.stack(jnp.tril_indices(row, offset, col)).astype(jnp.int64)


@lowers(aten.triu_indices)
def triu_indices(row: int, col: int, offset: int = 0, **_: Any) -> jax.Array:
    return jnp.stack(jnp.triu_indices(row, offset, col)).astype(jnp.int64)


def _bags(offsets: jax.Array, count: int, include_last: bool) -> tuple[jax.Array, int]:
    """The bag of each place, where bags begin at `offsets`."""
    starts = offsets[:-1] if include_last else offsets
    return jnp.searchsorted(starts, jnp.arange(count), side="right") - 1, starts.shape[0]


@lowers(aten._embedding_bag, aten._embedding_bag_forward_only)
def embedding_bag(
    weight: jax.Array, at: jax.Array, offsets: jax.Array, scale_by_freq: bool = False, mode: int = 0,
    sparse: bool = False, per_sample_weights: jax.Array | None = None, include_last: bool = False, padding: int = -1,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:  # fmt: skip
    """Mode 0 sums, 1 takes the mean, 2 the most. Results: bags, the bag of each place, sizes, where maxima are."""
    bag, bags = _bags(offsets, at.shape[0], include_last)
    rows = jnp.take(weight, at, axis=0, mode="fill")
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[:, None]
    counts = (at != padding)[:, None]
    sizes = jnp.zeros(bags, at.dtype).at[bag].add(counts[:, 0].astype(at.dtype))
    sizes_all = jnp.pad(sizes, (0, int(include_last)))  # torch has a size for the end, too.
    shape = (bags, weight.shape[1])
    if mode == 2:
        largest = (
            jnp.full(shape, _extreme(weight, "min"), weight.dtype)
            .at[bag]
            .max(jnp.where(counts, rows, _extreme(weight, "min")))
        )
        first = jnp.where(counts & (rows == largest[bag]), jnp.arange(at.shape[0])[:, None], at.shape[0])
        place = jnp.full(shape, at.shape[0]).at[bag].min(first)
        found = jnp.where(place < at.shape[0], largest, 0)
        maxima = jnp.where(place < at.shape[0], at.at[place].get(mode="clip"), -1 if at.size == 0 else 0)
        return found, bag.astype(at.dtype), sizes_all, maxima.astype(at.dtype)
    found = jnp.zeros(shape, weight.dtype).at[bag].add(jnp.where(counts, rows, 0))
    if mode == 1:
        found = found / jnp.maximum(sizes, 1)[:, None].astype(found.dtype)
    return found, bag.astype(at.dtype), sizes_all, jnp.zeros(0, at.dtype)


@lowers(aten._embedding_bag_dense_backward)
def embedding_bag_backward(
    grad: jax.Array, at: jax.Array, bag: jax.Array, sizes: jax.Array, maxima: jax.Array, count: int,
    scale_by_freq: bool, mode: int, per_sample_weights: jax.Array | None, padding: int = -1,
) -> jax.Array:  # fmt: skip
    if mode == 2:
        columns = jnp.arange(grad.shape[1])
        full = (sizes[: grad.shape[0]] > 0)[:, None]
        return jnp.zeros((count, grad.shape[1]), grad.dtype).at[maxima, columns].add(jnp.where(full, grad, 0))
    rows = grad[bag]
    if mode == 1:
        rows = rows / jnp.maximum(sizes, 1)[bag][:, None].astype(grad.dtype)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights[:, None]
    return embedding_backward(rows, at, count, padding, scale_by_freq)


@lowers(aten._embedding_bag_per_sample_weights_backward)
def embedding_bag_weights_backward(
    grad: jax.Array, weight: jax.Array, at: jax.Array, offsets: jax.Array, bag: jax.Array, mode: int, padding: int = -1
) -> jax.Array:
    found = jnp.sum(grad[bag] * weight[at], axis=-1)
    return jnp.where(at == padding, 0, found)


@lowers(aten._embedding_bag_backward)
def embedding_bag_backward_any(
    grad: jax.Array, at: jax.Array, offsets: jax.Array, bag: jax.Array, sizes: jax.Array, maxima: jax.Array,
    count: int, scale_by_freq: bool, mode: int, sparse: bool, per_sample_weights: jax.Array | None, padding: int = -1,
) -> jax.Array:  # fmt: skip
    if sparse:
        raise NotImplementedError(
            "XLA has no sparse tensors, so embedding_bag has no sparse gradients: say sparse=False."
        )
    return embedding_bag_backward(grad, at, bag, sizes, maxima, count, scale_by_freq, mode, per_sample_weights, padding)
