"""The storages of the device's tensors: which value each holds, and how views read and write it.

A tensor of the device is a plain `torch.Tensor`. Its storage has no memory; a `Buffer` hangs on it instead, for
as long as torch keeps the storage, and holds the value of all of it: an array in the shape of the tensor that
it was made for. Tensors that share a storage (views) read the buffer through their sizes, strides and offset,
and write it through them: so what is done in place to one is seen by all, as on every device of torch.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import lax

from polypath.torch.dtypes import jax_dtype
from polypath.torch.trace import Ref, TorchError, trace

NAME: Final = "polypath"
DEVICE: Final = torch.device("privateuseone:0")

_CPU: Final = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
"""Whose kernels of `set_`, `as_strided` and `view` serve any device: they touch no memory."""
_SET: Final = torch.ops.aten.set_.source_Storage_storage_offset


def check_index(device: torch.device) -> None:
    """Refuse a device of this kind that there is not.

    Raises:
        TorchError: its index is not 0.
    """
    if device.type == NAME and device.index:
        raise TorchError(
            f"There is no {NAME}:{device.index}: the one device, {NAME}:0, stands for all devices of the cluster; say "
            "how a model or a tensor lies over them with polypath.torch.shard() or polypath.torch.fsdp()."
        )


class Form(NamedTuple):
    """Which elements of a storage a tensor has, in which order."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    dtype: torch.dtype


class Buffer:
    """The value of one storage."""

    __slots__ = ("form", "ref", "sharding")

    def __init__(self, form: Form, ref: Ref) -> None:
        self.form = form
        """The tensor that the value has the shape of: it has every element once."""
        self.ref = ref
        self.sharding: jax.sharding.Sharding | None = None
        """How the value is to be laid out, where that was said."""
        ref.holders += 1

    def set(self, ref: Ref) -> None:
        """Hold another value of the same form."""
        if self.sharding is not None:
            if ref.array is None:
                ref.sharding = self.sharding
            elif ref.array.sharding != self.sharding:  # From the host, say: others may hold it as it is.
                with jax.enable_x64(True):
                    ref = Ref(ref.shape, ref.dtype, jax.device_put(ref.array, self.sharding))
        ref.holders += 1
        self.ref.holders -= 1
        self.ref = ref

    def place(self, sharding: jax.sharding.Sharding) -> None:
        """Have this and all later values laid out so."""
        self.sharding = sharding
        if self.ref.array is None:
            self.ref.sharding = sharding

    def __del__(self) -> None:
        self.ref.holders -= 1


def form_of(tensor: torch.Tensor) -> Form:
    return Form(tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset()), tensor.dtype)


def buffer_of(tensor: torch.Tensor) -> Buffer:
    """What a tensor of the device reads and writes."""
    return tensor.untyped_storage()._polypath  # pyright: ignore


def tensor_of(ref: Ref, dtype: torch.dtype, strides: tuple[int, ...] | None = None) -> torch.Tensor:
    """A new tensor with this value, laid out by `strides` (contiguous if not said)."""
    shape = ref.shape
    if strides is None:
        strides = contiguous(shape)
    form = Form(shape, strides, 0, dtype)
    size = _extent(form)
    if size != _count(shape):  # Elements that overlap, or gaps between them: the storage is not in the tensor's shape.
        flat = Form((size,), (1,), 0, dtype)
        zeros = _node(_Zeros((size,), jax_dtype(dtype)), (), (size,), jax_dtype(dtype))
        buffer = Buffer(flat, zeros)
        _write(buffer, form, ref)
    else:
        buffer = Buffer(form, ref)
    return join(_storage_of(buffer, size * dtype.itemsize), form)


def storage_of(ref: Ref, dtype: torch.dtype) -> torch.UntypedStorage:
    """A storage of the device with this value."""
    return _storage_of(
        Buffer(Form(ref.shape, contiguous(ref.shape), 0, dtype), ref), _count(ref.shape) * dtype.itemsize
    )


def storage_like(buffer: Buffer) -> torch.UntypedStorage:
    """Another storage with the same value."""
    form = buffer.form
    other = Buffer(form, buffer.ref)
    if buffer.sharding is not None:
        other.place(buffer.sharding)
    return _storage_of(other, _count(form.shape) * form.dtype.itemsize)


def bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    """All of a storage, as a tensor of bytes."""
    return join(storage, Form((storage.nbytes(),), (1,), 0, torch.uint8))


def _storage_of(buffer: Buffer, size: int) -> torch.UntypedStorage:
    storage: Any = torch._C._construct_storage_from_data_pointer(0, DEVICE, size)
    storage._polypath = buffer
    return storage


def join(storage: torch.UntypedStorage, form: Form) -> torch.Tensor:
    """A tensor of the device that shows these elements of a storage."""
    tensor = torch._C._acc.create_empty_tensor((0,), form.dtype)  # pyright: ignore
    _SET.redispatch(_CPU, tensor, storage, form.offset, form.shape, form.strides)
    return tensor


def as_strided(
    tensor: torch.Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None
) -> torch.Tensor:
    """A view: the same storage, other elements of it."""
    return torch.ops.aten.as_strided.default.redispatch(_CPU, tensor, size, stride, storage_offset)


def view(tensor: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """A view in another shape."""
    return torch.ops.aten.view.default.redispatch(_CPU, tensor, size)


def set_(
    tensor: torch.Tensor, storage: torch.UntypedStorage, offset: int, size: Sequence[int], stride: Sequence[int] = ()
) -> torch.Tensor:
    """Have a tensor show another storage."""
    if not hasattr(storage, "_polypath"):
        raise TorchError("A tensor of the cluster was given memory that is elsewhere; copy its values with copy_().")
    return _SET.redispatch(_CPU, tensor, storage, offset, size, stride or contiguous(tuple(size)))


def replace(tensor: torch.Tensor, ref: Ref) -> None:
    """Give a tensor a storage of its own with this value, in the value's shape: others keep the old one."""
    new = tensor_of(ref, tensor.dtype)
    _SET.redispatch(_CPU, tensor, new.untyped_storage(), 0, ref.shape, contiguous(ref.shape))


def storage_size(tensor: torch.Tensor) -> int:
    """Elements that a tensor's storage has room for."""
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a tensor whose elements lie in order."""
    strides: list[int] = []
    step = 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def place_like(tensor: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """Have a new tensor laid out as `model` is said to be, where it has the same shape."""
    sharding = buffer_of(model).sharding
    if sharding is not None and tensor.shape == model.shape:
        buffer_of(tensor).place(sharding)
    return tensor


# --- Reading and writing ----------------------------------------------------------------------


def read(tensor: torch.Tensor) -> Ref:
    """A tensor's value now, in its shape."""
    return _seen(tensor, _stored(tensor))


def _seen(tensor: torch.Tensor, ref: Ref) -> Ref:
    """A value as a tensor sees what is stored, or the other way round: `conj()` and `imag` only mark their views."""
    if not (tensor.is_conj() or tensor.is_neg()):
        return ref
    return _node(_Marked(tensor.is_conj(), tensor.is_neg()), (ref,), ref.shape, ref.dtype)


def _stored(tensor: torch.Tensor) -> Ref:
    buffer = buffer_of(tensor)
    form = form_of(tensor)
    if form == buffer.form:
        return buffer.ref
    if form.shape == buffer.form.shape and form.dtype == buffer.form.dtype and form.offset == 0:
        matters = [i for i, size in enumerate(form.shape) if size != 1]
        if 0 in form.shape or all(form.strides[i] == buffer.form.strides[i] for i in matters):
            return buffer.ref
    ref = _node(_Read(buffer.form, form), (buffer.ref,), form.shape, jax_dtype(form.dtype))
    if _covers(form, buffer.form) and form.dtype != buffer.form.dtype:  # What was loaded as bytes is used as numbers.
        buffer.form = form
        buffer.set(ref)
    return ref


def _covers(form: Form, base: Form) -> bool:
    if form.offset or form.strides != contiguous(form.shape):
        return False
    return _count(form.shape) * form.dtype.itemsize == _count(base.shape) * base.dtype.itemsize


def write(tensor: torch.Tensor, ref: Ref) -> None:
    """Put a value of a tensor's shape and dtype where the tensor is."""
    assert ref.shape == tuple(tensor.shape), (ref.shape, tensor.shape)
    ref = _seen(tensor, ref)
    buffer, form = buffer_of(tensor), form_of(tensor)
    if form == buffer.form:
        buffer.set(ref)
    else:
        _write(buffer, form, ref)


def _write(buffer: Buffer, form: Form, ref: Ref) -> None:
    if 0 in form.shape:
        return
    base = buffer.form
    buffer.set(_node(_Write(base, form), (buffer.ref, ref), base.shape, jax_dtype(base.dtype)))


def _node(run: Any, inputs: Sequence[Ref], shape: tuple[int, ...], dtype: Any) -> Ref:
    key: Hashable = run
    return trace.add(run, key, inputs, [(shape, dtype)])[0]


class _Marked(NamedTuple):
    conjugate: bool
    negative: bool

    def __call__(self, value: Any) -> list[Any]:
        value = jnp.conj(value) if self.conjugate else value
        return [-value if self.negative else value]


class _Zeros(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any

    def __call__(self) -> list[Any]:
        return [jnp.zeros(self.shape, self.dtype)]


class _Read(NamedTuple):
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
            return [lax.slice(flat, (form.offset,), (form.offset + _count(form.shape),)).reshape(form.shape)]
        return [flat[_places(form)]]


class _Write(NamedTuple):
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


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _extent(form: Form) -> int:
    """Elements from the first to the last."""
    if 0 in form.shape:
        return 0
    return 1 + sum((size - 1) * stride for size, stride in zip(form.shape, form.strides, strict=True))
