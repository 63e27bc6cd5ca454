"""The gRPC service that clients connect to.

Owns the server, its socket and the sessions. Bytes go in and out here; what they mean is in
`session` and `requests`. Everything runs on the event loop that `serve` was called on.

The protocol has no encryption that a client could use with us, so it is served on unix sockets
only: the socket's folder decides who may connect.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from google.protobuf.message import Message

from polypath.controller.events import AnyRequest, Call, Close, Open, Release, Reply, Result, Returned
from polypath.errors import ClusterError
from polypath.frontend import versions
from polypath.frontend.callbacks import HostCallbacks
from polypath.frontend.chunks import chunk_head, read_chunk
from polypath.frontend.control import Control, Question
from polypath.frontend.host_buffers import HostBuffers, TooLarge, Upload
from polypath.frontend.http2_stream import Method, Methods, Stream
from polypath.frontend.lean_server import LeanServer
from polypath.frontend.links import HeadLinks
from polypath.frontend.refused import Buffer, Refused, invalid, parse
from polypath.frontend.session import Session
from polypath.frontend.view import ClusterView
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import Code, SessionId

_M = TypeVar("_M", bound=Message)

_SERVICE: Final = "xla.ifrt.proxy.GrpcIfrtService"
_SESSION_METADATA: Final = "ifrt-proxy-grpc-ifrt-session-metadata-bin"
_STORE_METADATA: Final = "ifrt-proxy-grpc-host-buffer-store-metadata-bin"

_NO_FILES: Final = (
    "The cluster reads no files of its clients: unset IFRT_PROXY_GRPC_LARGE_TRANSFER_OPTIMIZATION_DIRECTORY."
)


_DISCONNECTED: Final = "the connection of its JAX client to the head ended"


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
    bytes_up: int
    """Of arrays that clients sent through this process since it was started."""
    bytes_down: int
    """Of arrays that clients took through this process."""


class Frontend:
    """Serves clients of one cluster.

    Args:
        submit: takes each event, on the loop, in the order of each client; it may call
            `deliver` before it returns.
        cluster: what there is now. A session sees what it returns when the session begins.
        control: the service for the command line, on the same socket.
        links: those of clients to this process, which end with their sessions.
    """

    def __init__(
        self,
        submit: Callable[[AnyRequest | Open | Close | Returned], None],
        cluster: Callable[[], ClusterView],
        *,
        control: Control | None = None,
        links: HeadLinks | None = None,
    ) -> None:
        self._submit = submit
        self._cluster = cluster
        self._control = control
        self._links = links
        self._asked: dict[SessionId, asyncio.Future[Result]] = {}
        if control is not None:
            control.ask = self._ask
        self._callbacks = HostCallbacks(submit)
        self._server: LeanServer | None = None
        self._socket: Path | None = None
        self._sessions: dict[SessionId, Session] = {}
        self._sessions_total = 0
        self._requests_of_ended = 0
        self._refusals_of_ended = 0
        self._bytes_up = self._bytes_down = 0

    async def serve(self, address: str) -> None:
        """Listen on `address`, such as `unix:/run/user/1000/polypath/demo/ifrt.sock`, and return.

        Raises:
            ClusterError: nobody can listen there.
        """
        path = Path(address.removeprefix("unix:"))
        if not address.startswith("unix:") or not path.is_absolute():
            raise ClusterError(f"Clients cannot be served on {address!r}: give unix: and an absolute path.")
        server = LeanServer(self._methods())
        try:
            await server.serve(path)
        except OSError as error:
            raise ClusterError(
                f"Nobody can listen on {address}: does the folder exist, may you write to it, "
                f"and is the path shorter than 108 bytes? ({error})"
            ) from error
        self._server, self._socket = server, path

    async def stop(self) -> None:
        """End all sessions, and leave no socket behind."""
        if self._server is not None:
            await self._server.stop()
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
        elif (asked := self._asked.pop(reply.session, None)) and not asked.cancelled():
            asked.set_result(reply.result)

    def call(self, call: Call) -> None:
        """Have a client run a function that a program calls."""
        self._callbacks.call(call.called)

    def release(self, release: Release) -> None:
        """Tell a client that functions of its are not needed any more."""
        self._callbacks.release(release.callbacks)

    def statistics(self) -> FrontendStatistics:
        """The counters."""
        live = self._sessions.values()
        return FrontendStatistics(
            sessions=len(live),
            sessions_total=self._sessions_total,
            requests=self._requests_of_ended + sum(s.requests for s in live),
            refusals=self._refusals_of_ended + sum(s.refusals for s in live),
            host_buffers=sum(len(s.buffers) for s in live),
            bytes_up=self._bytes_up,
            bytes_down=self._bytes_down,
        )

    async def _ask(self, question: Question) -> Result:
        """Put one question, in a session of its own."""
        id_ = _new_session()
        answer = self._asked[id_] = asyncio.get_running_loop().create_future()
        self._submit(Open(id_, "control"))
        try:
            self._submit(msgspec.structs.replace(question, session=id_, op=1))
            return await answer
        finally:
            self._asked.pop(id_, None)
            self._submit(Close(id_))

    # --- The session's stream -----------------------------------------------------------------

    async def _session(self, call: Stream) -> None:
        session = self._begin(call)
        reason = _DISCONNECTED
        try:
            await call.each(session.receive)
            session.acknowledge()
        except Refused as refused:
            reason = refused.failure.message
            raise
        finally:
            self._end(session, reason)

    def _begin(self, call: Stream) -> Session:
        metadata = _header(call, _SESSION_METADATA, pb.GrpcIfrtSessionMetadata)
        versions.check(metadata.version)
        link = _told(metadata, "link")
        session = Session(
            _new_session(),
            self._cluster(),
            HostBuffers(),
            self._submit,
            call.write_nowait,
            _told(metadata, "python"),
            link,
        )
        self._sessions[session.id] = session
        self._sessions_total += 1
        self._submit(Open(session.id, _told(metadata, "client") or call.peer, link))
        return session

    def _end(self, session: Session, reason: str = "") -> None:
        if self._sessions.pop(session.id, None) is None:
            return
        self._requests_of_ended += session.requests
        self._refusals_of_ended += session.refusals
        session.close()
        if self._links is not None:
            self._links.end(session.link, reason)

    # --- Calls beside it ----------------------------------------------------------------------
    # jaxlib's client ends its session where an upload fails. A buffer that we do not take is therefore a failure of
    # the array that needs it, and the upload itself is well.

    async def _get_version(self, call: Stream) -> None:
        version = versions.negotiate(parse(pb.GrpcGetVersionRequest, await call.read_only(), "a version"))
        await call.write(pb.GrpcGetVersionResponse(version=version).SerializeToString())

    async def _store(self, call: Stream) -> None:
        metadata = _header(call, _STORE_METADATA, pb.GrpcHostBufferStoreMetadata)
        buffers = self._buffers_of(metadata.session_id)
        handle = metadata.handle
        buffers.check_new(handle)
        try:
            await self._take_upload(call, buffers, handle, Upload(handle, metadata.buffer_size))
        except TooLarge as too_large:
            buffers.refuse(handle, too_large)
            await call.each(lambda _: None)
        except Refused as lost:
            buffers.refuse(handle, lost)
            raise
        await call.write(pb.GrpcHostBufferStoreResponse().SerializeToString())

    async def _take_upload(self, call: Stream, buffers: HostBuffers, handle: int, upload: Upload) -> None:
        def take(data: Buffer) -> None:
            chunk = read_chunk(data)
            upload.add(chunk)
            self._bytes_up += len(chunk)

        await call.each(take)
        buffers.store(handle, upload.whole())

    async def _read_from_disk(self, call: Stream) -> None:
        request = parse(pb.GrpcHostBufferReadFromDiskRequest, await call.read_only(), "a request").metadata
        buffers = self._buffers_of(request.session_id)
        buffers.check_new(request.handle)
        buffers.refuse(request.handle, Refused(Code.UNIMPLEMENTED, _NO_FILES))
        await call.write(pb.GrpcHostBufferReadFromDiskResponse().SerializeToString())

    async def _lookup(self, call: Stream) -> None:
        request = parse(pb.GrpcHostBufferLookupRequest, await call.read_only(), "a request")
        for chunk in self._buffers_of(request.session_id).chunks(request.handle):
            self._bytes_down += len(chunk)
            await call.write(chunk_head(len(chunk)), chunk)

    async def _delete(self, call: Stream) -> None:
        request = parse(pb.GrpcHostBufferDeleteRequest, await call.read_only(), "a request")
        self._buffers_of(request.session_id).delete(request.handle)
        await call.write(pb.GrpcHostBufferDeleteResponse().SerializeToString())

    def _buffers_of(self, id_: SessionId) -> HostBuffers:
        session = self._sessions.get(id_)
        if session is None:
            raise Refused(Code.NOT_FOUND, "The session of this host buffer has ended: connect anew.")
        return session.buffers

    def _methods(self) -> Methods:
        ours = {
            "GetVersion": self._get_version,
            "IfrtSession": self._session,
            "HostBufferStore": self._store,
            "HostBufferReadFromDisk": self._read_from_disk,
            "HostBufferLookup": self._lookup,
            "HostBufferDelete": self._delete,
        }
        methods: dict[str, Method] = {f"/{_SERVICE}/{name}": method for name, method in ours.items()}
        methods.update(self._callbacks.methods())
        if self._control is not None:
            methods.update(self._control.methods())
        return methods


def _told(metadata: pb.GrpcIfrtSessionMetadata, name: str) -> str:
    """What our own client says of itself under that name; empty where it does not."""
    return metadata.initialization_data.attributes[name].string_value.decode(errors="backslashreplace")


def _new_session() -> SessionId:
    return secrets.randbits(62) + 1


def _header(call: Stream, name: str, kind: type[_M]) -> _M:
    value = call.header(name)
    if value is None:
        raise invalid(f"The call has no header {name}: connect with stock jaxlib.")
    return parse(kind, value, f"the header {name}")
