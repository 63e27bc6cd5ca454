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
import torch

from polypath.torch.dtypes import jax_dtype
from polypath.torch.errors import TorchError
from polypath.torch.forms import Form, Read, Write, contiguous, count, covers, extent, is_dense
from polypath.torch.programs import Ref
from polypath.torch.trace import trace

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


class Buffer:
    """The value of one storage.

    Reading never changes it. What writing changes is noted in the trace for as long as the new value waits for its
    program, and is undone should that program fail.
    """

    __slots__ = ("__weakref__", "form", "loaded", "ref", "sharding")

    def __init__(self, form: Form, ref: Ref, *, loaded: bool = False) -> None:
        self.form = form
        """The tensor that the value has the shape of: it has every element once."""
        self.ref = ref
        self.sharding: jax.sharding.Sharding | None = None
        """How the value is to be laid out, where that was said."""
        self.loaded = loaded
        """Whether the value is a file's bytes, which no tensor has shown yet."""
        ref.holders += 1

    def set(self, ref: Ref, form: Form | None = None) -> None:
        """Hold another value, of the same form if no other is given."""
        if self.sharding is not None:
            if ref.array is None:
                ref.sharding = self.sharding
            elif ref.array.sharding != self.sharding:  # From the host, say: others may hold it as it is.
                with jax.enable_x64(True):
                    ref = Ref(ref.shape, ref.dtype, jax.device_put(ref.array, self.sharding, may_alias=False))
        if ref.array is None:
            trace.changing(self, self.form, self.ref)
        self.restore(self.form if form is None else form, ref)

    def restore(self, form: Form, ref: Ref) -> None:
        """Hold this value, in this form."""
        old = self.ref
        ref.holders += 1  # First: if Ctrl-C comes in between, a value is held too often rather than not at all.
        self.form, self.ref = form, ref
        old.holders -= 1

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
    return buffer_of_storage(tensor.untyped_storage())


def buffer_of_storage(storage: torch.UntypedStorage) -> Buffer:
    return storage._polypath  # pyright: ignore


def tensor_of(ref: Ref, dtype: torch.dtype, strides: tuple[int, ...] | None = None) -> torch.Tensor:
    """A new tensor with this value, laid out by `strides` (contiguous if not said)."""
    shape = ref.shape
    plain = contiguous(shape)
    form = Form(shape, plain if strides is None else strides, 0, dtype)
    if form.strides == plain or is_dense(form):
        size = count(shape)
        buffer = Buffer(form, ref)
    else:  # Elements that overlap, or gaps between them: the storage is not in the tensor's shape.
        size = extent(form)
        flat = Form((size,), (1,), 0, dtype)
        zeros = _node(_Zeros((size,), jax_dtype(dtype)), (), (size,), jax_dtype(dtype))
        buffer = Buffer(flat, zeros)
        _write(buffer, form, ref)
    return join(_storage_of(buffer, size * dtype.itemsize), form)


def loaded_storage(ref: Ref) -> torch.UntypedStorage:
    """A storage of the device with these bytes, whose form is that of the first tensor that shows all of it."""
    size = count(ref.shape)
    return _storage_of(Buffer(Form(ref.shape, (1,), 0, torch.uint8), ref, loaded=True), size)


def storage_of_bytes(size: int = 0) -> torch.UntypedStorage:
    """A storage of the device with `size` bytes, which are 0."""
    return loaded_storage(_node(_Zeros((size,), jax_dtype(torch.uint8)), (), (size,), jax_dtype(torch.uint8)))


def storage_like(buffer: Buffer) -> torch.UntypedStorage:
    """Another storage with the same value."""
    form = buffer.form
    other = Buffer(form, buffer.ref, loaded=buffer.loaded)
    if buffer.sharding is not None:
        other.place(buffer.sharding)
    return _storage_of(other, count(form.shape) * form.dtype.itemsize)


def bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    """All of a storage, as a tensor of bytes."""
    return join(storage, Form((storage.nbytes(),), (1,), 0, torch.uint8))


class _Addresses:
    """Where storages are said to be: beyond all that a process can have, so that nobody can read there by mistake."""

    _FIRST: Final = 1 << 52
    _LAST: Final = 1 << 62
    _STEP: Final = 512

    def __init__(self) -> None:
        self._next = self._FIRST

    def new(self, size: int) -> int:
        """An address with this many bytes behind it that no other storage has; 0 where there are no bytes."""
        if not size:
            return 0
        if self._next + size > self._LAST:
            self._next = self._FIRST  # What was there first is gone by now.
        address = self._next
        self._next += -(-size // self._STEP) * self._STEP
        return address


_addresses: Final = _Addresses()


def _storage_of(buffer: Buffer, size: int) -> torch.UntypedStorage:
    """A storage without memory. Its address is for comparing: what shares one shares values, as on every device."""
    storage: Any = torch._C._construct_storage_from_data_pointer(_addresses.new(size), DEVICE, size)
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
    shown = Form(tuple(size), tuple(stride or contiguous(tuple(size))), offset, tensor.dtype)
    _give_form(buffer_of_storage(storage), shown)
    return _SET.redispatch(_CPU, tensor, storage, offset, size, stride or contiguous(tuple(size)))


def _give_form(buffer: Buffer, form: Form) -> None:
    """What was loaded as bytes is a tensor from here on: it can be sharded, and is not converted at each use."""
    if buffer.loaded and covers(form, buffer.form):
        buffer.loaded = False
        if form != buffer.form:
            buffer.set(_node(Read(buffer.form, form), (buffer.ref,), form.shape, jax_dtype(form.dtype)), form)


def replace(tensor: torch.Tensor, ref: Ref) -> None:
    """Give a tensor a storage of its own with this value, in the value's shape: others keep the old one."""
    new = tensor_of(ref, tensor.dtype)
    _SET.redispatch(_CPU, tensor, new.untyped_storage(), 0, ref.shape, contiguous(ref.shape))


def storage_size(tensor: torch.Tensor) -> int:
    """Elements that a tensor's storage has room for."""
    return tensor.untyped_storage().nbytes() // tensor.element_size()


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
    return _node(Read(buffer.form, form), (buffer.ref,), form.shape, jax_dtype(form.dtype))


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
    buffer.set(_node(Write(base, form), (buffer.ref, ref), base.shape, jax_dtype(base.dtype)))


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
