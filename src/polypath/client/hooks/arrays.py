"""What an array on the cluster answers to other libraries of this process. Seen on jax 0.9 to 0.12.

- `__cuda_array_interface__` is an attribute that such an array does not have, as on plain JAX's CPU; jaxlib's proxy
  client raises what `hasattr` does not understand.
- `unsafe_buffer_pointer()` of an array of one shard is its address in the worker that has it: good for comparing.
- The buffer protocol (`memoryview(x)`, `bytes(x)`) gives a view of the array's elements in this process, which are not
  to be written to. Python lets a class written in C do so from 3.12 on; before it, use `numpy.asarray(x)`.
"""

from __future__ import annotations

import sys
from typing import Any

import jax
import numpy as np
from jax._src import array as jax_array

from polypath.client.hooks import waiting
from polypath.client.hooks.cluster import is_cluster, replace, replace_property

_Array: Any = jax_array.ArrayImpl
_errors: Any = jax.errors


def install() -> None:
    """Put the hooks in place."""
    replace_property(_Array, "__cuda_array_interface__", _cuda_array_interface)
    replace(_Array, "unsafe_buffer_pointer", _unsafe_buffer_pointer)
    if sys.version_info >= (3, 12):
        replace(_Array, "__buffer__", _buffer)


def _cuda_array_interface(original: Any) -> Any:
    def cuda_array_interface(self: Any) -> Any:
        try:
            return original(self)
        except _errors.JaxRuntimeError:
            if not _is_on_cluster(self):
                raise
            raise AttributeError("__cuda_array_interface__ is only defined for GPU buffers.") from None

    return cuda_array_interface


def _unsafe_buffer_pointer(original: Any) -> Any:
    def unsafe_buffer_pointer(self: Any) -> int:
        found = None
        if not self.is_deleted() and len(self.sharding.device_set) == 1 and _is_on_cluster(self):
            found = waiting.pointer(self)
        return original(self) if found is None else found

    return unsafe_buffer_pointer


def _buffer(original: Any) -> Any:
    def buffer(self: Any, flags: int) -> memoryview:
        if not _is_on_cluster(self):
            return original(self, flags)
        if len(self.sharding.device_set) > 1:
            raise BufferError(
                "INVALID_ARGUMENT: Python buffer protocol is only defined for buffers with a single shard."
            )
        if self.dtype.isbuiltin != 1:
            kind = _xla_name(self.dtype.name)
            raise BufferError(
                f"INVALID_ARGUMENT: Buffers of type {kind} are not supported by the Python buffer protocol."
            )
        elements: Any = np.asarray(self)
        return elements.__buffer__(flags)

    return buffer


def _xla_name(dtype: str) -> str:
    """`BF16`, `F8E4M3FN`, `S4`, ..."""
    short = {"bfloat": "bf", "float": "f", "uint": "u", "int": "s"}
    known = next((name for name in short if dtype.startswith(name)), "")
    return (short.get(known, "") + dtype.removeprefix(known)).replace("_", "").upper()


def _is_on_cluster(array: Any) -> bool:
    return is_cluster(next(iter(array.sharding.device_set)).client)
