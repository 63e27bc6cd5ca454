"""What stock JAX says of a function that a program calls: the entry point by which JAX finds us is all that differs."""

from __future__ import annotations

import jax._src.xla_bridge as bridge

bridge.discover_pjrt_plugins = lambda: None

import jax  # noqa: E402 - once none is found
import pathwaysutils  # noqa: E402

pathwaysutils.initialize()
try:
    jax.jit(lambda x: jax.debug.print("{}", x))(1)
except jax.errors.JaxRuntimeError as error:
    print(error)
