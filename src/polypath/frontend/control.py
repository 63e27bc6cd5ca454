"""The service behind `polypath status` and `polypath down`: JSON over the clients' socket.

Owns nothing: it calls what the head gave it. `control_client` is the other end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from polypath.controller.events import AnyRequest, MemoryStats, Result
from polypath.frontend.calls import Call, Methods, read_only
from polypath.frontend.refused import Refused, invalid
from polypath.types import DeviceId, Failure, SessionId

SERVICE: Final = "polypath.Control"

Ask = Callable[[Callable[[SessionId, int], AnyRequest]], Awaitable[Result]]


class ShutdownRequest(msgspec.Struct, frozen=True):
    """End the cluster."""

    reason: str = "asked to"
    """For the log."""


class MemoryStatsRequest(msgspec.Struct, frozen=True):
    """What a device's platform counts of its memory."""

    device: DeviceId


class Control:
    """Answers the command line, and what our client asks besides the protocol.

    Args:
        status: what to show, as any structure that msgspec can write.
        shutdown: begins to end the cluster, and returns at once.
    """

    def __init__(self, status: Callable[[], msgspec.Struct], shutdown: Callable[[ShutdownRequest], None]) -> None:
        self._status = status
        self._shutdown = shutdown
        self.ask: Ask | None = None
        """Puts a question to the controller; whoever serves sets it."""

    def methods(self) -> Methods:
        """What a server is to serve."""
        return {
            f"/{SERVICE}/Status": self._answer_status,
            f"/{SERVICE}/Shutdown": self._answer_shutdown,
            f"/{SERVICE}/MemoryStats": self._answer_memory_stats,
        }

    async def _answer_status(self, call: Call) -> None:
        await read_only(call)
        await call.write(msgspec.json.encode(self._status()))

    async def _answer_memory_stats(self, call: Call) -> None:
        try:
            request = msgspec.json.decode(await read_only(call), type=MemoryStatsRequest)
        except msgspec.DecodeError as error:
            raise invalid(f"This is no question about memory: {error}.") from error
        assert self.ask is not None
        found = await self.ask(lambda session, op: MemoryStats(session, op, request.device))
        if isinstance(found, Failure):
            raise Refused(found.code, found.message)
        assert isinstance(found, bytes)
        await call.write(msgspec.json.encode(msgspec.msgpack.decode(found)))

    async def _answer_shutdown(self, call: Call) -> None:
        try:
            request = msgspec.json.decode(await read_only(call), type=ShutdownRequest)
        except msgspec.DecodeError as error:
            raise invalid(f"This is no shutdown request: {error}.") from error
        self._shutdown(request)
        await call.write(b"{}")
