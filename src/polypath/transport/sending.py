"""The sending end of a bulk stream (`bulk`)."""

from __future__ import annotations

import collections
import logging
import os
import queue
import select
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Final

from polypath.transport.bulk import HEAD, MAPPED, TCP, UNIX, WHO, set_up_tcp, wake, widen
from polypath.transport.keys import BulkKeys
from polypath.types import HostId

log = logging.getLogger(__name__)

_TRIES: Final = 3
"""Streams that may break in a row before one shard has arrived."""
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""OpenSSL's: hosts' clocks may differ, and the certificate lives no longer than its cluster."""


class Sender:
    """Sends to one listener, in order, on a thread of its own; connects when there is something to send.

    It keeps each shard until the listener has it. When a stream breaks it makes another and sends those again. If it
    cannot, it drops all of them, tells `lost` why, from its thread, and sends nothing more.
    """

    def __init__(
        self, address: str, keys: BulkKeys, host: HostId, patience: float, lost: Callable[[str], None]
    ) -> None:
        """`host` is this end's. A network that gives no sign of life for `patience` seconds breaks a stream."""
        self._address = address
        self._keys = keys
        self._host = host
        self._patience = patience
        self._lost = lost
        self._name = os.urandom(16)
        self._queue: queue.SimpleQueue[tuple[bytes, bytes | memoryview] | None] = queue.SimpleQueue()
        self._sent: collections.deque[tuple[bytes, bytes | memoryview]] = collections.deque()
        """The shards that were sent and may not have arrived."""
        self._arrived = 0
        """How many have: the number of the first of `_sent`."""
        self._tries = 0
        self._stream: socket.socket | None = None
        self._lock = threading.Lock()
        self.closed = False
        self._thread = threading.Thread(target=self._run, name="shards out", daemon=True)
        self._thread.start()

    def send(self, tag: str, header: bytes, data: bytes | memoryview) -> None:
        """Send without waiting, from any thread; `data` must stay as it is."""
        if self.closed:
            return
        name = tag.encode()
        self._queue.put((HEAD.pack(len(name), len(header), len(data)) + name + header, data))

    def close(self, linger: float) -> None:
        """Send nothing more; what is queued has `linger` seconds to arrive."""
        self._queue.put(None)
        self._thread.join(linger)
        with self._lock:
            self.closed = True
            if self._stream is not None:
                wake(self._stream)

    def _run(self) -> None:
        reason = ""
        try:
            while self._step():
                pass
        except OSError as error:
            reason = "" if self.closed else str(error)
        with self._lock:
            self.closed = True
            if self._stream is not None:
                self._stream.close()
        self._sent.clear()
        while not self._queue.empty():
            self._queue.get()
        if reason:
            log.warning("Shards for %s are lost: %s", self._address, reason)
            self._lost(reason)

    def _step(self) -> bool:
        # A message is held in `_sent` alone, so that it is freed once it has arrived.
        if self._sent and self._queue.empty():
            self._on_stream(self._hear)
            return True
        message = self._queue.get()
        if message is None or self.closed:
            while self._sent and not self.closed:
                self._on_stream(self._hear)
            return False
        self._sent.append(message)
        del message
        self._on_stream(self._write_last)
        return True

    def _on_stream(self, work: Callable[[socket.socket], None]) -> None:
        """Do this, or send on a new stream all that may not have arrived."""
        if self._stream is not None:
            try:
                work(self._stream)
                return
            except OSError:
                if self.closed:
                    raise
        while True:
            stream = self._connect()
            self._tries += 1
            try:
                stream.sendall(self._keys.secret.encode() + WHO.pack(self._host, self._name, self._arrived))
                for message in self._sent:
                    _write(stream, *message)
                return
            except OSError:
                if self._tries == _TRIES or self.closed:
                    raise

    def _write_last(self, stream: socket.socket) -> None:
        _write(stream, *self._sent[-1])
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        if poll.poll(0):
            self._hear(stream)

    def _hear(self, stream: socket.socket) -> None:
        """Wait for the listener to say that it has some."""
        count = len(stream.recv(4096))
        if not 0 < count <= len(self._sent):
            raise ConnectionResetError("the other end closed the stream")
        for _ in range(count):
            self._sent.popleft()
        self._arrived += count
        self._tries = 0

    def _connect(self) -> socket.socket:
        if self._tries == _TRIES:
            raise ConnectionResetError(f"{_TRIES} streams in a row broke before anything arrived")
        stream = _connect(self._address, self._keys, self._patience)
        with self._lock:
            if self.closed:
                stream.close()
                raise ConnectionAbortedError("nothing is to be sent any more")
            before, self._stream = self._stream, stream
        if before is not None:
            before.close()
        return stream


def _connect(address: str, keys: BulkKeys, patience: float) -> socket.socket:
    if address.startswith(TCP):
        host, _, port = address.removeprefix(TCP).rpartition(":")
        stream = socket.create_connection((host, int(port)), patience)
        set_up_tcp(stream, patience)
        stream = client_context(keys.certificate).wrap_socket(stream)
        stream.settimeout(None)
        return stream
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    widen(stream)
    try:
        stream.connect(address.removeprefix(UNIX))
    except OSError:
        stream.close()
        raise
    return stream


def _write(stream: socket.socket, head: bytes, data: bytes | memoryview) -> None:
    if len(data) < MAPPED:
        stream.sendall(head + data)
    else:
        stream.sendall(head)
        stream.sendall(data)


def client_context(certificate: str) -> ssl.SSLContext:
    """The context with which a client of the cluster's listeners connects over networks: it accepts those alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # There is one certificate, the cluster's, wherever its hosts are.
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=certificate)
    return context
