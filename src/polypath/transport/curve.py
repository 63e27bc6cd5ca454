"""Links over networks: ZeroMQ with CURVE keys, an ordered PUSH/PULL pair for each worker's commands
and one PULL for all reports. Who does not hold a key of this cluster is refused in the handshake.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import threading
from collections.abc import Callable, Iterable

import msgspec
import zmq

from polypath.errors import ProtocolError
from polypath.transport import frames
from polypath.transport.frames import Buffer, Hello, hellos
from polypath.transport.keys import (
    KeyPair,
    WorkerLink,
    descriptor,
    endpoint,
    guard,
    listen,
    secure_client,
    secure_server,
)
from polypath.transport.links import Silent, Take
from polypath.transport.pulse import LowerPulse, UpperPulse
from polypath.types import HostId

log = logging.getLogger(__name__)

_COPIED = 65536
"""Bytes from which on ZeroMQ takes them without copying."""


class _Worker:
    """One worker's link: its allowed key and, once it said hello, its command socket."""

    def __init__(self, incarnation: int, key: str) -> None:
        self.incarnation = incarnation
        self.key = key
        self.socket: zmq.Socket[bytes] | None = None


class HeadSockets:
    """The head's ends (`links.HeadLinks`), on one asyncio loop, which also calls `take` and `silent`."""

    def __init__(self, address: str, keys: KeyPair, take: Take, silent: Silent, patience: float) -> None:
        self.refused_frames = self.refused_keys = 0
        self._take = take
        self._keys = keys
        self._workers: dict[HostId, _Worker] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 16384)
        self._stop_guard = guard(self._context, ("reports",), self._allowed)
        self._reports = self._context.socket(zmq.PULL)
        self._reports.set_hwm(0)
        secure_server(self._reports, keys, "reports")
        self._reports.bind(address)
        self.address = endpoint(self._reports)
        self._pulse = UpperPulse(patience, lambda hosts: self.send(hosts, 0, b""), silent)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor(self._reports), self._drain)

    def expect(self, host: HostId, incarnation: int, key: str) -> None:
        self._workers[host] = _Worker(incarnation, key)
        self._pulse.expect(host)

    def drop(self, host: HostId) -> None:
        self._pulse.forget(host)
        worker = self._workers.pop(host, None)
        if worker is not None and worker.socket is not None:
            worker.socket.close(linger=0)

    def send(self, hosts: Iterable[HostId], sequence: int, data: Buffer, tail: Buffer = b"") -> int:
        data = b"".join((data, tail)) if tail else data
        number, copy, sent = frames.pack_sequence(sequence), len(data) < _COPIED, 0
        for host in hosts:
            worker = self._workers.get(host)
            if worker is not None and worker.socket is not None:
                worker.socket.send_multipart((number, data), flags=zmq.DONTWAIT, copy=copy)
                sent += 1
        return sent

    def close(self) -> None:
        self._pulse.stop()
        self._loop.remove_reader(descriptor(self._reports))
        for host in tuple(self._workers):
            self.drop(host)
        self._reports.close(linger=0)
        self._stop_guard()
        self._context.term()

    def _allowed(self, domain: str, key: bytes) -> bool:
        allowed = any(worker.key.encode() == key for worker in list(self._workers.values()))
        if not allowed:
            self.refused_keys += 1
        return allowed

    def _drain(self) -> None:
        """Read all there is: ZeroMQ's descriptor fires once per change, not per message."""
        while True:
            try:
                parts = self._reports.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                self._receive(parts)
            except (ProtocolError, msgspec.MsgspecError) as error:
                self.refused_frames += 1
                log.warning("Dropped a malformed frame from a worker: %s", error)

    def _receive(self, parts: list[bytes]) -> None:
        if len(parts) != 2:
            raise ProtocolError(f"A report has {len(parts)} frames instead of 2.")
        host, incarnation, kind = frames.unpack_sender(parts[0])
        worker = self._workers.get(host)
        if worker is None or worker.incarnation != incarnation:
            return  # The last words of a worker that was replaced.
        self._pulse.heard(host)
        if kind == frames.HELLO:
            self._connect(worker, hellos.decode(parts[1]))
            self._pulse.connected(host)
        elif kind != frames.BEAT:
            self._take(host, kind, parts[1])

    def _connect(self, worker: _Worker, hello: Hello) -> None:
        if hello.key != worker.key or worker.socket is not None:
            raise ProtocolError("A worker said hello twice, or with a key that is not its own.")
        worker.socket = self._context.socket(zmq.PUSH)
        worker.socket.set_hwm(0)
        secure_client(worker.socket, self._keys, hello.key)
        worker.socket.connect(hello.commands)


class WorkerSocket:
    """A worker's end (`links.WorkerEnd`)."""

    def __init__(self, link: WorkerLink, silent: Callable[[str], None]) -> None:
        self._link = link
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stop_guard = guard(self._context, ("commands",), lambda _, key: key == link.head_key.encode())
        self._commands, address = listen(self._context, link, "commands")
        self._reading = threading.Lock()
        """Held by who reads: the thread of `receive` and `poll`, or that of the heartbeat while the other is busy."""
        self._came = False
        self._read_already: collections.deque[tuple[int, bytes]] = collections.deque()
        self._lock = threading.Lock()
        self._reports = self._context.socket(zmq.PUSH)
        self._reports.set_hwm(0)
        secure_client(self._reports, link.keys, link.head_key)
        self._reports.connect(link.reports)
        self.send(frames.HELLO, msgspec.msgpack.encode(Hello(link.host, link.incarnation, link.keys.public, address)))
        self._pulse = LowerPulse(link.patience, self._anything_came, lambda: self.send(frames.BEAT, b""), silent)
        self._pulse.start()

    def receive(self) -> tuple[int, bytes]:
        with self._reading:
            while not self._read_already:
                self._read()
            return self._read_already.popleft()

    def poll(self, descriptor: int) -> bool:
        with self._reading:
            while not self._read_already:
                poller = zmq.Poller()
                poller.register(descriptor, zmq.POLLIN)
                poller.register(self._commands, zmq.POLLIN)
                if descriptor in dict(poller.poll()):
                    return False
                self._read()
        return True

    def _read(self, flags: int = 0) -> None:
        parts = self._commands.recv_multipart(flags)
        self._came = True
        if len(parts) != 2:
            raise ProtocolError(f"A command has {len(parts)} frames instead of 2.")
        if parts[1]:  # Else it is a beat.
            self._read_already.append((frames.unpack_sequence(parts[0]), parts[1]))

    def _anything_came(self) -> bool:
        if self._reading.acquire(blocking=False):
            try:
                with contextlib.suppress(zmq.Again):
                    self._read(zmq.NOBLOCK)
            finally:
                self._reading.release()
        came, self._came = self._came, False
        return came

    def send(self, kind: int, data: Buffer, tail: Buffer = b"") -> None:
        data = b"".join((data, tail)) if tail else data
        sender = frames.pack_sender(self._link.host, self._link.incarnation, kind)
        # The queue has no bound; but one whose key was refused has no queue any more, and is ended by its silence.
        with self._lock, contextlib.suppress(zmq.Again):
            if not self._reports.closed:
                self._reports.send_multipart((sender, data), flags=zmq.DONTWAIT, copy=len(data) < _COPIED)

    def close(self, linger: float) -> None:
        self._pulse.stop()
        self._commands.close(linger=0)
        with self._lock:
            self._reports.close(linger=int(linger * 1000))
        self._stop_guard()
        self._context.term()
