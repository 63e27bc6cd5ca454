"""What JAX lacks for a cluster, hooked into its internals where nothing public will do.

jaxlib's proxy client refuses some of what jaxlib's other clients do, and some of JAX takes for
granted that devices are in its own process. Each module here mends one such thing, and says
what JAX does and what it does instead. A hook does its part for the cluster's client alone and
passes everything else on unchanged; installed once, it stays.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from polypath.client.hooks import (
    analysis,
    arrays,
    callbacks,
    copying,
    dlpack,
    donating,
    getting,
    partitioning,
    programs,
    putting,
    sending,
    waiting,
)
from polypath.client.hooks.cluster import connect, disconnect, takes_numbers
from polypath.client.hooks.interrupts import give_up_interrupted
from polypath.client.landing import StreamLanding

__all__ = ["give_up_interrupted", "install", "session_ended", "uninstall"]

_log = logging.getLogger(__name__)

_landing: StreamLanding | None = None


def install(client: Any, target: str, folder: Path | None) -> None:
    """Have the hooks serve the cluster at `target`, which `client` is connected to; `folder` is the session's."""
    global _landing
    uninstall()
    connect(client, target)
    for module in (analysis, arrays, callbacks, copying, dlpack, donating, partitioning, programs):
        module.install()
    _landing = None if folder is None else _land(folder)
    getting.install(client, _landing)
    sending.install(client, _landing)
    waiting.install(client, folder)
    putting.install()


def session_ended() -> None:
    """Nobody answers any more; whoever waits is to hear of it."""
    waiting.close()


def uninstall() -> None:
    """There is no cluster any more."""
    global _landing
    getting.uninstall()
    waiting.uninstall()
    sending.uninstall()
    if _landing is not None:
        _landing.close()
        _landing = None
    disconnect()


def _land(folder: Path) -> StreamLanding | None:
    if not takes_numbers():
        return None
    try:
        return StreamLanding(folder)
    except OSError as error:  # Its name is too long for a socket, say.
        _log.info("Arrays go through the head: %s", error)
        return None
