"""A worker's end: commands in, reports out, shards to and from its peers."""

from __future__ import annotations

import collections
import logging
import threading
from collections.abc import Callable, Iterable

import msgspec
import zmq

from polypath.errors import ProtocolError
from polypath.messages import AnyCommand, Peer, Report, Shutdown, Snapshot, decode_command, encode
from polypath.transport import frames
from polypath.transport.head import Hello
from polypath.transport.keys import KeyPair, WorkerLink, endpoint, guard, secure_client, secure_server
from polypath.types import HostId

log = logging.getLogger(__name__)

OnShard = Callable[[str, bytes, memoryview], None]
"""Takes (tag, header, data) of a shard that a peer sent; called on the transport's thread."""


class WorkerChannel:
    """One worker's links.

    `receive` and `wait` belong to the thread that applies commands; `send` and `send_shard`
    may be called from any.
    """

    def __init__(self, link: WorkerLink, on_shard: OnShard) -> None:
        self._link = link
        self._peer_addresses: dict[HostId, Peer] = {}
        self._peer_keys: frozenset[bytes] = frozenset()
        self._last_sequence = -1
        self._backlog: collections.deque[AnyCommand] = collections.deque()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stop_guard = guard(self._context, ("commands", "shards"), self._allowed)
        self._commands, commands_address = self._listen("commands")
        self._report_lock = threading.Lock()
        self._reports = self._context.socket(zmq.PUSH)
        self._reports.set_hwm(0)
        secure_client(self._reports, link.keys, link.head_key)
        self._reports.connect(link.reports)
        self._peers = _Peers(self._context, link.keys)
        shards, shards_address = self._listen("shards")
        self.peer = Peer(link.host, shards_address, link.keys.public.encode())
        self._shard_reader = threading.Thread(
            target=_read_shards, args=(shards, self._context, on_shard), name="shards", daemon=True
        )
        self._shard_reader.start()
        self._send(frames.HELLO, msgspec.msgpack.encode(Hello(commands_address, link.keys.public)))

    def receive(self) -> AnyCommand:
        """The next command, waiting for it."""
        if self._backlog:
            return self._backlog.popleft()
        while True:
            command = self._read(0)
            if command is not None:
                return command

    def wait(self, descriptor: int) -> bool:
        """Wait until `descriptor` is readable: True; or until a command came that ends this worker: False.

        Other commands that come meanwhile are kept for `receive`, in order.
        """
        poller = zmq.Poller()
        poller.register(descriptor, zmq.POLLIN)
        poller.register(self._commands, zmq.POLLIN)
        while True:
            if any(isinstance(command, Snapshot | Shutdown) for command in self._backlog):
                return False
            ready = dict(poller.poll())
            if descriptor in ready:
                return True
            if self._commands in ready:
                command = self._read(zmq.DONTWAIT)
                if command is not None:
                    self._backlog.append(command)

    def send(self, report: Report) -> None:
        """Queue a report for the head. Never blocks."""
        self._send(frames.REPORT, encode(report))

    def set_peers(self, peers: Iterable[Peer]) -> None:
        """Who may send shards here, and where to send them."""
        self._peer_addresses = {peer.host: peer for peer in peers}
        self._peer_keys = frozenset(peer.key for peer in self._peer_addresses.values())
        self._peers.update(self._peer_addresses)

    def send_shard(self, host: HostId, tag: str, header: bytes, data: bytes | memoryview) -> None:
        """Queue a shard for a peer. Never blocks."""
        self._peers.send(host, (tag.encode(), header, data))

    def close(self, linger: float = 2.0) -> None:
        """End all links; reports and shards still queued have `linger` seconds to leave."""
        milliseconds = int(linger * 1000)
        self._commands.close(linger=0)
        with self._report_lock:
            self._reports.close(linger=milliseconds)
        self._peers.close(milliseconds)
        self._stop_guard()
        self._context.term()
        self._shard_reader.join()

    def _listen(self, name: str) -> tuple[zmq.Socket[bytes], str]:
        socket = self._context.socket(zmq.PULL)
        socket.set_hwm(0)
        secure_server(socket, self._link.keys, name)
        listen = self._link.listen
        socket.bind(f"{listen}.{name}" if listen.startswith("ipc://") else f"{listen}:*")
        return socket, endpoint(socket)

    def _allowed(self, domain: str, key: bytes) -> bool:
        if domain == "commands":
            return key == self._link.head_key.encode()
        return key in self._peer_keys

    def _read(self, flags: int) -> AnyCommand | None:
        try:
            parts = self._commands.recv_multipart(flags)
        except zmq.Again:
            return None
        try:
            if len(parts) != 2:
                raise ProtocolError(f"A command has {len(parts)} frames instead of 2.")
            sequence = frames.unpack_sequence(parts[0])
            if sequence <= self._last_sequence:
                raise ProtocolError(f"Command {sequence} came after {self._last_sequence}.")
            command = decode_command(parts[1])
        except (ProtocolError, msgspec.MsgspecError) as error:
            log.warning("Dropped a malformed command: %s", error)
            return None
        self._last_sequence = sequence
        return command

    def _send(self, kind: int, data: bytes) -> None:
        sender = frames.pack_sender(self._link.host, self._link.incarnation, kind)
        with self._report_lock:
            if not self._reports.closed:
                self._reports.send_multipart((sender, data), copy=len(data) < 65536)


class _Peers:
    """Sockets to the other workers, made when first needed."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys: KeyPair) -> None:
        self._context = context
        self._keys = keys
        self._lock = threading.Lock()
        self._peers: dict[HostId, Peer] = {}
        self._sockets: dict[HostId, zmq.Socket[bytes]] = {}

    def update(self, peers: dict[HostId, Peer]) -> None:
        with self._lock:
            for host in [h for h in self._sockets if peers.get(h) != self._peers.get(h)]:
                self._sockets.pop(host).close(linger=0)
            self._peers = peers

    def send(self, host: HostId, parts: tuple[bytes, bytes, bytes | memoryview]) -> None:
        with self._lock:
            socket = self._sockets.get(host)
            if socket is None:
                peer = self._peers[host]
                socket = self._context.socket(zmq.PUSH)
                socket.set_hwm(0)
                secure_client(socket, self._keys, peer.key.decode())
                socket.connect(peer.address)
                self._sockets[host] = socket
            socket.send_multipart(parts, copy=False)

    def close(self, linger: int) -> None:
        with self._lock:
            for socket in self._sockets.values():
                socket.close(linger=linger)
            self._sockets.clear()


def _read_shards(socket: zmq.Socket[bytes], context: zmq.Context[zmq.Socket[bytes]], on_shard: OnShard) -> None:
    while True:
        try:
            parts = socket.recv_multipart(copy=False)
        except zmq.ContextTerminated:
            socket.close(linger=0)
            return
        if len(parts) != 3:
            log.warning("Dropped a shard of %d frames instead of 3.", len(parts))
            continue
        tag, header, data = parts
        on_shard(tag.bytes.decode("utf-8", "replace"), header.bytes, data.buffer)
