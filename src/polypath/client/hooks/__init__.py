"""What JAX lacks for a cluster, hooked into its internals where nothing public will do.

jaxlib's proxy client refuses some of what jaxlib's other clients do, and some of JAX takes for
granted that devices are in its own process. Each module here mends one such thing, and says
what JAX does and what it does instead; `patches` has the table of all that is replaced in JAX.
"""

from __future__ import annotations

import logging
from pathlib import Path

from polypath.client.hooks import getting, patches, putting, sending, waiting
from polypath.client.hooks.cluster import takes_numbers, use
from polypath.client.hooks.pacing import Pace
from polypath.client.landing import Landing, SlotLanding, StreamLanding
from polypath.client.session import Session

__all__ = ["install", "session_ended"]

_log = logging.getLogger(__name__)


def install(session: Session, folder: Path | None, shares_memory: bool) -> None:
    """Have the hooks serve `session` until it closes.

    `folder` is the session's, and `shares_memory` tells whether arrays go through it as files.
    """
    use(session)
    patches.install(session)
    landing = None if folder is None else _land(folder, shares_memory)
    session.own(_Others(landing))
    getting.install(session.client, landing)
    sending.install(session.client, landing if isinstance(landing, StreamLanding) else None)
    waiting.install(session.client, folder)
    putting.install(Pace(folder) if folder is not None and shares_memory else None)


def session_ended() -> None:
    """Nobody answers any more; whoever waits is to hear of it."""
    waiting.close()


class _Others:
    """To be deleted: the hooks that are not in `patches.HOOKS` yet."""

    def __init__(self, landing: Landing | None) -> None:
        self._landing = landing

    def close(self) -> None:
        getting.uninstall()
        waiting.uninstall()
        sending.uninstall()
        if self._landing is not None:
            self._landing.close()

    def abandon(self) -> None:
        """Nothing yet."""


def _land(folder: Path, shares_memory: bool) -> Landing | None:
    if not takes_numbers():
        return None
    try:
        return SlotLanding(folder) if shares_memory else StreamLanding(folder)
    except OSError as error:  # Its name is too long for a socket, say.
        _log.info("Arrays go through the head: %s", error)
        return None
