"""A lean gRPC server: HTTP/2 on unix sockets, on the event loop that it was started on.

One long stream carries all of a client's dispatch, and the standard server spends more on each
of its messages than all the rest of the head. This one takes a message inside the read that
brought it and writes all that one turn of the loop answers with one system call; it has no
thread, no compression and no encryption. `http2_frames` has the bytes, `http2_stream` the calls.

Nothing that a client sends raises on the loop: a call that makes no sense gets a status, a
connection that makes none is told why and closed.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

from polypath.aio import TaskSet
from polypath.frontend import http2_frames as h2
from polypath.frontend.http2_frames import Broken, Error, Frame
from polypath.frontend.http2_headers import HeaderReader, Headers, trailers
from polypath.frontend.http2_stream import WINDOW, Method, Methods, Stream
from polypath.frontend.refused import Refused
from polypath.types import Code, Failure

log = logging.getLogger(__name__)

_MOST_STREAMS: Final = 1024
_MOST_WRITTEN: Final = 1 << 20
"""Bytes that the socket may have to take before who sends much waits."""

_MOST_READ: Final = 1 << 18
"""Bytes taken from the socket at a time; into one buffer, since a new one of this size costs a mapping."""

_MOST_COPIED: Final = 1 << 16
"""Bytes that are rather copied once more than handed on piece by piece."""

_GREETING: Final = h2.settings(
    (
        (h2.SETTING_MAX_STREAMS, _MOST_STREAMS),
        (h2.SETTING_WINDOW, WINDOW),
        (h2.SETTING_FRAME, h2.MOST_FRAME),
        (h2.SETTING_HEADERS, h2.MOST_HEADERS),
    )
) + h2.window_update(0, WINDOW - h2.DEFAULT_WINDOW)

_NO_METHOD: Final = "This server has no method {}: connect with stock jaxlib or the polypath command of this release."


class Connection(asyncio.BufferedProtocol):
    """One client's connection."""

    def __init__(self, methods: Methods, tasks: TaskSet, connections: set[Connection]) -> None:
        self.peer = ""
        self.window = h2.DEFAULT_WINDOW
        """Bytes of DATA that the peer takes now, on all streams together."""
        self.most_frame = h2.DEFAULT_FRAME
        self.paused = False
        """Whether the socket takes no more."""
        self._methods = methods
        self._tasks = tasks
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._buffer = memoryview(bytearray(_MOST_READ))
        self._frames = h2.FrameReader()
        self._headers = HeaderReader()
        self._streams: dict[int, Stream] = {}
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._starved: dict[int, Stream] = {}
        """Streams with something to send and no window of the connection's."""
        self._last_stream = 0
        self._initial_window = h2.DEFAULT_WINDOW
        self._may_receive = WINDOW
        self._greeted = False
        self._out: list[bytes | memoryview] = []
        self._reading = False
        self._loop = asyncio.get_running_loop()
        self._handlers: dict[int, Callable[[Frame], None]] = {
            h2.HEADERS: self._receive_headers,
            h2.RST_STREAM: self._receive_reset,
            h2.SETTINGS: self._receive_settings,
            h2.PING: self._receive_ping,
            h2.WINDOW_UPDATE: self._receive_window_update,
        }
        """The other kinds (priorities, a client that goes away, what we don't know) ask nothing of us."""

    # --- The socket ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast(asyncio.Transport, transport)
        self._connections.add(self)
        stream.set_write_buffer_limits(_MOST_WRITTEN)
        self.peer = f"process {_pid_of(stream.get_extra_info('socket'))}"
        stream.write(_GREETING)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        # What is much is a part of a buffer on its way up, which is copied to its place from here.
        read = self._buffer[:nbytes]
        self.data_received(read if nbytes > _MOST_COPIED else bytes(read))

    def data_received(self, data: bytes | memoryview) -> None:
        """Serve what these bytes ask for, and write the answers."""
        self._reading = True
        try:
            for frame in self._frames.feed(data):
                self._receive(frame)
        except Broken as broken:
            self.close(broken.code, str(broken))
        self._reading = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._connections.discard(self)
        self._out.clear()
        self._buffer = memoryview(b"")  # We are in a cycle, which is collected much later.
        for stream in tuple(self._streams):
            self._drop(stream)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        for stream in tuple(self._streams.values()):
            stream.wake()

    def close(self, code: Error, why: str = "") -> None:
        """Tell the client why, and close the connection."""
        if self._transport is None or self._transport.is_closing():
            return
        self._out.append(h2.goaway(self._last_stream, code, why))
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection without waiting for the client to read."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, data: bytes | memoryview) -> None:
        """Write `data` with all else that is written in this turn of the loop."""
        if not self._out and not self._reading:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out:
            out, self._out = self._out, []
            if self._transport is None or self._transport.is_closing():
                return
            if sum(map(len, out)) > _MOST_COPIED:
                self._transport.writelines(out)
            else:
                self._transport.write(b"".join(out))

    # --- Frames -------------------------------------------------------------------------------

    def _receive(self, frame: Frame) -> None:
        kind = frame.kind
        if kind == h2.DATA and self._greeted:
            self._receive_data(frame)
            return
        if kind in (h2.PUSH_PROMISE, h2.CONTINUATION) or (not self._greeted and kind != h2.SETTINGS):
            raise Broken(Error.PROTOCOL_ERROR, f"A client cannot send a frame of kind {kind} now.")
        if handler := self._handlers.get(kind):
            handler(frame)

    def _receive_data(self, frame: Frame) -> None:
        size = len(frame.payload)
        self._may_receive -= size
        if self._may_receive < 0:
            raise Broken(Error.FLOW_CONTROL_ERROR, "More was sent than the connection's window holds.")
        # A stream that is not read from must not stop the others: its own window is what it fills.
        if self._may_receive < WINDOW // 2:
            self.replenish(0, WINDOW - self._may_receive)
            self._may_receive = WINDOW
        stream = self._streams.get(frame.stream)
        if stream is None:
            self._check_known(frame)
            return
        if stream.ended:
            self._drop(frame.stream)
            self.send(h2.reset(frame.stream, Error.STREAM_CLOSED))
            return
        if not stream.receive(frame.payload):
            raise Broken(Error.FLOW_CONTROL_ERROR, "More was sent than the stream's window holds.")
        if frame.flags & h2.END_STREAM:
            stream.end()

    def _check_known(self, frame: Frame) -> None:
        if frame.stream > self._last_stream or frame.stream % 2 == 0:
            raise Broken(Error.PROTOCOL_ERROR, f"A frame of kind {frame.kind} came for stream {frame.stream}.")

    def _receive_headers(self, frame: Frame) -> None:
        headers = self._headers.read(frame)
        if headers.stream > self._last_stream:
            self._last_stream = headers.stream
            self._open(headers)
        elif headers.end and (stream := self._streams.get(headers.stream)):
            stream.end()

    def _receive_reset(self, frame: Frame) -> None:
        h2.number(frame)
        self._check_known(frame)
        self._drop(frame.stream)

    def _receive_settings(self, frame: Frame) -> None:
        values = h2.settings_of(frame)
        if frame.flags & h2.ACK:
            if not self._greeted:
                raise Broken(Error.PROTOCOL_ERROR, "The first settings answer none.")
            return
        self._greeted = True
        before = self._initial_window
        for name, value in values:
            if name == h2.SETTING_WINDOW:
                self._initial_window = value
            elif name == h2.SETTING_FRAME:
                self.most_frame = value
        # Ours first: until a client reads it, what goes beyond its former window is an error to it.
        self.send(h2.frame(h2.SETTINGS, h2.ACK, 0))
        if self._initial_window != before:
            for stream in tuple(self._streams.values()):
                self._widen(stream, self._initial_window - before)

    def _receive_ping(self, frame: Frame) -> None:
        if len(frame.payload) != 8 or frame.stream:
            raise Broken(Error.FRAME_SIZE_ERROR, "A ping has not 8 bytes, or is a stream's.")
        if not frame.flags & h2.ACK:
            self.send(h2.frame(h2.PING, h2.ACK, 0, frame.payload))

    def _receive_window_update(self, frame: Frame) -> None:
        more = h2.number(frame) & h2.MOST_WINDOW
        if not more:
            raise Broken(Error.PROTOCOL_ERROR, "A window is widened by nothing.")
        if frame.stream:
            if stream := self._streams.get(frame.stream):
                self._widen(stream, more)
            else:
                self._check_known(frame)
            return
        self.window += more
        if self.window > h2.MOST_WINDOW:
            raise Broken(Error.FLOW_CONTROL_ERROR, "The connection's window is too big.")
        starved, self._starved = self._starved, {}
        for stream in starved.values():
            self._pump(stream)

    # --- Streams ------------------------------------------------------------------------------

    def _open(self, headers: Headers) -> None:
        id_ = headers.stream
        if len(self._streams) >= _MOST_STREAMS:
            self.send(h2.reset(id_, Error.REFUSED_STREAM))
            return
        stream = self._streams[id_] = Stream(id_, self, headers.fields, self._initial_window)
        if headers.end:
            stream.end()
        path = headers.fields.get(":path", b"").decode("latin-1")
        method = self._methods.get(path)
        if method is None:
            self._finish(stream, Failure(Code.UNIMPLEMENTED, _NO_METHOD.format(path[:100])))
            return
        self._calls[id_] = self._tasks.start(self._serve(stream, method))

    async def _serve(self, stream: Stream, method: Method) -> None:
        failure: Failure | None = None
        try:
            await method(stream)
        except Refused as refused:
            failure = refused.failure
        except Exception as error:
            log.exception("A call failed.")
            failure = Failure(Code.INTERNAL, f"The server failed ({error!r}); please report it.")
        self._finish(stream, failure)

    def _finish(self, stream: Stream, failure: Failure | None) -> None:
        self._calls.pop(stream.id, None)
        if stream.id not in self._streams:
            return  # The client has just reset it.
        if stream.finish(trailers(stream.id, failure, begun=stream.begun)):
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        """All has been sent: what the client still sends is for nobody."""
        self._streams.pop(stream.id, None)
        if not stream.ended:
            self.send(h2.reset(stream.id, Error.NO_ERROR))

    def _drop(self, id_: int) -> None:
        self._starved.pop(id_, None)
        if stream := self._streams.pop(id_, None):
            stream.reset()
        if call := self._calls.pop(id_, None):
            call.cancel()

    def _widen(self, stream: Stream, more: int) -> None:
        stream.window += more
        if stream.window > h2.MOST_WINDOW:
            raise Broken(Error.FLOW_CONTROL_ERROR, "A stream's window is too big.")
        self._pump(stream)

    def _pump(self, stream: Stream) -> None:
        if stream.pump():
            self._end(stream)

    def replenish(self, stream: int, size: int) -> None:
        """Let the peer send `size` bytes more on `stream`."""
        self.send(h2.window_update(stream, size))

    def wait_window(self, stream: Stream) -> None:
        """Have a stream `pump` once the connection's window is open."""
        self._starved[stream.id] = stream


def _pid_of(connected: socket.socket) -> int:
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[0])
