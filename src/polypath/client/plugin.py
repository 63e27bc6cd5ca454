"""JAX's way to us: it imports this module and calls `initialize()` before its first backend.

Everyone who has Polypath installed passes here, so it does nothing, and imports nothing, for a
JAX that is not to use a cluster.
"""

from __future__ import annotations

from typing import Any


def initialize() -> None:
    """Register the proxy backend if JAX was told to use one and the target is ours to serve."""
    import jax

    config: Any = jax.config
    platforms: str = config.jax_platforms or ""
    target: str = config.read("jax_backend_target") or ""
    if "proxy" not in platforms.split(",") or not target:
        return
    from polypath import versions
    from polypath.client.environment import is_ours

    if not versions.is_client(jax.__version__):
        if is_ours(target):
            _register_refusal(jax.__version__)
        return
    from polypath.client import backend

    # Another package's registration stands, unless the target is one of our clusters.
    if is_ours(target) or not backend.is_registered():
        backend.register()


def _register_refusal(version: str) -> None:
    """Have JAX say why when it needs devices; what is raised before that it only logs."""
    import jax.extend.backend

    from polypath import versions

    extend: Any = jax.extend.backend
    extend.register_backend_factory("proxy", lambda: versions.check_client(version), priority=-1)
