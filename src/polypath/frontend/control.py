"""The service behind `polypath status`: JSON over the clients' socket.

Owns nothing: it calls what the head gave it. `control_client` is the other end.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from polypath.controller.events import AnyRequest, Holdings, MemoryStats, ProgramSource, Result
from polypath.frontend.http2_stream import Methods, Stream
from polypath.frontend.refused import Refused, invalid
from polypath.types import DeviceId, Failure, HostId, SessionId

SERVICE: Final = "polypath.Control"

_R = TypeVar("_R", bound=msgspec.Struct)

Ask = Callable[[Callable[[SessionId, int], AnyRequest]], Awaitable[Result]]


class MemoryStatsRequest(msgspec.Struct, frozen=True):
    """What a device's platform counts of its memory."""

    device: DeviceId


class ProgramSourceRequest(msgspec.Struct, frozen=True):
    """What a program was compiled from."""

    fingerprint: bytes
    devices: tuple[DeviceId, ...]


class HoldingsRequest(msgspec.Struct, frozen=True):
    """How much of what a worker holds."""

    host: HostId


class Control:
    """Answers the command line, and what our client asks besides the protocol.

    Args:
        status: what to show, as any structure that msgspec can write.
    """

    def __init__(self, status: Callable[[], msgspec.Struct]) -> None:
        self._status = status
        self.ask: Ask | None = None
        """Puts a question to the controller; whoever serves sets it."""

    def methods(self) -> Methods:
        """What a server is to serve."""
        return {
            f"/{SERVICE}/Status": self._answer_status,
            f"/{SERVICE}/MemoryStats": self._answer_memory_stats,
            f"/{SERVICE}/ProgramSource": self._answer_program_source,
            f"/{SERVICE}/Holdings": self._answer_holdings,
        }

    async def _answer_status(self, call: Stream) -> None:
        await call.read_only()
        await call.write(msgspec.json.encode(self._status()))

    async def _answer_memory_stats(self, call: Stream) -> None:
        request = await _read(call, MemoryStatsRequest)
        found = await self._answer(lambda session, op: MemoryStats(session, op, request.device))
        await call.write(msgspec.json.encode(msgspec.msgpack.decode(found)))

    async def _answer_holdings(self, call: Stream) -> None:
        request = await _read(call, HoldingsRequest)
        found = await self._answer(lambda session, op: Holdings(session, op, request.host))
        await call.write(msgspec.json.encode(msgspec.msgpack.decode(found)))

    async def _answer_program_source(self, call: Stream) -> None:
        request = await _read(call, ProgramSourceRequest)
        await call.write(
            await self._answer(lambda session, op: ProgramSource(session, op, request.fingerprint, request.devices))
        )

    async def _answer(self, question: Callable[[SessionId, int], AnyRequest]) -> bytes:
        assert self.ask is not None
        found = await self.ask(question)
        if isinstance(found, Failure):
            raise Refused(found.code, found.message)
        assert isinstance(found, bytes)
        return found


async def _read(call: Stream, kind: type[_R]) -> _R:
    try:
        return msgspec.json.decode(await call.read_only(), type=kind)
    except msgspec.DecodeError as error:
        raise invalid(f"This is no {kind.__name__}: {error}.") from error
