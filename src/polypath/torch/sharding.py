"""Which device holds which part of a model: plans of parameters over a mesh."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import jax
import torch
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from polypath.torch.buffers import NAME, buffer_of, form_of
from polypath.torch.errors import TorchError
from polypath.torch.programs import Ref
from polypath.torch.trace import trace

Axes = str | tuple[str, ...] | None
Spec = Sequence[Axes]
"""For each dimension the mesh's axes that it is cut along, None for none; what is missing is not cut."""
Target = TypeVar("Target", torch.nn.Module, torch.Tensor)


def shard(target: Target, mesh: Mesh, plan: Mapping[str, Spec] | Spec) -> Target:
    """Lay a model or a tensor out over a mesh, and keep it so.

    Args:
        target: a module, or a tensor such as a batch; on the device.
        mesh: devices of the cluster, by named axes.
        plan: for a module, by a pattern of parameters' and buffers' names (as in a shell: `blocks.*.mlp.w1`) how
            they are cut; the first that fits counts, and what none names is whole on every device. For a tensor
            how it is cut.

    Raises:
        TorchError: a pattern names nothing, an axis is not the mesh's, a dimension cannot be divided.
    """
    if isinstance(target, torch.Tensor):
        if isinstance(plan, Mapping):
            raise TorchError("A plan of names is for a module; for a tensor say how it is cut, as in ('data', None).")
        _place("The tensor", target, mesh, plan)
        return target
    if not isinstance(plan, Mapping):
        raise TorchError("The plan of a module cuts parameters by name, as in {'*.weight': ('model', None)}.")
    tensors = dict(_tensors(target))
    used: set[str] = set()
    for name, tensor in tensors.items():
        pattern = next((pattern for pattern in plan if fnmatch.fnmatchcase(name, pattern)), None)
        if pattern is not None:
            used.add(pattern)
        _place(f"Parameter {name}", tensor, mesh, () if pattern is None else plan[pattern])
    for pattern in plan:
        if pattern not in used and not any(fnmatch.fnmatchcase(name, pattern) for name in tensors):
            raise TorchError(
                f"The plan's {pattern!r} names no parameter of {type(target).__name__}; it has {_some(tensors)}."
            )
    return target


def fsdp(model: torch.nn.Module, mesh: Mesh, axis: str | None = None) -> torch.nn.Module:
    """Cut every parameter along `axis` of the mesh (by default its first) in the largest dimension that it divides.

    What divides in none is whole on every device. Batches are cut with `shard(batch, mesh, (axis,))`.

    Raises:
        TorchError: the axis is not the mesh's.
    """
    axis = axis or mesh.axis_names[0]
    if axis not in mesh.shape:
        raise TorchError(f"The mesh has no axis {axis!r}; its axes are {', '.join(mesh.axis_names)}.")
    for name, tensor in _tensors(model):
        fits = [dim for dim, size in enumerate(tensor.shape) if size and size % mesh.shape[axis] == 0]
        largest = max(fits, key=lambda dim: tensor.shape[dim], default=None)
        spec = tuple(axis if dim == largest else None for dim in range(tensor.dim()))
        _place(f"Parameter {name}", tensor, mesh, spec)
    return model


def _tensors(model: torch.nn.Module) -> Iterable[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _place(what: str, tensor: torch.Tensor, mesh: Mesh, spec: Spec) -> None:
    if tensor.device.type != NAME:
        raise TorchError(f"{what} is on {tensor.device}; move it with .to({NAME!r}) before it is sharded.")
    _check(what, tensor, mesh, spec)
    buffer = buffer_of(tensor)
    if form_of(tensor) != buffer.form:
        raise TorchError(f"{what} is a view of another tensor; shard that one, or a .clone() of it.")
    # Where XLA finds out how the values between lie: torch's programs say nothing of that.
    automatic = Mesh(mesh.devices, mesh.axis_names, axis_types=(AxisType.Auto,) * len(mesh.axis_names))
    sharding = NamedSharding(automatic, PartitionSpec(*spec))
    array = trace.value(buffer.ref)
    placed = None
    if array.sharding != sharding:
        with jax.enable_x64(True):
            placed = jax.device_put(array, sharding, may_alias=False)
        placed.block_until_ready()  # If there is no memory for it, the tensor stays as it was.
    buffer.place(sharding)  # First, or the value would be laid out as before.
    if placed is not None:
        buffer.set(Ref(buffer.ref.shape, buffer.ref.dtype, placed))


def _check(what: str, tensor: torch.Tensor, mesh: Mesh, spec: Spec) -> None:
    if len(spec) > tensor.dim():
        raise TorchError(
            f"{what} has shape {tuple(tensor.shape)}, which is fewer dimensions than the {len(spec)} of its plan."
        )
    for dim, axes in enumerate(spec):
        ways = 1
        for axis in (axes,) if isinstance(axes, str) else axes or ():
            if axis not in mesh.shape:
                raise TorchError(f"{what} is cut along {axis!r}; the mesh's axes are {', '.join(mesh.axis_names)}.")
            ways *= mesh.shape[axis]
        if tensor.shape[dim] % ways:
            raise TorchError(
                f"{what} has shape {tuple(tensor.shape)}, whose dimension {dim} does not divide by the {ways} devices "
                f"along {axes!r}; cut another dimension, or none."
            )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
