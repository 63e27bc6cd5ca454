"""JAX as users' functions in a worker see it: its backend, its devices, its modes.

Nothing here may let JAX make backends of its own: `adopt` gives it the worker's.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, cast

import jax
import numpy as np
from jax._src import xla_bridge as _bridge
from jax.experimental.colocated_python import serialization as _pickled

from polypath.types import DeviceId
from polypath.worker.jaxlib.types import Client, JaxDevice


def adopt(client: Client, devices: Mapping[DeviceId, JaxDevice]) -> None:
    """Make `client` JAX's own backend, and let pickles of colocated Python name its devices by cluster-wide id.

    These pickles name a device by its id in the process that wrote them. For the client's that is
    ours, and the CPU client of a group numbers its devices otherwise.
    """
    with _bridge._backend_lock:
        _bridge._backends[client.platform] = client
        _bridge._default_backend = client
    for hook in getattr(_bridge, "_backend_initialization_hooks", ()):  # gone since jax 0.11
        hook(client)
    names = {device.id: id_ for id_, device in devices.items()}
    pickled: Any = _pickled

    def reduce_mesh(mesh: Any) -> tuple[Any, ...]:
        ids = np.array([names[device.id] for device in mesh.devices.flat], int).reshape(mesh.devices.shape)
        return pickled._unreduce_mesh, (ids, mesh.axis_names, mesh.axis_types)

    def reduce_list(found: Any) -> tuple[Any, ...]:
        return pickled._unreduce_device_list, ([names[device.id] for device in found],)

    def reduce_single(sharding: Any) -> tuple[Any, ...]:
        (device,) = sharding.device_set
        return pickled._unreduce_single_device_sharding, (names[device.id], sharding.memory_kind)

    pickled._get_cpu_device_map = lambda: devices
    once = pickled._make_reduce_func_with_common_obj
    pickled._reduce_mesh = once(reduce_mesh)
    pickled._reduce_device_list = once(reduce_list)
    pickled._reduce_single_device_sharding = once(reduce_single)


def unpickle(data: bytes) -> Any:
    """What JAX's colocated Python pickled."""
    return cast(Any, _pickled)._deserialize(data)


def x64(on: bool) -> AbstractContextManager[None]:
    """JAX's 64-bit mode as a user has it, for this thread; the worker's own is always on."""
    return cast(Any, jax).enable_x64(on)
