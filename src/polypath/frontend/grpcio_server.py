"""The standard gRPC server behind `calls.Server`: to compare with, and to fall back on.

Nothing else of this package imports grpc's server, which brings threads of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import grpc
import grpc.aio

from polypath.frontend.calls import Conversation, Method, Methods, Wait
from polypath.frontend.refused import Buffer, Refused

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

_Context = grpc.aio.ServicerContext[Any, Any]


class GrpcioServer:
    """Serves `methods` by grpc.aio (`calls.Server`)."""

    def __init__(self, methods: Methods) -> None:
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers((_Handlers(methods),))

    async def serve(self, path: str) -> None:
        try:
            self._server.add_insecure_port(f"unix:{path}")
        except RuntimeError as error:
            raise OSError(str(error)) from error
        await self._server.start()
        os.chmod(path, 0o600)  # noqa: PTH101  # a moment, on the loop that serves nobody yet

    async def stop(self) -> None:
        await self._server.stop(None)


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # grpc's handlers have no types
        method = self._methods.get(handler_call_details.method)
        if method is None:
            return None
        make: Any = grpc.stream_stream_rpc_method_handler
        return make(_behaviour(method))


def _behaviour(method: Method) -> Any:
    async def serve(stream: AsyncIterator[bytes], context: _Context) -> None:
        try:
            await method(_Call(stream, context))
        except Refused as refused:
            await context.abort(_CODES[refused.failure.code], refused.failure.message)

    return serve


class _Call:
    """A call, as its method sees it (`calls.Call`)."""

    def __init__(self, stream: AsyncIterator[bytes], context: _Context) -> None:
        self._stream = stream
        self._context = context

    @property
    def peer(self) -> str:
        return self._context.peer()

    def header(self, name: str) -> bytes | None:
        for key, value in self._context.invocation_metadata() or ():
            if key == name and isinstance(value, bytes):
                return value
        return None

    async def each(self, take: Callable[[Buffer], Wait | None]) -> None:
        async for data in self._stream:
            wait = take(data)
            if wait is not None:
                await wait()

    async def write(self, data: bytes, more: Buffer = b"") -> None:
        await self._context.write(data + more)

    async def converse(self, conversation: Conversation) -> None:
        refused = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_responses(conversation))
            refused = await conversation.read_requests(self._stream)
            conversation.finish()
        if refused is not None:
            raise refused

    async def _write_responses(self, conversation: Conversation) -> None:
        # Where the connection broke, the reader learns of it too, and ends the call.
        with contextlib.suppress(grpc.aio.BaseError):
            await conversation.write_responses(self._context.write)
