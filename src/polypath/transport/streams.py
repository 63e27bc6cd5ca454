"""Links on one machine: a unix socket for each worker, both ways.

No thread stands between a message and its socket. What one turn of the head's loop sends to a
worker goes with one system call, and the worker takes it with one. Who may connect is decided by
the folder that the socket is in, and by the key that a worker gets on its standard input.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hmac
import logging
import select
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Final, cast

import msgspec

from polypath.aio import TaskSet
from polypath.errors import ProtocolError
from polypath.transport.bulk import widen
from polypath.transport.frames import BEAT, COMMAND_HEAD, HELLO, REPORT_HEAD, Buffer, Hello, StreamReader, hellos
from polypath.transport.keys import WorkerLink
from polypath.transport.links import Silent, Take
from polypath.transport.pulse import LowerPulse, UpperPulse
from polypath.types import HostId

log = logging.getLogger(__name__)

SCHEME: Final = "unix:"
_READ: Final = 1 << 18
_MOST_JOINED: Final = 1 << 16
"""Bytes that are rather copied together than written from where they are."""
_BACKLOG: Final = 4096
_BEAT: Final = REPORT_HEAD.pack(0, BEAT)


class HeadStreams:
    """The head's ends (`links.HeadLinks`), on one asyncio loop, which also calls `take` and `silent`."""

    def __init__(self, address: str, take: Take, silent: Silent, patience: float) -> None:
        self.address = address
        self.refused_frames = self.refused_keys = 0
        self._take = take
        self._expected: dict[HostId, tuple[int, str]] = {}
        self._workers: dict[HostId, _Connection] = {}
        self._connections: set[_Connection] = set()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._listener.bind(address.removeprefix(SCHEME))
        self._listener.listen(_BACKLOG)  # From here on workers can connect; they are taken once the loop runs.
        self._pulse = UpperPulse(patience, lambda hosts: self.send(hosts, 0, b""), silent)
        self._server: asyncio.Server | None = None
        self._tasks = TaskSet(lambda error: log.error("Workers cannot connect.", exc_info=error))
        self._tasks.start(self._serve())

    def expect(self, host: HostId, incarnation: int, key: str) -> None:
        self._expected[host] = (incarnation, key)
        self._pulse.expect(host)

    def drop(self, host: HostId) -> None:
        self._expected.pop(host, None)
        self._pulse.forget(host)
        if connection := self._workers.pop(host, None):
            connection.close()

    def send(self, hosts: Iterable[HostId], sequence: int, data: Buffer, tail: Buffer = b"") -> int:
        parts = (COMMAND_HEAD.pack(len(data) + len(tail), sequence), data, tail)
        workers, sent = self._workers, 0
        for host in hosts:
            if connection := workers.get(host):
                connection.send(parts)
                sent += 1
        return sent

    def close(self) -> None:
        self._pulse.stop()
        if self._server is not None:
            self._server.close()
        self._listener.close()
        for connection in tuple(self._connections):
            connection.close()

    async def _serve(self) -> None:
        self._server = await asyncio.get_running_loop().create_unix_server(
            lambda: _Connection(self), sock=self._listener, backlog=_BACKLOG
        )

    # --- What the connections call ------------------------------------------------------------

    def connected(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def lost(self, connection: _Connection) -> None:
        self._connections.discard(connection)

    def admit(self, connection: _Connection, kind: int, payload: Buffer) -> HostId:
        """Whose connection it is that says hello.

        Raises:
            ProtocolError: this is no hello.
            PermissionError: it is nobody's who was expected.
        """
        if kind != HELLO:
            raise ProtocolError("A connection began without saying whose it is.")
        hello = hellos.decode(payload)
        incarnation, key = self._expected.get(hello.host, (-1, ""))
        known = hello.incarnation == incarnation and hello.host not in self._workers
        if not known or not hmac.compare_digest(hello.key, key):
            self.refused_keys += 1
            raise PermissionError(f"Nobody is expected who says he is host {hello.host}.")
        self._workers[hello.host] = connection
        self._pulse.connected(hello.host)
        return hello.host

    def heard(self, host: HostId) -> None:
        self._pulse.heard(host)

    def take(self, host: HostId, kind: int, payload: Buffer) -> None:
        """Hand a report on; one that makes no sense is dropped."""
        try:
            self._take(host, kind, payload)
        except (ProtocolError, msgspec.MsgspecError) as error:
            self.refuse(error)

    def refuse(self, error: Exception) -> None:
        self.refused_frames += 1
        log.warning("Dropped a malformed frame from a worker: %s", error)


class _Connection(asyncio.BufferedProtocol):
    """One worker's link, as the head sees it."""

    def __init__(self, links: HeadStreams) -> None:
        self._links = links
        self._host: HostId | None = None
        self._buffer = memoryview(bytearray(_READ))
        self._reader = StreamReader(REPORT_HEAD)
        self._out: list[Buffer] = []
        self._gathering = False
        """Whether what is sent goes at the end of this turn at the latest."""
        self._written = False
        """Whether some has gone in this turn."""
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        widen(transport.get_extra_info("socket"))
        self._links.connected(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._links.lost(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._host is not None:
            self._links.heard(self._host)
        try:
            for kind, payload in self._reader.feed(self._buffer[:nbytes]):
                if self._transport is None:
                    return  # Closed by what an earlier frame said.
                if self._host is None:
                    self._host = self._links.admit(self, kind, payload)
                elif kind != BEAT:
                    self._links.take(self._host, kind, payload)
        except PermissionError as error:
            log.warning("Closed a connection: %s", error)
            self.close()
        except (ProtocolError, msgspec.MsgspecError) as error:
            self._links.refuse(error)
            self.close()

    def send(self, parts: Iterable[Buffer]) -> None:
        """Send: the first of a turn of the loop at once, so that the worker wakes meanwhile, the rest at its end."""
        self._out += parts
        if not self._gathering:
            self._gathering = True
            self._loop.call_soon(self._end_turn)
        if self._written:
            return
        self._written = True
        self._flush()

    def _end_turn(self) -> None:
        self._gathering = self._written = False
        self._flush()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not out or self._transport is None:
            return
        if sum(map(len, out)) > _MOST_JOINED:
            self._transport.writelines(out)
        else:
            self._transport.write(b"".join(out))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()
            self._transport = None


class WorkerStream:
    """A worker's end (`links.WorkerEnd`)."""

    def __init__(self, link: WorkerLink, silent: Callable[[str], None]) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(link.reports.removeprefix(SCHEME))
        widen(self._socket)
        self._lock = threading.Lock()
        """Held by who sends."""
        self._reading = threading.Lock()
        """Held by who reads: the thread of `receive` and `poll`, or that of the heartbeat while the other is busy."""
        self._came = False
        self._buffer = memoryview(bytearray(_READ))
        self._reader = StreamReader(COMMAND_HEAD)
        self._frames: collections.deque[tuple[int, Buffer]] = collections.deque()
        self._pulse = LowerPulse(link.patience, self._anything_came, self._beat, silent)
        self.send(HELLO, msgspec.msgpack.encode(Hello(link.host, link.incarnation, link.keys.public)))
        self._pulse.start()

    def receive(self) -> tuple[int, Buffer]:
        frames = self._frames
        with self._reading:
            while not frames:
                self._read()
            return frames.popleft()

    def poll(self, descriptor: int) -> bool:
        with self._reading:
            while not self._frames:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.register(self._socket, select.POLLIN)
                if descriptor in {found for found, _ in poll.poll()}:
                    return False
                self._read()
        return True

    def _read(self, flags: int = 0) -> None:
        size = self._socket.recv_into(self._buffer, 0, flags)
        if not size:
            raise ConnectionError("The head has closed the link.")
        self._came = True
        for frame in self._reader.feed(self._buffer[:size]):
            if frame[1]:  # Else it is a beat.
                self._frames.append(frame)

    def _anything_came(self) -> bool:
        if self._reading.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):  # There is nothing, or the end, which `receive` will find.
                    self._read(socket.MSG_DONTWAIT)
            finally:
                self._reading.release()
        came, self._came = self._came, False
        return came

    def _beat(self) -> None:
        # Never waits: another thread may be held up in sending to a head that takes nothing.
        # Five bytes go whole or not at all.
        if self._lock.acquire(blocking=False):
            try:
                with contextlib.suppress(OSError):
                    self._socket.send(_BEAT, socket.MSG_DONTWAIT)
            finally:
                self._lock.release()

    def send(self, kind: int, data: Buffer, tail: Buffer = b"") -> None:
        # The head never waits for a worker, so this does not wait for long.
        with self._lock, contextlib.suppress(OSError):  # A head that is gone takes this process with it.
            self._socket.sendall(REPORT_HEAD.pack(len(data) + len(tail), kind) + data)
            if tail:
                self._socket.sendall(tail)

    def close(self, linger: float) -> None:
        self._pulse.stop()
        with self._lock:
            self._socket.close()
