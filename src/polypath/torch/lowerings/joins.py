"""Operators that move elements: joins, repetitions, mirrors, triangles, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from polypath.torch.lowerings.table import aten, lowers
from polypath.torch.lowerings.types import Scalar, Shape, axes, axis, cast, result_type


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
