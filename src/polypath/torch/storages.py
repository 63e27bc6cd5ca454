"""What torch asks of a storage or a tensor as memory: to save, load, pickle, copy and exchange it.

All of these read the value as it lies on the devices and put it in order here, so that no program has to gather a
sharded value on each device, and nothing that is read changes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.utils import dlpack
from torch.utils.dlpack import DLDeviceType

from polypath.torch import buffers
from polypath.torch.buffers import NAME, Buffer
from polypath.torch.kernels import transfers


def register() -> None:
    """Have torch's functions know storages and tensors of the device; once."""
    torch.serialization.register_package(0, _tag, _load)
    _amend(torch.UntypedStorage, "clone", lambda storage: buffers.storage_like(storage._polypath))
    _amend(torch.UntypedStorage, "cpu", lambda storage: fetched(storage._polypath))
    _amend(torch.UntypedStorage, "_write_file", lambda storage, *args: fetched(storage._polypath)._write_file(*args))
    _amend(torch.UntypedStorage, "_set_from_file", _read_file)
    _amend(torch.Tensor, "__dlpack__", _to_dlpack)
    _amend(torch.Tensor, "__dlpack_device__", lambda tensor: (DLDeviceType.kDLCPU, 0))
    for module in (dlpack, torch):
        _amend(module, "to_dlpack", lambda tensor: tensor.__dlpack__())
    _amend(torch.UntypedStorage, "new", lambda storage: buffers.storage_of_bytes(0))
    _make_storages()


def _make_storages() -> None:
    """Have `torch.UntypedStorage(size or bytes, device="polypath")` give a storage of the device.

    torch's own constructor asks C++ for an allocator of the device. There is none, torch does not look, and the process
    would end.
    """
    original: Any = torch.UntypedStorage.__new__

    @functools.wraps(original)
    def __new__(cls: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        device = kwargs.get("device")
        where = None if device is None else torch.device(device)
        if where is None or where.type != NAME:
            return original(cls, *args, **kwargs)
        buffers.check_index(where)
        data = args[0] if args else 0
        if isinstance(data, int):
            return buffers.storage_of_bytes(data)
        return buffers.loaded_storage(transfers.upload(torch.tensor(list(data), dtype=torch.uint8)))

    torch.UntypedStorage.__new__ = __new__


def fetched(buffer: Buffer) -> torch.UntypedStorage:
    """A storage of torch's CPU with the same bytes; waits for them."""
    values = transfers.fetch(buffer.ref, "UntypedStorage.cpu")
    strides = buffer.form.strides
    order = sorted(range(len(strides)), key=lambda dim: -strides[dim])
    return values.permute(order).contiguous().untyped_storage()


def _amend(owner: Any, name: str, ours: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (ours if _is_ours(self) else original)(self, *args, **kwargs)

    setattr(owner, name, method)


def _is_ours(one: Any) -> bool:
    return one.device.type == NAME


def _tag(storage: Any) -> str | None:
    return NAME if _is_ours(storage) else None


def _load(storage: Any, location: str) -> Any:
    if not location.startswith(NAME):
        return None
    data = torch.empty(0, dtype=torch.uint8).set_(storage)
    return buffers.loaded_storage(transfers.upload(data))


def _read_file(storage: torch.UntypedStorage, *args: Any) -> torch.UntypedStorage:
    """Fill a storage with the bytes of a file in torch's old format."""
    here = torch.UntypedStorage(storage.nbytes())
    here._set_from_file(*args)
    transfers.copy_(buffers.bytes_of(storage), torch.empty(0, dtype=torch.uint8).set_(here))
    return storage


def _to_dlpack(
    tensor: torch.Tensor,
    *,
    stream: Any = -1,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[Any, int] | None = None,
    copy: bool | None = None,
) -> Any:
    """A capsule with a copy in this process's memory."""
    if copy is False:
        raise BufferError(
            "A tensor of the cluster shares no memory with this process, so copy=False cannot be: give True or None."
        )
    if dl_device is not None and dl_device[0] != DLDeviceType.kDLCPU:
        raise BufferError(f"A tensor of the cluster is exported to this process's memory, not to {dl_device}.")
    if tensor.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    return tensor.resolve_conj().cpu().__dlpack__(max_version=max_version)
