"""Operators about what tensors hold, which are no functions on arrays: to make, fill, copy, resize and read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import jax.numpy as jnp
import torch
from torch._ops import OpOverload

from polypath.torch.buffers import NAME, place_like, read, replace, set_, tensor_of, view
from polypath.torch.dtypes import jax_dtype
from polypath.torch.kernels.transfers import Fit, copy_, download, upload
from polypath.torch.programs import Ref
from polypath.torch.trace import trace

aten: Final = torch.ops.aten


class _Full(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any

    def __call__(self, value: Any) -> list[Any]:
        return [jnp.full(self.shape, value, self.dtype)]


def _full(shape: Sequence[int], value: complex, dtype: torch.dtype | None, strides: Any = None) -> torch.Tensor:
    dtype = dtype or torch.get_default_dtype()
    form = _Full(tuple(shape), jax_dtype(dtype))
    run: Any = form
    numbers = [Ref((), None, value)] if isinstance(value, float | complex) else []
    if not numbers:
        run = _Constant(form, int(value.real))
    ref = trace.add(run, run, numbers, [(form.shape, form.dtype)])[0]
    return tensor_of(ref, dtype, strides)


class _Constant(NamedTuple):
    form: _Full
    value: int

    def __call__(self) -> list[Any]:
        return self.form(self.value)


def _empty(
    size: Sequence[int],
    *,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    **_: Any,
) -> torch.Tensor:
    strides = None
    if memory_format not in (None, torch.contiguous_format, torch.preserve_format):
        strides = torch.empty(size, device="meta", memory_format=memory_format).stride()
    return _full(size, 0, dtype, strides)


def _empty_strided(
    size: Sequence[int], stride: Sequence[int], *, dtype: torch.dtype | None = None, **_: Any
) -> torch.Tensor:
    return _full(size, 0, dtype, tuple(stride))


def _fill(tensor: torch.Tensor, value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return copy_(tensor, value)
    return copy_(tensor, _full((), value, tensor.dtype))


def _zero(tensor: torch.Tensor) -> torch.Tensor:
    return _fill(tensor, 0)


def _item(tensor: torch.Tensor) -> Any:
    return download(tensor, aten._local_scalar_dense.default).item()


def _resize(
    tensor: torch.Tensor, size: Sequence[int], *, memory_format: torch.memory_format | None = None
) -> torch.Tensor:
    """Room for `size` elements: those that were there stay, in their order in memory."""
    if tuple(tensor.shape) == tuple(size):
        return tensor
    old = download(tensor, aten.resize_.default)
    replace(tensor, upload(old.clone().resize_(tuple(size))))
    return tensor


def _restride(
    tensor: torch.Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> torch.Tensor:
    offset = tensor.storage_offset() if storage_offset is None else storage_offset
    return set_(tensor, tensor.untyped_storage(), int(offset), size, stride)


def _clone(tensor: torch.Tensor, *, memory_format: torch.memory_format | None = None) -> torch.Tensor:
    strides = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    strides = strides.clone(memory_format=memory_format or torch.preserve_format).stride()
    return place_like(tensor_of(read(tensor), tensor.dtype, strides), tensor)


def _to_copy(
    tensor: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | None = None,
    memory_format: torch.memory_format | None = None,
    **_: Any,
) -> torch.Tensor:
    dtype = dtype or tensor.dtype
    device = tensor.device if device is None else torch.device(device)
    if device.type != NAME:
        return download(tensor, aten._to_copy.default).to(device=device, dtype=dtype, copy=True)
    if tensor.device.type != NAME and dtype.itemsize <= tensor.dtype.itemsize:
        tensor = tensor.to(dtype)  # Here, so that less has to be sent.
    source = tensor if tensor.device.type == NAME else tensor_of(upload(tensor), tensor.dtype)
    strides = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    strides = strides.clone(memory_format=memory_format or torch.preserve_format).stride()
    ref = read(source)
    if dtype != tensor.dtype:
        fit = Fit(tuple(tensor.shape), jax_dtype(dtype))
        ref = trace.add(fit, fit, [ref], [(fit.shape, fit.dtype)])[0]
    return place_like(tensor_of(ref, dtype, strides), source)


def _copy_from(source: torch.Tensor, target: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    return copy_(target, source)


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one.shape == other.shape and bool((one == other).all().item())


def _no_nested_tensors(tensor: torch.Tensor, mask: torch.Tensor) -> bool:
    """Whether TransformerEncoder may make a nested tensor of a padded one."""
    return False


def _record_stream(tensor: torch.Tensor, stream: torch.Stream) -> None:
    """Do nothing: memory is not used again before what was asked for it is done."""


OPERATORS: Final[dict[OpOverload, Callable[..., Any]]] = {
    aten.as_strided_.default: _restride,
    aten._unsafe_view.default: view,  # It says that it is none, and `out=` variants write to it.
    aten.copy_.default: copy_,
    aten._copy_from.default: _copy_from,
    aten._copy_from_and_resize.default: _copy_from,
    aten._to_copy.default: _to_copy,
    aten.clone.default: _clone,
    aten.empty.memory_format: _empty,
    aten.empty_strided.default: _empty_strided,
    aten.fill_.Scalar: _fill,
    aten.fill_.Tensor: _fill,
    aten.zero_.default: _zero,
    aten.resize_.default: _resize,
    aten._local_scalar_dense.default: _item,
    aten.equal.default: _equal,
    aten.record_stream.default: _record_stream,
    aten._nested_tensor_from_mask_left_aligned.default: _no_nested_tensors,
}
"""How each is done."""
