"""Values on their way between torch's CPU and the cluster, and from tensor to tensor."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch

from polypath.torch import breaks
from polypath.torch.buffers import NAME, read, tensor_of, write
from polypath.torch.dtypes import jax_dtype, to_numpy, to_torch
from polypath.torch.errors import check_devices, lost_with
from polypath.torch.programs import Ref
from polypath.torch.trace import trace


def upload(tensor: torch.Tensor) -> Ref:
    """A value with what a tensor of torch's CPU holds."""
    trace.check_process()
    data = to_numpy(tensor)
    with jax.enable_x64(True):
        array = jax.device_put(data)
    ref = Ref(data.shape, data.dtype, array)
    trace.started([ref])
    return ref


def number_or_upload(tensor: torch.Tensor) -> Ref:
    """One of a single number as that number, which a program takes as an argument."""
    return upload(tensor) if tensor.dim() else Ref((), None, tensor.item())


def download(tensor: torch.Tensor, by: object) -> torch.Tensor:
    """The same tensor on torch's CPU, which the operator `by` asks for; waits for it."""
    return fetch(read(tensor), by)


def fetch(ref: Ref, by: object) -> torch.Tensor:
    """A value as a tensor of torch's CPU; waits for it."""
    breaks.value_read(by)
    trace.check_process()
    array = trace.value(ref)
    try:
        values = to_torch(array)
        trace.check_bounds()
        return values
    except Exception as error:
        check_devices([array], error)
        if ref.overwritten and isinstance(error, jax.errors.JaxRuntimeError):
            error.add_note(lost_with(ref.overwritten))
        raise


def copy_(target: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
    """Put `source`'s values into `target`, from and to any device."""
    if target.device.type != NAME:
        target.copy_(download(source, torch.ops.aten.copy_.default))
        return target
    if source.device.type != NAME:
        source = tensor_of(upload(source), source.dtype)
    ref = read(source)
    shape, dtype = tuple(target.shape), jax_dtype(target.dtype)
    if ref.shape != shape or ref.dtype != dtype:
        ref = trace.add(Fit(shape, dtype), Fit(shape, dtype), [ref], [(shape, dtype)])[0]
    write(target, ref)
    return target


class Fit(NamedTuple):
    """Broadcast and cast."""

    shape: tuple[int, ...]
    dtype: Any

    def __call__(self, value: Any) -> list[Any]:
        return [jnp.broadcast_to(cast(value, self.dtype), self.shape)]


def cast(array: Any, dtype: Any) -> Any:
    """As torch casts: of a complex number that is to be none, the real part."""
    if np.issubdtype(array.dtype, np.complexfloating) and not np.issubdtype(dtype, np.complexfloating):
        array = array.real
    return array.astype(dtype)
