"""What jaxlib's proxy client does not tell of programs and devices.

- `Lowered.cost_analysis()` is XLA's estimate from the program alone: a CPU client of this process
  makes it, and nothing is compiled or run.
- `Device.memory_stats()` is asked of the device's worker; None on platforms that count nothing.
- `LoadedExecutable.hlo_modules()` is read from the text of the optimized program, which jaxlib's client does tell.
- `Device.local_hardware_id` is the device's index among all of the cluster's, as each host's own numbers are not unique
  in one process; `Client.device_from_local_hardware_id()` finds a device by it.
"""

from __future__ import annotations

from typing import Any

import jax
from jax._src import lib
from jax._src.interpreters import pxla

from polypath.client.hooks.patches import Patch, getter
from polypath.client.session import Session
from polypath.frontend import control_client

_errors: Any = jax.errors
_jaxlib: Any = getattr(pxla, "_jax")  # noqa: B009
_module_from_text: Any = getattr(lib, "hlo", _jaxlib).hlo_module_from_text


def patches(session: Session) -> list[Patch]:
    """This hook's, for `session`."""

    def memory_stats(original: Any, self: Any) -> dict[str, int] | None:
        path = session.cluster_socket(self.client)
        return original(self) if path is None else control_client.memory_stats(f"unix:{path}", self.id)

    def hlo_modules(original: Any, self: Any) -> list[Any]:
        if not session.is_cluster(self.client):
            return original(self)
        return [_module_from_text(self.get_hlo_text())]

    def local_hardware_id(original: Any, self: Any) -> int | None:
        return self.client.local_devices().index(self) if session.is_cluster(self.client) else original(self)

    def device_from(original: Any, self: Any, number: int) -> Any:
        if not session.is_cluster(self):
            return original(self, number)
        devices = self.local_devices()
        if 0 <= number < len(devices):
            return devices[number]
        raise _errors.JaxRuntimeError(f"INVALID_ARGUMENT: No matching device found for local_device_id {number}")

    def cost_analysis(original: Any, client: Any, module: Any) -> Any:
        return original(session.local_cpu() if session.is_cluster(client) else client, module)

    return [
        Patch("jaxlib._jax", "hlo_module_cost_analysis", cost_analysis, "The proxy client refuses to estimate costs."),
        Patch("jaxlib._jax:Device", "memory_stats", memory_stats, "The proxy client does not ask the device's worker."),
        Patch("jaxlib._jax:Device", "local_hardware_id", getter(local_hardware_id), "Each host counts its own from 0."),
        Patch("jaxlib._jax:Client", "device_from_local_hardware_id", device_from, "The proxy client finds no device."),
        Patch(
            "jaxlib._jax:LoadedExecutable", "hlo_modules", hlo_modules, "The proxy client has the program only as text."
        ),
    ]
