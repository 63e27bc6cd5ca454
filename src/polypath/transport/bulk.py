"""Bulk streams: what is big goes from one process of the cluster to another on a stream for just that.

On one machine that is a unix socket in the cluster's folder, over networks TLS: an authenticated stream of
AES-GCM, which carries several times what ZeroMQ's CURVE does. A connection goes one way and begins with the
secret that only the cluster's own processes are told. Bytes are read to where they stay, and sent from where they are.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import mmap
import os
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from polypath.errors import ProtocolError
from polypath.transport.keys import BulkKeys

log = logging.getLogger(__name__)

Take = Callable[[str, bytes, memoryview], None]
"""Takes (tag, header, data) of what was sent; called on a thread of the connection."""

UNIX: Final = "unix:"
TCP: Final = "tcp://"
_IPC: Final = "ipc://"
_HEAD: Final = struct.Struct("<HIQ")
"""Lengths of tag, header and data."""
_MOST_HEADER: Final = 1 << 24
_MOST_BYTES: Final = 1 << 40
_MAPPED: Final = 1 << 18
"""Bytes from which on memory is mapped: it begins at a page, and so devices of a CPU share it."""
_SEND_BUFFER: Final = 1 << 19
"""Bytes. The kernel takes twice that, or as much as it lets anybody have."""
_HELLO_TIMEOUT: Final = 30
"""Seconds that who connects has to say who he is."""
_BACKLOG: Final = 4096
_NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""OpenSSL's: hosts' clocks may differ, and the certificate lives no longer than its cluster."""


class Listener:
    """Where others send to. They can connect at once, and are heard from `start` on."""

    def __init__(self, listen: str, keys: BulkKeys) -> None:
        """`listen` is `ipc://PATH`, or `tcp://HOST` for a port of its own."""
        self._keys = keys
        self._tls = server_context(keys) if listen.startswith(TCP) else None
        if self._tls is not None:
            self._socket = socket.create_server((listen.removeprefix(TCP), 0), backlog=_BACKLOG)
            host, port = self._socket.getsockname()[:2]
            self.address = f"{TCP}{host}:{port}"
        else:
            path = listen.removeprefix(_IPC)
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(path)
            self._socket.listen(_BACKLOG)
            self.address = UNIX + path
        self._lock = threading.Lock()
        self._streams: set[socket.socket] = set()
        self._closed = False

    def start(self, take: Take) -> None:
        """Give `take` what comes. Once."""
        threading.Thread(target=self._accept, args=(take,), name="shards", daemon=True).start()

    def close(self) -> None:
        """Take nothing more, also of what is on its way."""
        with self._lock:
            self._closed = True
            for stream in (self._socket, *self._streams):
                wake(stream)
        self._socket.close()

    def _accept(self, take: Take) -> None:
        while True:
            try:
                stream, _ = self._socket.accept()
            except OSError:
                return  # Closed.
            threading.Thread(target=self._serve, args=(stream, take), name="shards in", daemon=True).start()

    def _serve(self, stream: socket.socket, take: Take) -> None:
        try:
            if self._tls is not None:
                stream = self._tls.wrap_socket(stream, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                if self._closed:
                    return
                self._streams.add(stream)
            stream.settimeout(_HELLO_TIMEOUT)
            if isinstance(stream, ssl.SSLSocket):
                stream.do_handshake()
            self._admit(stream)
            stream.settimeout(None)
            while _receive(stream, take):
                pass
        except (OSError, ProtocolError) as error:
            if not self._closed:
                log.warning("A stream of shards ended: %s", error)
        finally:
            with self._lock:
                self._streams.discard(stream)
            stream.close()

    def _admit(self, stream: socket.socket) -> None:
        secret = bytearray(len(self._keys.secret))
        if not fill(stream, memoryview(secret)) or not hmac.compare_digest(secret, self._keys.secret.encode()):
            raise ProtocolError("Somebody connected who is not of this cluster.")


class Sender:
    """Sends to one listener, in order, on a thread of its own; connects when there is something to send."""

    def __init__(self, address: str, keys: BulkKeys) -> None:
        self._address = address
        self._keys = keys
        self._queue: queue.SimpleQueue[tuple[bytes, bytes | memoryview] | None] = queue.SimpleQueue()
        self._stream: socket.socket | None = None
        self._lock = threading.Lock()
        self._closed = False
        self._thread = threading.Thread(target=self._send_all, name="shards out", daemon=True)
        self._thread.start()

    def send(self, tag: str, header: bytes, data: bytes | memoryview) -> None:
        """Send without waiting, from any thread; `data` must stay as it is."""
        if self._closed:
            return
        name = tag.encode()
        self._queue.put((_HEAD.pack(len(name), len(header), len(data)) + name + header, data))

    def close(self, linger: float) -> None:
        """Send nothing more; what is queued has `linger` seconds to leave."""
        self._queue.put(None)
        self._thread.join(linger)
        with self._lock:
            self._closed = True
            if self._stream is not None:
                wake(self._stream)

    def _send_all(self) -> None:
        try:
            while self._send_next():
                pass
        except OSError as error:
            # Who takes no shards is at its end: the head tells of it, and those who wait for others are told.
            if not self._closed:
                log.warning("Shards for %s are lost: %s", self._address, error)
        finally:
            with self._lock:
                self._closed = True
                if self._stream is not None:
                    self._stream.close()
            while not self._queue.empty():
                self._queue.get()

    def _send_next(self) -> bool:
        # What is sent is held in here alone, so that it is freed while the thread waits for more.
        message = self._queue.get()
        if message is None or self._closed:
            return False
        if self._stream is not None:
            with contextlib.suppress(OSError):
                _write(self._stream, *message)
                return True
            # The network broke the stream, say: the other end has dropped its half of the shard.
        _write(self._connect(), *message)
        return True

    def _connect(self) -> socket.socket:
        stream = _connect(self._address, self._keys)
        with self._lock:
            if self._closed:
                stream.close()
                raise ConnectionAbortedError("nothing is to be sent any more")
            before, self._stream = self._stream, stream
        if before is not None:
            before.close()
        stream.sendall(self._keys.secret.encode())
        return stream


def _connect(address: str, keys: BulkKeys) -> socket.socket:
    if address.startswith(TCP):
        host, _, port = address.removeprefix(TCP).rpartition(":")
        stream = socket.create_connection((host, int(port)), _HELLO_TIMEOUT)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


def widen(stream: socket.socket) -> None:
    """Let a unix socket take more at a time than the kernel's default: who sends and who reads wake each other less."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


def _write(stream: socket.socket, head: bytes, data: bytes | memoryview) -> None:
    if len(data) < _MAPPED:
        stream.sendall(head + data)
    else:
        stream.sendall(head)
        stream.sendall(data)


def _receive(stream: socket.socket, take: Take) -> bool:
    """Whether something came before the stream ended."""
    head = bytearray(_HEAD.size)
    if not fill(stream, memoryview(head)):
        return False
    tag_size, header_size, size = _HEAD.unpack(head)
    if header_size > _MOST_HEADER or size > _MOST_BYTES:
        raise ProtocolError(f"A shard of {size} bytes with a header of {header_size} is announced.")
    names, data = bytearray(tag_size + header_size), memoryview(room(size))
    if not fill(stream, memoryview(names)) or not fill(stream, data):
        raise ProtocolError("a shard was cut off")
    try:
        take(names[:tag_size].decode("utf-8", "replace"), bytes(names[tag_size:]), data)
    except msgspec.MsgspecError as error:
        log.warning("Dropped a malformed shard: %s", error)
    return True


def room(size: int) -> mmap.mmap | bytearray:
    """New memory for what comes; mapped, and so at a page's begin, unless it is small."""
    return bytearray(size) if size < _MAPPED else mapped(size)


def mapped(size: int) -> mmap.mmap:
    """New memory of whole pages."""
    # Huge pages, which the kernel gives only to private memory: small ones cost more to set up than to fill.
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


class Source(Protocol):
    """What bytes can be read from, as a socket."""

    def recv_into(self, buffer: memoryview, /) -> int: ...


def fill(stream: Source, memory: memoryview) -> bool:
    """Whether as many bytes came as there is memory for, before the stream ended."""
    at, size = 0, len(memory)
    while at < size:
        count = stream.recv_into(memory[at:])
        if not count:
            return False
        at += count
    return True


def wake(stream: socket.socket) -> None:
    """End what a thread waits for on a socket, which it then closes."""
    with contextlib.suppress(OSError):  # It has ended by itself.
        socket.socket.shutdown(stream, socket.SHUT_RDWR)  # TLS's own would let the thread read on, unencrypted.


def server_context(keys: BulkKeys) -> ssl.SSLContext:
    """For who is connected to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    handle = os.memfd_create("polypath-keys", os.MFD_CLOEXEC)  # The library reads files only, and these are secret.
    try:
        os.write(handle, (keys.private_key + keys.certificate).encode())
        context.load_cert_chain(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)
    return context


def client_context(certificate: str) -> ssl.SSLContext:
    """For who connects, and knows the other end by its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # There is one certificate, the cluster's, wherever its hosts are.
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=certificate)
    return context
