"""Has this process take the first client that it makes of the CPU for an accelerator's.

What jaxlib says of a GPU is not here; this is what differs to a worker: the platform's name, and that a second
client has the CPU devices beside it.
"""

from __future__ import annotations

from typing import Any

import jax
from jax._src import distributed, xla_bridge

from polypath.worker import jaxlib
from polypath.worker.jaxlib import clients, devices


def pretend(platform: str, count: int) -> None:
    """`platform` is what the client says it is, and the name under which it is found; it has `count` devices."""
    found: list[Any] = []
    real = devices.platform_name

    def platform_name(client: Any) -> str:
        return platform if any(client is each for each in found) else real(client)

    def make() -> Any:
        jax.config.update("jax_num_cpu_devices", count)
        found.append(xla_bridge._backend_factories["cpu"].factory())
        return found[-1]

    def make_cpu_client(count: int, _group: Any) -> Any:
        # Not of the group, which has met this process's CPUs already.
        group, distributed.global_state.client = distributed.global_state.client, None
        try:
            return clients.make_cpu_client(count, None)
        finally:
            distributed.global_state.client = group

    jaxlib.make_cpu_client = make_cpu_client
    devices.platform_name = jaxlib.platform_name = platform_name
    xla_bridge.register_backend_factory(platform, make, priority=400)
