"""What torch spreads over processes: the device has one, and says so.

Data and model parallelism of torch run a process for each device, which meet in collectives. The cluster is driven by
one process, so these are refused, with what does the same here: `polypath.torch.fsdp` and `polypath.torch.shard`."""

from __future__ import annotations

import functools
import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.reduction import ForkingPickler
from typing import Any, Final, NoReturn

import torch
import torch.distributed
import torch.distributed.fsdp
import torch.distributed.tensor.parallel
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor
from torch.multiprocessing import reductions

from polypath.torch.buffers import NAME
from polypath.torch.errors import TorchError

_libraries: Final[list[torch.library.Library]] = []

_FSDP: Final = "polypath.torch.fsdp(model, mesh)"
_SHARD: Final = "polypath.torch.shard(tensor, mesh, spec)"
_PLAN: Final = "polypath.torch.shard(model, mesh, plan)"
_BATCH: Final = "polypath.torch.shard(batch, mesh, ('data',))"


def register() -> None:
    """Have torch's distributed functions say so; once."""
    of_tensors = torch.distributed.tensor
    _guard_class(torch.nn.parallel.DistributedDataParallel, f"cut each batch with {_BATCH}")
    _guard_class(torch.distributed.fsdp.FullyShardedDataParallel, f"lay the model out with {_FSDP}")
    group = functools.partial(_guarded, argument="device_id")
    _replace(
        {
            torch.distributed.init_process_group: group(
                f"lay the model out with {_FSDP} and cut each batch with {_BATCH}"
            ),
            torch.distributed.fsdp.fully_shard: _guarded(f"lay the model out with {_FSDP}"),
            of_tensors.distribute_tensor: _guarded(f"lay the tensor out with {_SHARD}"),
            of_tensors.distribute_module: _guarded(f"lay the model out with {_PLAN}"),
            of_tensors.parallel.parallelize_module: _guarded(f"lay the model out with {_PLAN}"),
        }
    )
    _guard_from_local()
    _guard_meshes()
    _guard_collectives()
    _leave_data_parallel()
    ForkingPickler.register(torch.UntypedStorage, _reduce_storage)


def _refuse(what: str, instead: str) -> NoReturn:
    raise TorchError(
        f"{what} is for a process per device, and one process drives all devices of the cluster: leave it out, and "
        f"{instead}, where mesh = jax.make_mesh((8,), ('data',))."
    )


def _guard_class(kind: type, instead: str) -> None:
    original: Any = kind.__init__

    @functools.wraps(original)
    def __init__(self: Any, module: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if _is_there(module):
            _refuse(kind.__name__, instead)
        original(self, module, *args, **kwargs)

    setattr(kind, "__init__", __init__)  # noqa: B010


Function = Callable[..., Any]


def _replace(functions: Mapping[Function, Callable[[Function], Function]]) -> None:
    """Guard functions in every module that has them, as programs import them by name."""
    guarded = {id(original): guard(original) for original, guard in functions.items()}
    for module in list(sys.modules.values()):
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if id(value) in guarded:
                setattr(module, name, guarded[id(value)])


def _guarded(instead: str, argument: str | None = None) -> Callable[[Function], Function]:
    """Refuse an argument that is of the device: the first one, if none is named."""

    def guard(original: Function) -> Function:
        first = next(iter(inspect.signature(original).parameters))

        @functools.wraps(original)
        def function(*args: Any, **kwargs: Any) -> Any:
            if _is_there(args[0] if args and argument is None else kwargs.get(argument or first)):
                _refuse(original.__name__, instead)
            return original(*args, **kwargs)

        return function

    return guard


def _is_there(value: Any) -> bool:
    if isinstance(value, torch.device):
        return value.type == NAME
    return any(tensor.device.type == NAME for tensor in _tensors(value))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, torch.nn.Module):
        yield from value.parameters()
        yield from value.buffers()
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _tensors(one)


def _guard_meshes() -> None:
    original: Any = DeviceMesh.__init__

    @functools.wraps(original)
    def __init__(self: Any, device_type: str, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        if device_type == NAME:
            _refuse("torch's DeviceMesh", f"lay the model out with {_FSDP} or {_PLAN}")
        original(self, device_type, *args, **kwargs)

    setattr(DeviceMesh, "__init__", __init__)  # noqa: B010


def _guard_from_local() -> None:
    original: Any = DTensor.from_local

    @functools.wraps(original)
    def from_local(local_tensor: Any, *args: Any, **kwargs: Any) -> Any:
        if _is_there(local_tensor):
            _refuse("DTensor", f"lay the tensor out with {_SHARD}")
        return original(local_tensor, *args, **kwargs)

    setattr(DTensor, "from_local", staticmethod(from_local))  # noqa: B010


def _leave_data_parallel() -> None:
    """Have `nn.DataParallel` do nothing, as where there is no accelerator: XLA divides the work."""
    module: Any = sys.modules[torch.nn.DataParallel.__module__]
    original = module._get_available_device_type
    module._get_available_device_type = lambda: None if (found := original()) == NAME else found


def _guard_collectives() -> None:
    library = torch.library.Library("c10d", "IMPL")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of kernels that are replaced, as these are to be.
        for name in torch._C._dispatch_get_all_op_names():
            if name.startswith("c10d::"):
                library.impl(name.removeprefix("c10d::"), _refuse_collective, "PrivateUse1", allow_override=True)
    _libraries.append(library)


def _refuse_collective(*_: Any) -> NoReturn:
    _refuse(
        "A collective of torch.distributed", f"have XLA add up what lies over the devices: cut the batch with {_BATCH}"
    )


def _reduce_storage(storage: torch.UntypedStorage) -> Any:
    if hasattr(storage, "_polypath"):
        raise TorchError(
            "A tensor of the cluster cannot be sent to another process (a DataLoader's worker, or a queue's reader): "
            "the cluster answers only this one, so send tensor.cpu(), and move it with .to(device) where it arrives."
        )
    return reductions.reduce_storage(storage)
