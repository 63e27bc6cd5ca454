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

from jax._src.lib import xla_client  # pyright: ignore[reportPrivateImportUsage]

from polypath.client.hooks.patches import Patch, overlay
from polypath.client.session import Session

_xla: Any = xla_client
_Semantics: Any = _xla.ArrayCopySemantics


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""
    local = threading.local()

    def stays(x: Any, target: Any) -> bool:
        here = x.sharding
        return (
            session.is_on_cluster(x)
            and here._internal_device_list == target._internal_device_list
            and here.memory_kind == target.memory_kind
        )

    def copy(arrays: Sequence[Any], devices: Sequence[Any], shardings: Sequence[Any], semantics: Sequence[Any]) -> Any:
        chosen = [
            _Semantics.REUSE_INPUT if each == _Semantics.DONATE_INPUT and stays(x, sharding) else each
            for x, sharding, each in zip(arrays, shardings, semantics, strict=True)
        ]
        return _xla.batched_copy_array_to_devices_with_sharding(arrays, devices, shardings, chosen)

    def reshard(original: Any, x: Any, target: Any, copy: Any) -> Any:
        here = x.sharding
        local.donates = (
            copy == _Semantics.DONATE_INPUT
            and session.is_on_cluster(x)
            and here.memory_kind == target.memory_kind
            and here.shard_shape(x.shape) == target.shard_shape(x.shape)  # Else XLA has no use for the memory.
        )
        try:
            return original(x, target, copy)
        finally:
            local.donates = False

    def reorder(x: Any, sharding: Any, semantics: Any) -> Any:
        donates = getattr(local, "donates", False)
        return _xla.reorder_shards(x, sharding, _Semantics.DONATE_INPUT if donates else semantics)

    return [
        Patch(
            "jax._src.array",
            "xc",
            overlay(batched_copy_array_to_devices_with_sharding=copy),
            "What stays is not donated.",
        ),
        Patch(
            "jax._src.dispatch",
            "xc",
            overlay(reorder_shards=reorder),
            "Its donated argument has to give its shards away.",
        ),
        Patch(
            "jax._src.dispatch", "_different_device_order_reshard", reshard, "It knows whether the former is to donate."
        ),
    ]
