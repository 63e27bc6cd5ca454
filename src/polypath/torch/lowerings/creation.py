"""Operators that make arrays: filled, counted, copied."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import Operand, Scalar, Shape, cast, default_float, dtype, is_inexact, result_type


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


@lowers(aten._to_copy)
def to_copy(x: jax.Array, *, dtype: Any = None, **_: Any) -> jax.Array:
    return x if dtype is None else cast(x, _jax_type(dtype))


def _jax_type(of: Any) -> Any:
    return dtype(of)


@lowers(torch.ops.prims.convert_element_type.default)
def convert(x: jax.Array, to: torch.dtype) -> jax.Array:
    """What Dynamo makes of an `item()` that it takes into a graph."""
    return cast(x, dtype(to))


@lowers(aten.clone, aten.contiguous)
def clone(x: jax.Array, *, memory_format: Any = None) -> jax.Array:
    return x


@lowers(aten.copy)
def copy(x: jax.Array, source: jax.Array, non_blocking: bool = False) -> jax.Array:
    return jnp.broadcast_to(cast(source, x.dtype), x.shape)
