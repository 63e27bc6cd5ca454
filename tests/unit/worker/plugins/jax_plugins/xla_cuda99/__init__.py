"""A plugin as JAX finds it: its CUDA is broken, and beside it there is a platform of its own that works."""

from __future__ import annotations

from jax._src import xla_bridge


def initialize() -> None:
    if "toy" not in xla_bridge._backend_factories:
        xla_bridge.register_backend_factory("toy", xla_bridge._backend_factories["cpu"].factory, priority=-50)
    raise RuntimeError("Unable to load cuDNN. Is it installed?")
