"""What jaxlib's proxy client does not tell of programs and devices.

- `Lowered.cost_analysis()` is XLA's estimate from the program alone: a CPU client of this process
  makes it, and nothing is compiled or run.
- `Device.memory_stats()` is asked of the device's worker; None on platforms that count nothing.
- `LoadedExecutable.hlo_modules()` is read from the text of the optimized program, which jaxlib's client does tell.
- `Device.local_hardware_id` is the device's place among all of the cluster's, as each host's own numbers are not unique
  in one process; `Client.device_from_local_hardware_id()` finds a device by it.

Seen on jax 0.9 to 0.12.
"""

from __future__ import annotations

from typing import Any

import jax
from jax._src import lib
from jax._src.interpreters import pxla

from polypath.client.hooks.cluster import cluster_socket, is_cluster, local_cpu, replace, replace_property
from polypath.frontend import control_client

_errors: Any = jax.errors
_jaxlib: Any = getattr(pxla, "_jax")  # noqa: B009
_hlo: Any = getattr(lib, "hlo", _jaxlib)


def install() -> None:
    """Put the hooks in place."""
    replace(_jaxlib, "hlo_module_cost_analysis", _cost_analysis)
    replace(_jaxlib.Device, "memory_stats", _memory_stats)
    if hasattr(_hlo, "hlo_module_from_text"):
        replace(_jaxlib.LoadedExecutable, "hlo_modules", _hlo_modules)
    replace(_jaxlib.Client, "device_from_local_hardware_id", _device_from_local_hardware_id)
    replace_property(_jaxlib.Device, "local_hardware_id", _local_hardware_id)


def _memory_stats(original: Any) -> Any:
    def memory_stats(self: Any) -> dict[str, int] | None:
        path = cluster_socket(self.client)
        return original(self) if path is None else control_client.memory_stats(f"unix:{path}", self.id)

    return memory_stats


def _hlo_modules(original: Any) -> Any:
    def hlo_modules(self: Any) -> list[Any]:
        if not is_cluster(self.client):
            return original(self)
        return [_hlo.hlo_module_from_text(self.get_hlo_text())]

    return hlo_modules


def _local_hardware_id(original: Any) -> Any:
    def local_hardware_id(self: Any) -> int | None:
        return self.client.local_devices().index(self) if is_cluster(self.client) else original(self)

    return local_hardware_id


def _device_from_local_hardware_id(original: Any) -> Any:
    def device_from_local_hardware_id(self: Any, number: int) -> Any:
        if not is_cluster(self):
            return original(self, number)
        devices = self.local_devices()
        if 0 <= number < len(devices):
            return devices[number]
        raise _errors.JaxRuntimeError(f"INVALID_ARGUMENT: No matching device found for local_device_id {number}")

    return device_from_local_hardware_id


def _cost_analysis(original: Any) -> Any:
    def cost_analysis(client: Any, module: Any) -> Any:
        return original(local_cpu() if is_cluster(client) else client, module)

    return cost_analysis
