"""What an array on the cluster answers to other libraries of this process.

- `__cuda_array_interface__` is an attribute that such an array does not have, as on plain JAX's CPU; jaxlib's proxy
  client raises what `hasattr` does not understand.
- `unsafe_buffer_pointer()` of an array of one shard is its address in the worker that has it: good for comparing.
- The buffer protocol (`memoryview(x)`, `bytes(x)`) gives a view of the array's elements in this process, which are not
  to be written to. Python lets a class written in C do so from 3.12 on; before it, use `numpy.asarray(x)`.
"""

from __future__ import annotations

from typing import Any, Final

import jax
import numpy as np

from polypath.client.hooks.patches import Patch, getter
from polypath.client.session import Session

_errors: Any = jax.errors

_ARRAY: Final = "jax._src.array:ArrayImpl"


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""

    def cuda_array_interface(original: Any, self: Any) -> Any:
        try:
            return original(self)
        except _errors.JaxRuntimeError:
            if not session.is_on_cluster(self):
                raise
            raise AttributeError("__cuda_array_interface__ is only defined for GPU buffers.") from None

    def unsafe_buffer_pointer(original: Any, self: Any) -> int:
        found = None
        if not self.is_deleted() and len(self.sharding.device_set) == 1 and session.is_on_cluster(self):
            found = None if session.transfers is None else session.transfers.address(self)
        return original(self) if found is None else found

    def buffer(original: Any, self: Any, flags: int) -> memoryview:
        return _buffer(self, flags) if session.is_on_cluster(self) else original(self, flags)

    return [
        Patch(_ARRAY, "__cuda_array_interface__", getter(cuda_array_interface), "`hasattr` needs an AttributeError."),
        Patch(_ARRAY, "unsafe_buffer_pointer", unsafe_buffer_pointer, "Only the array's worker knows the address."),
        Patch(_ARRAY, "__buffer__", buffer, "The elements have to be fetched first.", python=(3, 12)),
    ]


def _buffer(array: Any, flags: int) -> memoryview:
    if len(array.sharding.device_set) > 1:
        raise BufferError("INVALID_ARGUMENT: Python buffer protocol is only defined for buffers with a single shard.")
    if array.dtype.isbuiltin != 1:
        kind = _xla_name(array.dtype.name)
        raise BufferError(f"INVALID_ARGUMENT: Buffers of type {kind} are not supported by the Python buffer protocol.")
    elements: Any = np.asarray(array)
    return elements.__buffer__(flags)


def _xla_name(dtype: str) -> str:
    """`BF16`, `F8E4M3FN`, `S4`, ..."""
    short = {"bfloat": "bf", "float": "f", "uint": "u", "int": "s"}
    known = next((name for name in short if dtype.startswith(name)), "")
    return (short.get(known, "") + dtype.removeprefix(known)).replace("_", "").upper()
