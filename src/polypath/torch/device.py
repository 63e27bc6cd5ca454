"""The one torch device that stands for the cluster."""

from __future__ import annotations

import functools
from typing import Final

import torch
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend  # pyright: ignore

from polypath.torch import autocast, buffers, default_backend, device_module, frameworks, modules, processes, storages
from polypath.torch.buffers import DEVICE, NAME
from polypath.torch.errors import TorchError
from polypath.torch.kernels import dispatch, host, recurrent, rules
from polypath.torch.trace import trace

_libraries: Final[list[torch.library.Library]] = []
"""What they register ends with them."""


def device() -> torch.device:
    """The device: tensors and modules are moved there with `.to(device)`.

    It is on JAX's default backend: the cluster of `polypath.start` or `polypath.connect`, or this machine's devices.
    """
    return DEVICE


def register() -> None:
    """Make torch know the device: once, before it first runs a backward pass."""
    module = _Module()
    _setup_privateuseone_for_python_backend(NAME, module)
    device_module.register(module)
    _register_kernels()
    storages.register()
    autocast.register()
    recurrent.register()
    modules.register()
    default_backend.register()
    processes.register()
    frameworks.register()
    _start_autograd()


class _Module(device_module.Streams, device_module.Memory, device_module.Properties, device_module.RandomState):
    """`torch.polypath`: what torch asks a device's module for."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return trace.forked


def _start_autograd() -> None:
    """Autograd has a thread for each device that it knows when it first runs: have it run now."""
    with torch.enable_grad():
        leaf = torch.zeros(1, device=DEVICE, requires_grad=True)
        try:
            leaf.view(1).backward(torch.zeros(1, device=DEVICE))
        except RuntimeError as error:
            raise TorchError(
                "This process has run backward() before torch knew of the cluster's device, and can run none there any "
                "more; import polypath.torch at the top of the program."
            ) from error
    del leaf
    trace.flush()  # Nobody holds any of it, so nothing runs.


def _register_kernels() -> None:
    library = torch.library.Library("aten", "IMPL")
    call = torch.compiler.disable(dispatch.call)  # What we do is nothing for Dynamo to trace.
    for name, kernel in _VIEW_KERNELS.items():
        library.impl(name, torch.compiler.disable(kernel), "PrivateUse1")
    for name in torch._C._dispatch_get_all_op_names():
        op = _operator(name)
        if op is None or op.name().partition(".")[0].removeprefix("aten::") in _VIEWS or rules.is_view(op):
            continue
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, _IMPLICIT):
            continue
        library.impl(op, functools.partial(call, op), "PrivateUse1")
    others = torch.library.Library("_", "IMPL")
    others.fallback(call, "PrivateUse1")
    for kind in ("Sparse", "SparseCsr"):
        others.fallback(host.refuse_sparse, f"{kind}PrivateUse1")
    _libraries.extend((library, others))


_VIEWS: Final = frozenset({"as_strided", "view", "_reshape_alias", "set_"})
_IMPLICIT: Final = torch._C.DispatchKey.CompositeImplicitAutograd


def _operator(name: str) -> torch._ops.OpOverload | None:
    namespace, _, rest = name.partition("::")
    packet, _, overload = rest.partition(".")
    if namespace != "aten":
        return None
    found = getattr(torch.ops.aten, packet, None)
    return None if found is None else getattr(found, overload or "default", None)


def _set_whole(tensor: torch.Tensor, storage: torch.UntypedStorage) -> torch.Tensor:
    return buffers.set_(tensor, storage, 0, (storage.nbytes() // tensor.element_size(),))


def _set_tensor(tensor: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    return buffers.set_(tensor, source.untyped_storage(), int(source.storage_offset()), source.shape, source.stride())


_VIEW_KERNELS: Final = {
    "as_strided": buffers.as_strided,
    "view": buffers.view,
    "_reshape_alias": buffers.as_strided,
    "set_.source_Storage_storage_offset": buffers.set_,
    "set_.source_Storage": _set_whole,
    "set_.source_Tensor": _set_tensor,
}
