"""The gRPC service that clients connect to.

Owns the server, its socket and the sessions. Bytes go in and out here; what they mean is in
`session` and `requests`. Everything runs on the event loop that `serve` was called on.

The protocol has no encryption that a client could use with us, so it is served on unix sockets
only: the socket's folder decides who may connect.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import grpc
import grpc.aio
import msgspec
from google.protobuf.message import Message

from polypath.controller.events import AnyRequest, Close, Open, Reply
from polypath.errors import ClusterError
from polypath.frontend import attributes, versions
from polypath.frontend.control import Control
from polypath.frontend.host_buffers import HostBuffers, SharedMemory, discard
from polypath.frontend.refused import Refused, invalid, parse
from polypath.frontend.session import Session
from polypath.frontend.view import ClusterView
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.messages import Shared
from polypath.types import Code, Failure, SessionId

_M = TypeVar("_M", bound=Message)

_SERVICE: Final = "xla.ifrt.proxy.GrpcIfrtService"
_SESSION_METADATA: Final = "ifrt-proxy-grpc-ifrt-session-metadata-bin"
_STORE_METADATA: Final = "ifrt-proxy-grpc-host-buffer-store-metadata-bin"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}

_Context = grpc.aio.ServicerContext[Any, Any]


class FrontendStatistics(msgspec.Struct, frozen=True):
    """What the frontend has done since it was started."""

    sessions: int
    """Clients connected now."""
    sessions_total: int
    requests: int
    refusals: int
    """Responses that told a failure, of whatever cause."""
    host_buffers: int
    """Buffers held now, on their way up or down."""


class Frontend:
    """Serves clients of one cluster.

    Args:
        submit: takes each event, on the loop, in the order of each client; it may call
            `deliver` before it returns.
        cluster: what there is now. A session sees what it returns when the session begins.
        shared: the folder in shared memory under which clients may leave large buffers.
        control: the service for the command line, on the same socket.
    """

    def __init__(
        self,
        submit: Callable[[AnyRequest | Open | Close], None],
        cluster: Callable[[], ClusterView],
        *,
        shared: Path | None = None,
        control: Control | None = None,
    ) -> None:
        self._submit = submit
        self._cluster = cluster
        self._shared = SharedMemory(shared)
        self._control = control
        self._server: grpc.aio.Server | None = None
        self._socket: Path | None = None
        self._sessions: dict[SessionId, Session] = {}
        self._sessions_total = 0
        self._requests_of_ended = 0
        self._refusals_of_ended = 0

    async def serve(self, address: str) -> None:
        """Listen on `address`, such as `unix:/run/user/1000/polypath/demo/ifrt.sock`, and return.

        Raises:
            ClusterError: nobody can listen there.
        """
        path = Path(address.removeprefix("unix:"))
        if not address.startswith("unix:") or not path.is_absolute():
            raise ClusterError(f"Clients cannot be served on {address!r}: give unix: and an absolute path.")
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers((self._handlers(),))
        if self._control is not None:
            server.add_generic_rpc_handlers((self._control.handlers(),))
        try:
            server.add_insecure_port(address)
        except RuntimeError as error:
            raise ClusterError(
                f"Nobody can listen on {address}: does the folder exist, may you write to it, "
                f"and is the path shorter than 108 bytes? ({error})"
            ) from error
        await server.start()
        _make_private(path)
        self._server, self._socket = server, path

    async def stop(self) -> None:
        """End all sessions, and leave no socket behind."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None
        for session in tuple(self._sessions.values()):
            self._end(session)
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)
            self._socket = None

    def deliver(self, reply: Reply) -> None:
        """Answer a client. One that is gone gets nothing."""
        session = self._sessions.get(reply.session)
        if session is not None:
            session.deliver(reply.op, reply.result)
        elif isinstance(reply.result, Shared):
            discard(reply.result)

    def statistics(self) -> FrontendStatistics:
        """The counters."""
        live = self._sessions.values()
        return FrontendStatistics(
            sessions=len(live),
            sessions_total=self._sessions_total,
            requests=self._requests_of_ended + sum(s.requests for s in live),
            refusals=self._refusals_of_ended + sum(s.refusals for s in live),
            host_buffers=sum(len(s.buffers) for s in live),
        )

    # --- The session's stream -----------------------------------------------------------------

    async def _session(self, stream: AsyncIterator[bytes], context: _Context) -> None:
        try:
            session = self._begin(context)
        except Refused as refused:
            await _abort(context, refused.failure)
        refused = None
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(session.write_responses(context.write))
                refused = await session.read_requests(stream)
                session.finish()
        finally:
            self._end(session, refused.failure.message if refused else "")
        if refused is not None:
            await _abort(context, refused.failure)

    def _begin(self, context: _Context) -> Session:
        metadata = _header(context, _SESSION_METADATA, pb.GrpcIfrtSessionMetadata)
        versions.check(metadata.version)
        told = attributes.decode(metadata.initialization_data)
        folder = told.get("shared_dir")
        buffers = HostBuffers(self._shared, self._shared.claim(None if folder is None else str(folder)))
        session = Session(secrets.randbits(62) + 1, self._cluster(), buffers, self._submit)
        self._sessions[session.id] = session
        self._sessions_total += 1
        self._submit(Open(session.id, str(told.get("client", context.peer()))))
        return session

    def _end(self, session: Session, reason: str = "") -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        self._requests_of_ended += session.requests
        self._refusals_of_ended += session.refusals
        session.close(reason)

    # --- Calls beside it ----------------------------------------------------------------------

    async def _get_version(self, data: bytes, context: _Context) -> bytes:
        try:
            version = versions.negotiate(parse(pb.GrpcGetVersionRequest, data, "a version"))
        except Refused as refused:
            await _abort(context, refused.failure)
        return pb.GrpcGetVersionResponse(version=version).SerializeToString()

    async def _store(self, stream: AsyncIterator[bytes], context: _Context) -> bytes:
        try:
            metadata = _header(context, _STORE_METADATA, pb.GrpcHostBufferStoreMetadata)
            buffers = self._buffers_of(metadata.session_id)
            buffers.check_new(metadata.handle)
            chunks: list[bytes] = []
            size = 0
            async for data in stream:
                chunk = parse(pb.GrpcHostBufferStoreRequest, data, "a chunk of a host buffer").data
                size += len(chunk)
                if size > metadata.buffer_size:
                    break
                chunks.append(chunk)
            if size != metadata.buffer_size:
                raise Refused(
                    Code.DATA_LOSS,
                    f"Host buffer {metadata.handle} came with {'more' if size > metadata.buffer_size else size} "
                    f"bytes where the client announced {metadata.buffer_size}: the connection lost some.",
                )
            buffers.store(metadata.handle, chunks[0] if len(chunks) == 1 else b"".join(chunks))
        except Refused as refused:
            await _abort(context, refused.failure)
        return pb.GrpcHostBufferStoreResponse().SerializeToString()

    async def _read_from_disk(self, data: bytes, context: _Context) -> bytes:
        try:
            request = parse(pb.GrpcHostBufferReadFromDiskRequest, data, "a request").metadata
            self._buffers_of(request.session_id).store_file(request.handle, request.buffer_size)
        except Refused as refused:
            await _abort(context, refused.failure)
        return pb.GrpcHostBufferReadFromDiskResponse().SerializeToString()

    async def _lookup(self, data: bytes, context: _Context) -> None:
        try:
            request = parse(pb.GrpcHostBufferLookupRequest, data, "a request")
            for chunk in self._buffers_of(request.session_id).chunks(request.handle):
                await context.write(pb.GrpcHostBufferLookupResponse(data=chunk).SerializeToString())
        except Refused as refused:
            await _abort(context, refused.failure)

    async def _delete(self, data: bytes, context: _Context) -> bytes:
        try:
            request = parse(pb.GrpcHostBufferDeleteRequest, data, "a request")
            self._buffers_of(request.session_id).delete(request.handle)
        except Refused as refused:
            await _abort(context, refused.failure)
        return pb.GrpcHostBufferDeleteResponse().SerializeToString()

    def _buffers_of(self, id_: SessionId) -> HostBuffers:
        session = self._sessions.get(id_)
        if session is None:
            raise Refused(Code.NOT_FOUND, "The session of this host buffer has ended: connect anew.")
        return session.buffers

    def _handlers(self) -> grpc.GenericRpcHandler:
        return grpc.method_handlers_generic_handler(
            _SERVICE,
            {
                "GetVersion": grpc.unary_unary_rpc_method_handler(self._get_version),
                "IfrtSession": grpc.stream_stream_rpc_method_handler(self._session),
                "HostBufferStore": grpc.stream_unary_rpc_method_handler(self._store),
                "HostBufferReadFromDisk": grpc.unary_unary_rpc_method_handler(self._read_from_disk),
                "HostBufferLookup": grpc.unary_stream_rpc_method_handler(self._lookup),
                "HostBufferDelete": grpc.unary_unary_rpc_method_handler(self._delete),
            },
        )


def _header(context: _Context, name: str, kind: type[_M]) -> _M:
    for key, value in context.invocation_metadata() or ():
        if key == name and isinstance(value, bytes):
            return parse(kind, value, f"the header {name}")
    raise invalid(f"The call has no header {name}: connect with stock jaxlib.")


async def _abort(context: _Context, failure: Failure) -> NoReturn:
    await context.abort(_CODES[failure.code], failure.message)
    raise AssertionError("abort returned")


def _make_private(socket: Path) -> None:
    socket.chmod(0o600)
