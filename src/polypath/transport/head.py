"""The head's end: commands out to each worker, reports in from all of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
import zmq

from polypath.errors import ProtocolError
from polypath.messages import AnyReport, Command, decode, decode_report, encode
from polypath.transport import frames
from polypath.transport.keys import (
    KeyPair,
    WorkerLink,
    descriptor,
    endpoint,
    guard,
    secure_client,
    secure_server,
)
from polypath.types import HostId

log = logging.getLogger(__name__)


class Hello(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A worker's first frame: where it takes commands."""

    commands: str
    key: str


_hellos: Final = msgspec.msgpack.Decoder(Hello)


class Traffic(msgspec.Struct, frozen=True):
    """What went over the transport so far."""

    commands: int
    command_bytes: int
    reports: int
    report_bytes: int
    refused_frames: int
    refused_keys: int


class _Worker:
    """One worker's link: its allowed key and, once it said hello, its command socket."""

    def __init__(self, incarnation: int, key: str) -> None:
        self.incarnation = incarnation
        self.key = key
        self.socket: zmq.Socket[bytes] | None = None


class HeadChannel:
    """All workers' links. Lives on one asyncio loop, which also calls `on_report`.

    `address` is where workers send reports (`ipc://PATH` or `tcp://HOST:*`).
    """

    def __init__(self, address: str, on_report: Callable[[AnyReport], None]) -> None:
        self._on_report = on_report
        self._keys = KeyPair.new()
        self._shard_keys = KeyPair.new()
        self._workers: dict[HostId, _Worker] = {}
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 16384)
        self._refused_keys = 0
        self._stop_guard = guard(self._context, ("reports",), self._allowed)
        self._reports = self._context.socket(zmq.PULL)
        self._reports.set_hwm(0)
        secure_server(self._reports, self._keys, "reports")
        self._reports.bind(address)
        self._address = endpoint(self._reports)
        self._commands_sent = self._bytes_sent = self._reports_read = self._bytes_read = self._refused = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor(self._reports), self._drain)

    def link(self, host: HostId, incarnation: int, listen: str) -> WorkerLink:
        """Expect a worker (again): a new key for it, and what it must be told."""
        self.drop(host)
        keys = KeyPair.new()
        self._workers[host] = _Worker(incarnation, keys.public)
        return WorkerLink(host, incarnation, self._address, self._keys.public, keys, self._shard_keys, listen)

    def drop(self, host: HostId) -> None:
        """Forget a worker: what was sent and not yet taken is lost, its key is worth nothing."""
        worker = self._workers.pop(host, None)
        if worker is not None and worker.socket is not None:
            worker.socket.close(linger=0)

    def send(self, hosts: Iterable[HostId], sequence: int, command: Command) -> None:
        """Hand `command` to ZeroMQ for each of `hosts`, after all that was sent before. Never blocks.

        A host whose worker is gone is passed over: the controller is told of it by the launcher.
        """
        number = frames.pack_sequence(sequence)
        data = encode(command)
        copy = len(data) < 65536
        for host in hosts:
            worker = self._workers.get(host)
            if worker is None or worker.socket is None:
                continue
            worker.socket.send_multipart((number, data), flags=zmq.DONTWAIT, copy=copy)
            self._commands_sent += 1
            self._bytes_sent += len(data)

    def statistics(self) -> Traffic:
        return Traffic(
            self._commands_sent,
            self._bytes_sent,
            self._reports_read,
            self._bytes_read,
            self._refused,
            self._refused_keys,
        )

    def close(self, linger: float = 0.0) -> None:
        """End all links; what is still queued has `linger` seconds to leave."""
        self._loop.remove_reader(descriptor(self._reports))
        for worker in self._workers.values():
            if worker.socket is not None:
                worker.socket.close(linger=int(linger * 1000))
        self._workers.clear()
        self._reports.close(linger=0)
        self._stop_guard()
        self._context.term()

    def _allowed(self, domain: str, key: bytes) -> bool:
        allowed = any(worker.key.encode() == key for worker in list(self._workers.values()))
        if not allowed:
            self._refused_keys += 1
        return allowed

    def _drain(self) -> None:
        """Read all there is: ZeroMQ's descriptor fires once per change, not per message."""
        while True:
            try:
                parts = self._reports.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                self._take(parts)
            except (ProtocolError, msgspec.MsgspecError) as error:
                self._refused += 1
                log.warning("Dropped a malformed frame from a worker: %s", error)

    def _take(self, parts: list[bytes]) -> None:
        if len(parts) != 2:
            raise ProtocolError(f"A report has {len(parts)} frames instead of 2.")
        host, incarnation, kind = frames.unpack_sender(parts[0])
        worker = self._workers.get(host)
        if worker is None or worker.incarnation != incarnation:
            return  # The last words of a worker that was replaced.
        self._reports_read += 1
        self._bytes_read += len(parts[1])
        if kind == frames.REPORT:
            self._on_report(decode_report(parts[1]))
        elif kind == frames.HELLO:
            self._connect(worker, decode(_hellos, parts[1]))
        else:
            raise ProtocolError(f"A report of kind {kind} is unknown.")

    def _connect(self, worker: _Worker, hello: Hello) -> None:
        if hello.key != worker.key or worker.socket is not None:
            raise ProtocolError("A worker said hello twice, or with a key that is not its own.")
        worker.socket = self._context.socket(zmq.PUSH)
        worker.socket.set_hwm(0)
        secure_client(worker.socket, self._keys, hello.key)
        worker.socket.connect(hello.commands)
