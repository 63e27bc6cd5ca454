"""The other end of an HTTP/2 connection, made of frames: no socket and no client library."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import hpack

from polypath.aio import TaskSet
from polypath.frontend import http2_frames as h2
from polypath.frontend.http2 import Connection
from polypath.frontend.http2_stream import Methods

START = h2.PREFACE + h2.settings(())


def message_of(data: bytes) -> bytes:
    """A message as it is cut into DATA frames."""
    return h2.message_head(len(data)) + data


class FakeTransport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.writes = 0
        self.closed = False
        self._sockets = socket.socketpair()

    def write(self, data: Any) -> None:
        self.written += data
        self.writes += 1

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._sockets[0]

    def end(self) -> None:
        for one in self._sockets:
            one.close()


class Wire:
    """A connection to `methods`. What it answers is read as frames; all errors of its tasks are kept."""

    def __init__(self, methods: Methods, start: bytes = START) -> None:
        self.errors: list[BaseException] = []
        self.tasks = TaskSet(self.errors.append)
        self.transport = FakeTransport()
        self.connection = Connection(methods, self.tasks, set())
        self._reader = h2.FrameReader()
        self._decoder = hpack.Decoder()
        list(self._reader.feed(h2.PREFACE))
        self.connection.connection_made(self.transport)
        self.connection.data_received(start)

    async def __aenter__(self) -> Wire:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.connection.connection_lost(None)
        await self.tasks.cancel()
        self.transport.end()
        assert not self.errors

    async def send(self, data: bytes) -> list[h2.Frame]:
        self.connection.data_received(data)
        return await self.frames()

    async def frames(self) -> list[h2.Frame]:
        """What was answered since the last call, less what every connection begins with."""
        for _ in range(10):
            await asyncio.sleep(0)
        data = bytes(self.transport.written)
        self.transport.written.clear()
        return [f for f in self._reader.feed(data) if not (f.kind == h2.SETTINGS or (f.kind == 8 and f.stream == 0))]

    def headers(self, frame: h2.Frame) -> dict[str, str]:
        assert frame.kind == h2.HEADERS
        return {str(k): str(v) for k, v in self._decoder.decode(frame.payload)}


def block(path: str, **headers: str) -> bytes:
    fields = [(":method", "POST"), (":scheme", "http"), (":path", path), ("te", "trailers")]
    return hpack.Encoder().encode([*fields, *((k.replace("_", "-"), v) for k, v in headers.items())])


def call(stream: int, path: str, *, end: bool = False, **headers: str) -> bytes:
    return h2.frame(h2.HEADERS, h2.END_HEADERS | end, stream, block(path, **headers))


def end(stream: int) -> bytes:
    return h2.frame(h2.DATA, h2.END_STREAM, stream)
