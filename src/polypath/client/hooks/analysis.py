"""`Lowered.cost_analysis()`, which jaxlib's proxy client refuses: it is XLA's estimate from the program alone.

A CPU client of this process makes it; nothing is compiled or run.
"""

from __future__ import annotations

from typing import Any

from jax._src.interpreters import pxla

from polypath.client.hooks.cluster import is_cluster, local_cpu, replace

_jaxlib: Any = getattr(pxla, "_jax")  # noqa: B009


def install() -> None:
    """Put the hooks in place."""
    replace(_jaxlib, "hlo_module_cost_analysis", _cost_analysis)


def _cost_analysis(original: Any) -> Any:
    def cost_analysis(client: Any, module: Any) -> Any:
        return original(local_cpu() if is_cluster(client) else client, module)

    return cost_analysis
