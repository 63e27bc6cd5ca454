"""Arrays between the cluster and this process's own devices go over host memory, where jaxlib's proxy client refuses.

Only what runs here for a program on the cluster, such as a host callback, has such devices.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from polypath.client.hooks.patches import Patch
from polypath.client.session import Session

_jax: Any = jax


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""

    def copies(original: Any, arrays: Any, devices: Any, shardings: Any, semantics: Any) -> Any:
        if session.closed or all(map(_same_client, arrays, shardings)):
            return original(arrays, devices, shardings, semantics)
        found: list[Any] = []
        for array, to, sharding, how in zip(arrays, devices, shardings, semantics, strict=True):
            if _same_client(array, sharding):
                found.extend(original([array], [to], [sharding], [how]))
            else:
                found.append(_jax.device_put(np.asarray(array), sharding))
        return found

    return [
        Patch(
            "jax._src.lib:xla_client",
            "batched_copy_array_to_devices_with_sharding",
            copies,
            "The proxy client refuses other clients' arrays.",
        )
    ]


def _same_client(array: Any, sharding: Any) -> bool:
    devices = array.sharding.device_set, sharding.device_set
    one, other = (next(iter(each)).client for each in devices)
    return one is other
