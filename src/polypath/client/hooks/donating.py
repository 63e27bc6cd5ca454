"""`jax.device_put(x, ..., donate=True)`, where jaxlib's proxy client loses track of what was donated.

Where the devices come in another order, JAX donates an array that has the same shards as `x`. The
proxy client knows of each array alone, so it would say that `x` lives: here the shards are handed over.
Where nothing is to be moved, `x` and the result have the same shards. jaxlib's other clients then
donate nothing, and the proxy client would say that `x` is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from jax._src import array, dispatch
from jax._src.lib import xla_client  # pyright: ignore[reportPrivateImportUsage]

from polypath.client.hooks.cluster import is_cluster, overlay, replace

_xla: Any = xla_client
_Semantics: Any = _xla.ArrayCopySemantics
_local = threading.local()


def install() -> None:
    """Put the hooks in place."""
    overlay(array, "xc", batched_copy_array_to_devices_with_sharding=_copy)
    overlay(dispatch, "xc", reorder_shards=_reorder)
    replace(dispatch, "_different_device_order_reshard", _reshard)


def _copy(arrays: Sequence[Any], devices: Sequence[Any], shardings: Sequence[Any], semantics: Sequence[Any]) -> Any:
    chosen = [
        _Semantics.REUSE_INPUT if each == _Semantics.DONATE_INPUT and _stays(x, sharding) else each
        for x, sharding, each in zip(arrays, shardings, semantics, strict=True)
    ]
    return _xla.batched_copy_array_to_devices_with_sharding(arrays, devices, shardings, chosen)


def _stays(x: Any, target: Any) -> bool:
    here = x.sharding
    return (
        is_cluster(next(iter(here.device_set)).client)
        and here._internal_device_list == target._internal_device_list
        and here.memory_kind == target.memory_kind
    )


def _reshard(original: Any) -> Any:
    def different_device_order_reshard(x: Any, target: Any, copy: Any) -> Any:
        here = x.sharding
        _local.donates = (
            copy == _Semantics.DONATE_INPUT
            and is_cluster(next(iter(here.device_set)).client)
            and here.memory_kind == target.memory_kind
            and here.shard_shape(x.shape) == target.shard_shape(x.shape)  # Else XLA has no use for the memory.
        )
        try:
            return original(x, target, copy)
        finally:
            _local.donates = False

    return different_device_order_reshard


def _reorder(x: Any, sharding: Any, semantics: Any) -> Any:
    if getattr(_local, "donates", False):
        semantics = _Semantics.DONATE_INPUT
    return _xla.reorder_shards(x, sharding, semantics)
