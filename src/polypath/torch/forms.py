"""How tensors lie in a storage: which of its elements each has.

And how these elements are read from the storage's value and written to it, as functions on arrays.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from polypath.torch.dtypes import jax_dtype


class Form(NamedTuple):
    """Which elements of a storage a tensor has, in which order."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor whose elements lie in order."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def is_dense(form: Form) -> bool:
    """Whether a tensor has every element from its first to its last once."""
    if 0 in form.shape:
        return True
    step = 1
    for stride, size in sorted(zip(form.strides, form.shape, strict=True)):
        if size != 1:
            if stride != step:
                return False
            step *= size
    return True


def covers(form: Form, base: Form) -> bool:
    """Whether a tensor shows all of the memory that another has, in any dtype."""
    if form.offset != base.offset or not is_dense(form):
        return False
    return count(form.shape) * form.dtype.itemsize == count(base.shape) * base.dtype.itemsize


class Read(NamedTuple):
    """A view's elements, from the value of the storage."""

    base: Form
    form: Form

    def __call__(self, value: Any) -> list[Any]:
        base, form = self
        if 0 in form.shape:
            return [jnp.zeros(form.shape, jax_dtype(form.dtype))]
        if base.dtype == form.dtype and (cut := _cut(base, form)) is not None:
            value = lax.slice(value, cut.start, cut.stop, cut.step)
            value = lax.transpose(lax.squeeze(value, cut.single), cut.order)
            return [lax.broadcast_in_dim(value, form.shape, cut.dims)]
        flat = _as_dtype(_flat(value, base), base.dtype, form.dtype)
        if form.strides == contiguous(form.shape):
            return [lax.slice(flat, (form.offset,), (form.offset + count(form.shape),)).reshape(form.shape)]
        return [flat[_places(form)]]


class Write(NamedTuple):
    """The value of the storage once a view's elements are these."""

    base: Form
    form: Form

    def __call__(self, value: Any, new: Any) -> list[Any]:
        base, form = self
        if base.dtype == form.dtype and (cut := _cut(base, form)) is not None and cut.once(form):
            back = np.argsort(cut.order)
            new = new.reshape([form.shape[j] for j in cut.dims])
            new = lax.expand_dims(lax.transpose(new, tuple(int(i) for i in back)), cut.single)
            where = tuple(slice(a, b, c) for a, b, c in zip(cut.start, cut.stop, cut.step, strict=True))
            return [value.at[where].set(new)]
        flat = _as_dtype(_flat(value, base), base.dtype, form.dtype)
        if form.strides == contiguous(form.shape):
            flat = lax.dynamic_update_slice(flat, new.reshape(-1), (form.offset,))
        else:
            flat = flat.at[_places(form)].set(new)
        return [_unflat(_as_dtype(flat, form.dtype, base.dtype), base)]


class _Cut(NamedTuple):
    """A view as a slice of the storage's value, transposed and spread."""

    start: tuple[int, ...]
    stop: tuple[int, ...]
    step: tuple[int, ...]
    single: tuple[int, ...]
    """Dimensions of the value that the view has not."""
    order: tuple[int, ...]
    dims: tuple[int, ...]
    """The view's dimensions that are there; the others have one element, or repeat."""

    def once(self, form: Form) -> bool:
        """Whether no element is in the view twice."""
        return all(j in self.dims or size == 1 for j, size in enumerate(form.shape))


def _cut(base: Form, form: Form) -> _Cut | None:
    """How a view is a slice; None where it is more than that (as a diagonal is, or another grouping)."""
    offset = form.offset - base.offset
    real = sorted((i for i, size in enumerate(base.shape) if size > 1), key=lambda i: -base.strides[i])
    starts = [0] * len(base.shape)
    for i in real:
        starts[i], offset = divmod(offset, base.strides[i])
        if starts[i] >= base.shape[i] or starts[i] < 0:
            return None
    if offset:
        return None
    stops = [start + 1 for start in starts]
    steps = [1] * len(base.shape)
    by_dim: dict[int, int] = {}
    dims: list[int] = []
    for j, (size, stride) in enumerate(zip(form.shape, form.strides, strict=True)):
        if size == 1 or stride == 0:
            continue
        for i in real:
            step, rest = divmod(stride, base.strides[i])
            if rest == 0 and step > 0 and starts[i] + (size - 1) * step < base.shape[i]:
                if i in by_dim:
                    return None
                by_dim[i] = len(dims)
                stops[i], steps[i] = starts[i] + (size - 1) * step + 1, step
                break
        else:
            return None
        dims.append(j)
    single = tuple(i for i in range(len(base.shape)) if i not in by_dim)
    kept = sorted(by_dim)
    order = sorted(range(len(kept)), key=lambda n: by_dim[kept[n]])
    return _Cut(tuple(starts), tuple(stops), tuple(steps), single, tuple(order), tuple(dims))


def _flat(value: Any, base: Form) -> Any:
    """A storage's elements in their order in memory."""
    order = sorted(range(len(base.shape)), key=lambda i: -base.strides[i])
    return lax.transpose(value, order).reshape(-1)


def _unflat(flat: Any, base: Form) -> Any:
    order = sorted(range(len(base.shape)), key=lambda i: -base.strides[i])
    value = flat.reshape([base.shape[i] for i in order])
    return lax.transpose(value, [int(i) for i in np.argsort(order)])


def _places(form: Form) -> Any:
    """Where each element of a view lies in the storage."""
    places = jnp.full(form.shape, form.offset, np.int64)
    for dim, stride in enumerate(form.strides):
        places += stride * lax.broadcasted_iota(np.int64, form.shape, dim)
    return places


def _as_dtype(flat: Any, old: torch.dtype, new: torch.dtype) -> Any:
    """The same memory, read as another dtype."""
    if old == new:
        return flat
    if old.is_complex:
        flat = jnp.stack([flat.real, flat.imag], -1).reshape(-1)
        return _as_dtype(flat, old.to_real(), new)
    if new.is_complex:
        pairs = _as_dtype(flat, old, new.to_real()).reshape(-1, 2)
        return lax.complex(pairs[:, 0], pairs[:, 1])
    if old == torch.bool:
        return _as_dtype(flat.astype(np.uint8), torch.uint8, new)
    if new == torch.bool:
        return _as_dtype(flat, old, torch.uint8) != 0
    if old.itemsize < new.itemsize:
        flat = flat.reshape(-1, new.itemsize // old.itemsize)
    return lax.bitcast_convert_type(flat, jax_dtype(new)).reshape(-1)


def count(shape: tuple[int, ...]) -> int:
    """Elements of a tensor of this shape."""
    return math.prod(shape)


def extent(form: Form) -> int:
    """Elements from the first to the last."""
    if 0 in form.shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(form.shape, form.strides, strict=True))
