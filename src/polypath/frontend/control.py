"""The service behind `polypath status` and `polypath down`: JSON over the clients' socket.

Owns nothing: it calls what the head gave it. `control_client` is the other end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc
import grpc.aio
import msgspec

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

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods, for a server."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Status": grpc.unary_unary_rpc_method_handler(self._answer_status),
                "Shutdown": grpc.unary_unary_rpc_method_handler(self._answer_shutdown),
            },
        )

    async def _answer_status(self, _data: bytes, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return msgspec.json.encode(self._status())

    async def _answer_shutdown(self, data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        try:
            request = msgspec.json.decode(data, type=ShutdownRequest)
        except msgspec.DecodeError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"This is no shutdown request: {error}.")
        self._shutdown(request)
        return b"{}"
