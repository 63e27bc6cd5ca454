"""What jaxlib's proxy client does not tell of programs and devices.

- `Lowered.cost_analysis()` is XLA's estimate from the program alone: a CPU client of this process
  makes it, and nothing is compiled or run.
- `Device.memory_stats()` is asked of the device's worker; None on platforms that count nothing.
"""

from __future__ import annotations

from typing import Any

from jax._src.interpreters import pxla

from polypath.client.hooks.cluster import cluster_socket, is_cluster, local_cpu, replace
from polypath.frontend import control_client

_jaxlib: Any = getattr(pxla, "_jax")  # noqa: B009


def install() -> None:
    """Put the hooks in place."""
    replace(_jaxlib, "hlo_module_cost_analysis", _cost_analysis)
    replace(_jaxlib.Device, "memory_stats", _memory_stats)


def _memory_stats(original: Any) -> Any:
    def memory_stats(self: Any) -> dict[str, int] | None:
        path = cluster_socket(self.client)
        return original(self) if path is None else control_client.memory_stats(f"unix:{path}", self.id)

    return memory_stats


def _cost_analysis(original: Any) -> Any:
    def cost_analysis(client: Any, module: Any) -> Any:
        return original(local_cpu() if is_cluster(client) else client, module)

    return cost_analysis
