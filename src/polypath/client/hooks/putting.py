"""Two ways onto devices that jaxlib's proxy client refuses.

- Numpy arrays with a negative or a zero stride are copied first.
- Arrays between the cluster and this process's own devices go over host memory. Only what runs
  here for a program on the cluster has such devices.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax._src import lib, literals
from jax._src.interpreters import pxla

from polypath.client.hooks.cluster import is_connected, replace

_jax: Any = jax
_pxla: Any = pxla
_lib: Any = lib


def install() -> None:
    """Put the hooks in place."""
    replace(_lib.xla_client, "batched_copy_array_to_devices_with_sharding", _copy)
    handlers = _pxla.shard_arg_handlers
    for kind in (np.ndarray, getattr(literals, "TypedNdArray", None)):
        put = handlers.get(kind)
        if put is None or hasattr(put, "polypath_hook"):
            continue

        def put_contiguous(xs: Any, *rest: Any, put: Any = put) -> Any:
            return put([_contiguous(x) for x in xs], *rest)

        put_contiguous.polypath_hook = True  # pyright: ignore[reportFunctionMemberAccess]
        handlers[kind] = put_contiguous


def _copy(original: Any) -> Any:
    def copy(arrays: Any, devices: Any, shardings: Any, semantics: Any) -> Any:
        if not is_connected() or all(map(_same_client, arrays, shardings)):
            return original(arrays, devices, shardings, semantics)
        found: list[Any] = []
        for array, to, sharding, how in zip(arrays, devices, shardings, semantics, strict=True):
            if _same_client(array, sharding):
                found.extend(original([array], [to], [sharding], [how]))
            else:
                found.append(_jax.device_put(np.asarray(array), sharding))
        return found

    return copy


def _same_client(array: Any, sharding: Any) -> bool:
    devices = array.sharding.device_set, sharding.device_set
    one, other = (next(iter(each)).client for each in devices)
    return one is other


def _contiguous(x: Any) -> Any:
    array: Any = np.asarray(x)
    if min(array.strides, default=1) > 0:
        return x
    # Not ascontiguousarray, which leaves the strides of an array of one element as they are.
    array = array.copy(order="C")
    return array if isinstance(x, np.ndarray) else type(x)(array, weak_type=x.weak_type)
