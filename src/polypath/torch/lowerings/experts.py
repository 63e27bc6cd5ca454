"""Products of matrices by groups of rows or columns: what the experts of a mixture are made of.

`offsets` says where each group ends. transformers has an operator of its own for where torch's cannot be compiled: a
loop over the groups, with their ends read from the device, which no program can do; here it is the same product.
"""

from __future__ import annotations

from typing import Any, Final

import jax
import jax.numpy as jnp
import torch
from jax import lax

from polypath.torch.lowerings.matmul import precision, product
from polypath.torch.lowerings.table import Lowering, aten, lowers
from polypath.torch.lowerings.types import dtype

_INNER: Final = lax.RaggedDotDimensionNumbers((((1,), (0,)), ((), ())), [1], [])
"""Groups along what is summed over: a matrix for each group."""


def rows(x: jax.Array, matrices: jax.Array, offsets: jax.Array) -> jax.Array:
    """Each group of rows by its own matrix; zeros after the last group."""
    return lax.ragged_dot(x, matrices, _sizes(offsets), precision=precision(x))


def _inner(x: jax.Array, y: jax.Array, offsets: jax.Array) -> jax.Array:
    return lax.ragged_dot_general(x, y, _sizes(offsets), _INNER, precision=precision(x))


def _sizes(offsets: jax.Array) -> jax.Array:
    return jnp.diff(offsets, prepend=0).astype(jnp.int32)


@lowers(aten._grouped_mm)
def grouped_mm(
    x: jax.Array,
    y: jax.Array,
    offs: jax.Array | None = None,
    bias: jax.Array | None = None,
    out_dtype: torch.dtype | None = None,
) -> jax.Array:
    if offs is None:
        found = product(x, y)
    elif x.ndim == 2:
        found = rows(x, y, offs) if y.ndim == 3 else _inner(x, y, offs)
    else:
        found = jnp.swapaxes(rows(y.T, jnp.swapaxes(x, 1, 2), offs), 0, 1)
    if bias is not None:
        found = found + bias
    return found if out_dtype is None else found.astype(dtype(out_dtype))


def _backward(x: jax.Array, matrices: jax.Array, offsets: jax.Array, grad: jax.Array) -> tuple[jax.Array, jax.Array]:
    return rows(grad, jnp.swapaxes(matrices, 1, 2), offsets), _inner(x.T, grad, offsets)


BY_NAME: Final[dict[str, Lowering]] = {
    "transformers::grouped_mm_fallback": rows,
    "transformers::grouped_mm_fallback_backward": _backward,
}
"""Operators of other packages, which are there only once these are imported."""


def find(operator: Any) -> Lowering | None:
    """The lowering of an operator that is not torch's own."""
    return BY_NAME.get(operator._schema.name)
