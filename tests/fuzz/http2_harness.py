"""Feeds one connection of the lean server with bytes: HTTP/2 that is right, nearly right, or wrong.

Nothing may raise on the loop or in a call, what the server writes must be frames, and nothing
may be left once the connection is lost. No socket: the transport is a fake.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import socket
import struct
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import hpack
from choices import Choices
from frontend_harness import Cluster
from wire_requests import Requests

from polypath.aio import TaskSet
from polypath.controller.state import Session
from polypath.frontend import Frontend
from polypath.frontend import http2_frames as h2
from polypath.frontend.http2 import Connection
from polypath.frontend.wire import ifrt_pb2 as pb

_MOST_FRAMES: Final = 40
_SERVICE: Final = "/xla.ifrt.proxy.GrpcIfrtService/"
_METHODS: Final = ("IfrtSession",) * 6 + (
    "GetVersion",
    "HostBufferStore",
    "HostBufferReadFromDisk",
    "HostBufferLookup",
    "HostBufferDelete",
    "Unheard",
)
_NUMBERS: Final = (0, 1, 2**16, 2**24 - 1, 2**31 - 1, 2**32 - 1)
_VERSION: Final = pb.IfrtProxyVersion(protocol_version=25, ifrt_serdes_version_number=3)
_SESSION: Final = pb.GrpcIfrtSessionMetadata(version=_VERSION).SerializeToString()
_NOTHING: Final = Session(0, "")


class Transport(asyncio.Transport):
    """Keeps what is written. `reader` is the protocol's end that can be paused."""

    def __init__(self, connected: socket.socket) -> None:
        super().__init__({"socket": connected})
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closed, "written after the end"
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True


def one_input(data: bytes) -> None:
    """One connection's life, made of `data`."""
    errors: list[BaseException] = []
    records = _Records()
    logging.getLogger("polypath").addHandler(records)
    ours, theirs = socket.socketpair()
    try:
        with tempfile.TemporaryDirectory(prefix="pp") as name, ours, theirs:
            asyncio.run(_life(Choices(data), Path(name), ours, errors))
            assert not list(Path(name).iterdir())
    finally:
        logging.getLogger("polypath").removeHandler(records)
    for error in (*errors, *records.errors):
        raise error


class _Records(logging.Handler):
    """Errors that were only logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.errors.append(error or AssertionError(record.getMessage()))


async def _life(choices: Choices, folder: Path, connected: socket.socket, errors: list[BaseException]) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: errors.append(context.get("exception") or AssertionError(context)))
    cluster = Cluster(1)
    cluster.up()
    frontend = Frontend(cluster.handle, cluster.view)
    cluster.answer = frontend.deliver
    tasks, connections = TaskSet(errors.append), set[Connection]()
    connection, transport = Connection(frontend._methods(), tasks, connections), Transport(connected)
    connection.connection_made(transport)
    for piece in _pieces(choices):
        if transport.closed:
            break
        connection.data_received(piece)
        if choices.one_in(4):
            connection.pause_writing() if choices.one_in(2) else connection.resume_writing()
        for _ in range(choices.below(4)):
            await asyncio.sleep(0)
        cluster.settle()
    for _ in range(4):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await tasks.cancel()
    await frontend.stop()
    cluster.settle()
    _check_frames(transport.written)
    statistics = cluster.controller.statistics()
    assert not connections
    assert (frontend.statistics().sessions, statistics.values, statistics.pending) == (0, 0, 0)


def _check_frames(written: bytearray) -> None:
    at = 0
    while at < len(written):
        assert len(written) - at >= 9, "half a frame was written"
        at += 9 + int.from_bytes(written[at : at + 3])
    assert at == len(written), "half a frame was written"


# --- What the client sends --------------------------------------------------------------------------------


def _pieces(choices: Choices) -> Iterable[bytes]:
    """The client's bytes, cut anywhere."""
    frames = _Frames(choices)
    yield choices.mutated(h2.PREFACE) if choices.one_in(32) else h2.PREFACE
    yield h2.frame(h2.SETTINGS, 0, 0)
    for _ in range(_MOST_FRAMES):
        if choices.exhausted:
            return
        data = frames.wild() if choices.one_in(32) else frames.tame()
        if choices.one_in(64):
            data = choices.mutated(data)
        cut = choices.below(256) % (len(data) + 1) if choices.one_in(4) else 0
        yield data[:cut]
        yield data[cut:]


class _Frames:
    """What a client might send next."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._encoder = hpack.Encoder()
        self._requests = Requests(choices)
        self._last = -1
        self._op = 0

    def tame(self) -> bytes:
        """A frame that a client sends, though maybe at the wrong time."""
        choices = self._choices
        stream = max(self._last - 2 * choices.of((0, 0, 0, 1, 2)), 1)
        end = h2.END_STREAM * choices.one_in(8)
        match choices.below(12) if self._last > 0 else 0:
            case 0 | 1:
                self._last += 2
                return h2.frame(h2.HEADERS, h2.END_HEADERS | end, self._last, _headers(choices, self._encoder))
            case 2:
                self._last += 2
                block = _headers(choices, self._encoder)
                cut = choices.below(len(block) + 1)
                more = h2.frame(h2.CONTINUATION, h2.END_HEADERS, self._last, block[cut:])
                return h2.frame(h2.HEADERS, end, self._last, block[:cut]) + more
            case 3:
                value = choices.of((0, 1, 100, 2**16, 2**20))
                return h2.settings([(choices.of((h2.SETTING_WINDOW, h2.SETTING_MAX_STREAMS, 99)), value)])
            case 4:
                return h2.window_update(choices.of((0, stream)), choices.of((1, 100, 2**16, 2**20)))
            case 5:
                return h2.reset(stream, h2.Error.NO_ERROR) if choices.one_in(2) else h2.frame(h2.PING, 0, 0, bytes(8))
        self._op += 1
        message = self._message()
        data = struct.pack(">BI", choices.one_in(64), len(message)) + message
        if choices.one_in(8):
            return h2.frame(h2.DATA, h2.PADDED | end, stream, b"\x02" + data + bytes(2))
        if choices.one_in(8):
            cut = choices.below(256) % (len(data) + 1)
            return h2.frame(h2.DATA, 0, stream, data[:cut]) + h2.frame(h2.DATA, end, stream, data[cut:])
        return h2.frame(h2.DATA, end, stream, data)

    def _message(self) -> bytes:
        choices = self._choices
        match choices.below(8):
            case 0:
                return choices.take(64)
            case 1:
                return pb.GrpcHostBufferStoreRequest(data=bytes(choices.below(16))).SerializeToString()
            case 2:
                return pb.GrpcGetVersionRequest(min_version=_VERSION, max_version=_VERSION).SerializeToString()
            case _:
                return self._requests.make(self._op, _NOTHING).SerializeToString()

    def wild(self) -> bytes:
        """A frame of any kind with anything in it."""
        choices = self._choices
        stream = choices.of((1, 3, 5, 7, 0, 2, 2**31 - 1))
        flags = choices.of((h2.END_HEADERS, h2.END_HEADERS | h2.END_STREAM, h2.PADDED, h2.PRIORITIZED, h2.ACK, 0, 255))
        number = struct.pack(">I", choices.of(_NUMBERS))
        setting = struct.pack(">HI", choices.below(8), choices.of(_NUMBERS))
        return h2.frame(choices.below(12), flags, stream, choices.of((number, setting, choices.take(16))))


def _headers(choices: Choices, encoder: hpack.Encoder) -> bytes:
    session, store = _SESSION, pb.GrpcHostBufferStoreMetadata(handle=1, buffer_size=8).SerializeToString()
    if choices.one_in(8):
        session, store = choices.mutated(session), choices.mutated(store)
    found = encoder.encode(
        [
            (":method", "POST"),
            (":path", _SERVICE + choices.of(_METHODS)),
            ("ifrt-proxy-grpc-ifrt-session-metadata-bin", base64.b64encode(session).rstrip(b"=")),
            ("ifrt-proxy-grpc-host-buffer-store-metadata-bin", base64.b64encode(store)),
        ]
    )
    return choices.mutated(found) if choices.one_in(32) else found
