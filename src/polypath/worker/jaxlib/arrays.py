"""Shards and wholes as JAX's arrays: put, read, copied, joined, waited for.

What was found out and must stay true:

- An array that was read as numpy on CPU shares its memory; donating it then silently copies.
- An array over several devices is only its shards: any sharding over the right devices serves, so
  all wholes here are called replicated, and have the shape of one shard.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final, cast

import jax.sharding
import ml_dtypes
import numpy as np
import numpy.typing as npt
from jax._src import array as _array
from jax._src import core as _core
from jax._src.sharding_impls import GSPMDSharding
from jaxlib import _jax
from jaxlib import xla_client as _xla

from polypath.worker.jaxlib.types import Array, JaxDevice

_FEW_BYTES: Final = 16 << 10
"""So many are copied sooner than shared."""


def dtype_of(name: str) -> np.dtype[Any]:
    """numpy's or ml_dtypes' type of that name.

    Raises:
        TypeError: there is none.
    """
    return np.dtype(getattr(ml_dtypes, name, name))


def single(device: JaxDevice, memory_kind: str) -> Any:
    """The sharding of an array on one device."""
    return jax.sharding.SingleDeviceSharding(device, memory_kind=memory_kind or None)


def over(devices: Sequence[JaxDevice], memory_kind: str = "") -> Any:
    """The sharding of a whole over several devices."""
    if len(devices) == 1:
        return single(devices[0], memory_kind)
    return GSPMDSharding.get_replicated(tuple(devices), memory_kind=memory_kind or None)


def aval(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> Any:
    return _core.ShapedArray(shape, np.dtype(dtype))


def put(array: npt.NDArray[Any], sharding: Any, device: JaxDevice) -> Array:
    return _xla.batched_device_put(
        _core.ShapedArray(array.shape, array.dtype), sharding, [array], [device], True, enable_x64=True
    )


def elements(array: Array) -> npt.NDArray[Any]:
    """The elements of a single-device array; where they are many and in host memory they are shared, not copied.

    The array itself keeps no trace of it: JAX's arrays remember what they were read as, and while
    that is there donating them copies.
    """
    if array.size * array.dtype.itemsize <= _FEW_BYTES:
        try:
            return np.array(memoryview(array))  # Three times as fast as what follows.
        except BufferError:
            pass  # Not in host memory, or of a type that Python's buffers do not have.
    other = cast(Any, _array.ArrayImpl)(array.aval, array.sharding, [array], committed=True, _skip_checks=True)
    return np.asarray(other)


def copy(array: Array, sharding: Any, device: JaxDevice) -> Array:
    """A copy of a single-device array that lives on its own."""
    return _jax.batched_copy_array_to_devices_with_sharding(
        [array], [_device_list(device)], [sharding], [_jax.ArrayCopySemantics.ALWAYS_COPY]
    )[0]


def device_list(devices: Sequence[JaxDevice]) -> Any:
    """jaxlib's list of these devices, in this order."""
    return _xla.DeviceList(tuple(devices))


@functools.cache
def _device_list(device: JaxDevice) -> Any:
    return device_list((device,))


def join(shape_type: Any, sharding: Any, arrays: list[Array]) -> Array:
    """The whole over a program's devices that these shards (of this process) are."""
    return cast(Any, _array.ArrayImpl)(shape_type, sharding, arrays, committed=True, _skip_checks=True)


class End:
    """The end of an execution, to be waited for like an array."""

    def __init__(self, token: Any) -> None:
        self._token = token

    def is_ready(self) -> bool:
        return False  # jaxlib's token cannot be asked without waiting

    def is_deleted(self) -> bool:
        return False

    def block_until_ready(self) -> None:
        self._token.block_until_ready()


def wait_all(values: Sequence[Array | End]) -> None:
    """Wait until all are computed; raises what went wrong with one, also that it is deleted."""
    _xla.batched_block_until_ready([value for value in values if type(value) is not End])
    for value in values:
        if type(value) is End:
            value.block_until_ready()


def copy_whole(array: Array, sharding: Any, devices: Any) -> Array:
    """A copy of a whole, in place."""
    return _jax.batched_copy_array_to_devices_with_sharding(
        [array], [devices], [sharding], [_jax.ArrayCopySemantics.ALWAYS_COPY]
    )[0]
