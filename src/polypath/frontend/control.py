"""The service behind `polypath status` and `polypath down`: JSON over the clients' socket.

Owns nothing: it calls what the head gave it. `control_client` is the other end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from polypath.frontend.calls import Call, Methods, read_only
from polypath.frontend.refused import invalid

SERVICE: Final = "polypath.Control"


class ShutdownRequest(msgspec.Struct, frozen=True):
    """End the cluster."""

    reason: str = "asked to"
    """For the log."""


class Control:
    """Answers the command line.

    Args:
        status: what to show, as any structure that msgspec can write.
        shutdown: begins to end the cluster, and returns at once.
    """

    def __init__(self, status: Callable[[], msgspec.Struct], shutdown: Callable[[ShutdownRequest], None]) -> None:
        self._status = status
        self._shutdown = shutdown

    def methods(self) -> Methods:
        """What a server is to serve."""
        return {f"/{SERVICE}/Status": self._answer_status, f"/{SERVICE}/Shutdown": self._answer_shutdown}

    async def _answer_status(self, call: Call) -> None:
        await read_only(call)
        await call.write(msgspec.json.encode(self._status()))

    async def _answer_shutdown(self, call: Call) -> None:
        try:
            request = msgspec.json.decode(await read_only(call), type=ShutdownRequest)
        except msgspec.DecodeError as error:
            raise invalid(f"This is no shutdown request: {error}.") from error
        self._shutdown(request)
        await call.write(b"{}")
