"""What JAX lacks for a cluster, hooked into its internals where nothing public will do.

jaxlib's proxy client refuses some of what jaxlib's other clients do, and some of JAX takes for
granted that devices are in its own process. Each module here mends one such thing, and says
what JAX does and what it does instead. A hook does its part for the cluster's client alone and
passes everything else on unchanged; installed once, it stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from polypath.client.hooks import analysis, callbacks, dlpack, getting, pacing, partitioning, putting, waiting
from polypath.client.hooks.cluster import connect, disconnect

__all__ = ["install", "session_ended", "uninstall"]


def install(client: Any, target: str, folder: Path | None) -> None:
    """Have the hooks serve the cluster at `target`, which `client` is connected to; `folder` is the session's."""
    uninstall()
    connect(client, target)
    for module in (analysis, callbacks, dlpack, partitioning, putting):
        module.install()
    getting.install(client, folder)
    waiting.install(client, folder)
    pacing.install(folder)


def session_ended() -> None:
    """Nobody answers any more; whoever waits is to hear of it."""
    waiting.uninstall()


def uninstall() -> None:
    """There is no cluster any more."""
    getting.uninstall()
    waiting.uninstall()
    disconnect()
