"""DLPack between arrays on the cluster and other libraries of this process.

DLPack shares memory, and jaxlib's proxy client has none to share: it refuses. Here an array on
the cluster is handed out as a copy in this process, and one that is taken in goes to the cluster as
a copy. A caller that asks for no copy is refused, as DLPack wants it.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax._src import xla_bridge

from polypath.client.hooks.patches import Patch, overlay
from polypath.client.session import Session

_jax: Any = jax
_bridge: Any = xla_bridge


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""

    def get_backend(platform: Any = None) -> Any:
        return _bridge.get_backend(platform) if session.closed else _Cluster()

    def to_dlpack(original: Any, array: Any, stream: Any = None, **more: Any) -> Any:
        (device,) = array.devices()
        if not session.is_cluster(device.client):
            return original(array, stream=stream, **more)
        return original(_put(np.asarray(array), session.local_cpu().local_devices()[0]), stream=None, **more)

    def from_dlpack(original: Any, tensor: Any, device: Any, stream: Any, copy: bool | None = None, *rest: Any) -> Any:
        if not session.is_cluster(device.client):
            return original(tensor, device, stream, copy, *rest)
        if copy is False:
            raise ValueError(
                "Specified copy=False for an array of this process, which requires a copy since the cluster shares "
                "no memory with it: set copy=True or copy=None."
            )
        here = session.local_cpu().local_devices()[0]
        return _put(np.asarray(original(tensor, here, stream, None, *rest)), getattr(device, "device", device))

    return [
        Patch(
            "jaxlib._jax", "buffer_to_dlpack_managed_tensor", to_dlpack, "The proxy client shares no memory: a copy."
        ),
        Patch("jaxlib._jax", "dlpack_managed_tensor_to_buffer", from_dlpack, "The same, the other way."),
        Patch("jax._src.dlpack", "xla_bridge", overlay(get_backend=get_backend), "JAX looks for the tensor's device."),
    ]


class _Cluster:
    """The cluster as the place where tensors of this process come to be, whatever kind of memory they are in."""

    def device_from_local_hardware_id(self, _id: int) -> _Device:
        return _Device(_jax.local_devices()[0])


class _Device:
    """A device of the cluster, which has no stream that another library could wait for."""

    def __init__(self, device: Any) -> None:
        self.device = device
        self.client = device.client

    def __eq__(self, other: object) -> bool:
        return bool(self.device == other)

    def __hash__(self) -> int:
        return hash(self.device)

    def __repr__(self) -> str:
        return repr(self.device)

    def get_stream_for_external_ready_events(self) -> None:
        return None


def _put(array: Any, device: Any) -> Any:
    # What is in the array stays as it is, whatever JAX makes of 64 bits.
    with _jax.enable_x64(True):
        return _jax.device_put(array, device)
