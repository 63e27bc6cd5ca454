"""The device's operators: what torch calls becomes nodes of the trace.

In the order tried for an operator:

1. a lowering: the operator's function on arrays (`lowerings`) becomes a node;
2. one that writes (in place, `out=`) is the operator that only computes, and a write;
3. torch's own decomposition into other operators;
4. torch's CPU in the client: what it needs is fetched, what comes of it is put back, and that is said once for
   each operator. So is done, and not said, what has a result whose shape depends on data: every device waits there.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch._ops import OpOverload
from torch.utils import _pytree as pytree

from polypath.torch import lowerings
from polypath.torch.buffers import NAME, check_index, form_of, join, storage_size
from polypath.torch.kernels import host, memory
from polypath.torch.kernels.lowered import lowered
from polypath.torch.kernels.rules import is_view, meta_like
from polypath.torch.kernels.written import functional_of, written

aten: Final = torch.ops.aten

_EXPLICIT: Final = torch._C.DispatchKey.CompositeExplicitAutograd


def call(op: OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Do an operator that has a tensor of the device among its arguments, or is to make one."""
    device = kwargs.get("device")
    if device is not None and device.index:
        check_index(device)
    special = memory.OPERATORS.get(op)
    if special is not None:
        return special(*args, **kwargs)
    if device is not None and device.type != NAME and op in _LIKE:
        return op(*pytree.tree_map(meta_like, args), **kwargs)
    if is_view(op):
        return _viewed(op, args, kwargs)
    if op in _RESHAPING:
        return op._op_dk(_EXPLICIT, *args, **kwargs)
    if lowerings.is_data_dependent(op, args):
        return host.on_host(op, args, kwargs)
    if lowerings.find(op) is not None:
        return lowered(op, args, kwargs)
    if op._schema.is_mutable and (functional := functional_of(op)) is not None and _computes(functional):
        return written(op, functional, args, kwargs)
    decomposition = lowerings.decompositions().get(op)
    if decomposition is not None:
        result = decomposition(*args, **kwargs)
        if result is not NotImplemented:
            return result
    # (The other composite kernels, "non-functional", would call the `out=` variant, which would call us again.)
    if torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), _EXPLICIT):
        return op._op_dk(_EXPLICIT, *args, **kwargs)
    host.tell(op)
    return host.on_host(op, args, kwargs)


def _computes(op: OpOverload) -> bool:
    return lowerings.find(op) is not None or op in lowerings.decompositions() or lowerings.is_data_dependent(op)


def _viewed(op: OpOverload, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The few that torch does not make of `as_strided` itself: what torch's own rule gives, on the same storage."""
    source: torch.Tensor = args[0]
    model = torch.empty_strided((storage_size(source),), (1,), dtype=source.dtype, device="meta")
    model = model.as_strided(source.shape, source.stride(), source.storage_offset())
    return pytree.tree_map(lambda one: join(source.untyped_storage(), form_of(one)), op(model, *args[1:], **kwargs))


_RESHAPING: Final = frozenset(
    getattr(packet, overload)
    for packet in (aten.t_, aten.transpose_, aten.squeeze_, aten.unsqueeze_, aten.swapaxes_, aten.swapdims_)
    for overload in packet.overloads()
    if "Dimname" not in str(getattr(packet, overload)._schema)
)
"""They change how a tensor looks at its storage, and no value; they come to `as_strided_`."""

_LIKE: Final = frozenset(
    getattr(packet, overload)
    for packet in (
        aten.empty_like,
        aten.full_like,
        aten.ones_like,
        aten.rand_like,
        aten.randint_like,
        aten.randn_like,
        aten.zeros_like,
        aten.new_empty,
        aten.new_empty_strided,
        aten.new_full,
        aten.new_ones,
        aten.new_zeros,
    )
    for overload in packet.overloads()
)
"""They make a tensor in the shape of another, and read no values of it: it may be on another device."""
