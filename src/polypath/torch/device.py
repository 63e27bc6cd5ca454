"""The one torch device that stands for the cluster."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Final

import torch
import torch._dynamo
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend  # pyright: ignore

from polypath.torch import autocast, buffers, compiler, modules
from polypath.torch.buffers import DEVICE, NAME
from polypath.torch.kernels import dispatch, host, recurrent, rules, transfers
from polypath.torch.trace import TorchError, trace

_libraries: Final[list[torch.library.Library]] = []
"""What they register ends with them."""


def device() -> torch.device:
    """The device: tensors and modules are moved there with `.to(device)`.

    It is on JAX's default backend: the cluster of `polypath.start` or `polypath.connect`, or this machine's devices.
    """
    return DEVICE


def register() -> None:
    """Make torch know the device: once, before it first runs a backward pass."""
    _setup_privateuseone_for_python_backend(NAME, _Module())
    _register_kernels()
    _register_storages()
    autocast.register()
    recurrent.register()
    modules.register()
    torch._dynamo.register_backend(compiler.compile_graph, name=NAME)
    # Its operators are for kernels that CPUs and CUDA have: what they are made of elsewhere is what XLA is good at.
    torch.backends.mha.set_fastpath_enabled(False)
    _start_autograd()


class _Module:
    """`torch.polypath`: what torch asks a device's module for."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    class device(contextlib.nullcontext[None]):  # noqa: N801  # Its name is torch's.
        """A scope in which this device is the current one, as it always is."""

    def set_device(self, device: Any) -> None:
        """There is one."""

    def manual_seed(self, seed: int) -> None:
        trace.manual_seed(int(seed))

    def manual_seed_all(self, seed: int) -> None:
        trace.manual_seed(int(seed))

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.tensor(trace.random_state(), dtype=torch.int64).view(torch.uint8)

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        seed, drawn = state.cpu().view(torch.int64).tolist()
        trace.set_random_state((seed, drawn))

    def synchronize(self, device: Any = None) -> None:
        """Start all that waits."""
        trace.flush()

    def empty_cache(self) -> None:
        """There is none."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


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


# --- Storages: torch.save, torch.load, copy.deepcopy ------------------------------------------


def _register_storages() -> None:
    torch.serialization.register_package(0, _tag, _load)
    _amend("clone", lambda storage: buffers.storage_like(storage._polypath))
    _amend("cpu", lambda storage: transfers.download(buffers.bytes_of(storage), "UntypedStorage.cpu").untyped_storage())
    _amend("data_ptr", lambda storage: storage._cdata)  # Which is only compared: there is no memory.


def _amend(name: str, ours: Callable[[Any], Any]) -> None:
    original = getattr(torch.UntypedStorage, name)

    @functools.wraps(original)
    def method(storage: torch.UntypedStorage) -> Any:
        return ours(storage) if hasattr(storage, "_polypath") else original(storage)

    setattr(torch.UntypedStorage, name, method)


def _tag(storage: Any) -> str | None:
    return NAME if storage.device.type == NAME else None


def _load(storage: Any, location: str) -> Any:
    if not location.startswith(NAME):
        return None
    data = torch.empty(0, dtype=torch.uint8).set_(storage)
    return buffers.storage_of(transfers.upload(data), torch.uint8)
