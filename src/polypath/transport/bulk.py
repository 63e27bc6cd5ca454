"""Bulk streams carry shards from one process to another. This is their receiving end; `sending` has the other.

On one machine a stream is a unix socket in the cluster's folder. Over networks it is TLS with AES-GCM, which carries
several times what ZeroMQ's CURVE does. Bytes are sent from where they are and read to where they stay, without a copy.

    sender to listener   the cluster's secret, `WHO`; then for each shard `HEAD`, tag, header, data
    listener to sender   `TAKEN` for each shard, once it is taken

The shards of a sender are numbered from 0. Should a stream break, the sender makes another and sends again from the
first shard that it has no `TAKEN` for; the listener drops what it has already.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import mmap
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from polypath.errors import ProtocolError
from polypath.transport.keys import BulkKeys
from polypath.types import HostId

log = logging.getLogger(__name__)

Take = Callable[[str, bytes, memoryview], None]
"""Takes (tag, header, data) of a shard. It is called on the connection's thread."""

UNIX: Final = "unix:"
TCP: Final = "tcp://"
_IPC: Final = "ipc://"
HEAD: Final = struct.Struct("<HIQ")
"""Lengths of tag, header and data."""
WHO: Final = struct.Struct("<I16sQ")
"""The sender's host, a name that no other sender has, and the number of the first shard that follows."""
TAKEN: Final = b"\1"
_MOST_HEADER: Final = 1 << 24
_MOST_BYTES: Final = 1 << 40
MAPPED: Final = 1 << 18
"""Shards of at least so many bytes get mapped memory. It begins at a page, so CPU devices use it without a copy."""
_SEND_BUFFER: Final = 1 << 19
"""Bytes that a socket buffers. The kernel doubles it, up to its own limit."""
_HELLO_TIMEOUT: Final = 30
"""Seconds that a process which connects has to show the secret."""
_BACKLOG: Final = 4096


class Listener:
    """Accepts streams. Others can connect at once; their shards are read from `start` on."""

    def __init__(self, listen: str, keys: BulkKeys, patience: float) -> None:
        """`listen` is `ipc://PATH`, or `tcp://HOST` for a port of its own.

        A network that gives no sign of life for `patience` seconds ends its streams.
        """
        self._keys = keys
        self._patience = patience
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
        self._streams: dict[socket.socket, HostId | None] = {}
        """The open streams, each with the host that sends on it once that is known."""
        self._taken: dict[bytes, int] = {}
        """How many shards of each sender were taken."""
        self._drains: list[tuple[set[socket.socket], Callable[[], None]]] = []
        """Functions to call, each once all of its streams have ended."""
        self._closed = False

    def start(self, take: Take) -> None:
        """Give `take` what comes. Once."""
        threading.Thread(target=self._accept, args=(take,), name="shards", daemon=True).start()

    def drain(self, host: HostId, then: Callable[[], None]) -> None:
        """Read what a host has sent on its present streams, end these, and call `then`, from any thread.

        If the host is still there, it sends again on a new stream what was cut off.
        """
        with self._lock:
            streams = {stream for stream, whose in self._streams.items() if whose == host}
            for stream in streams:
                wake(stream, socket.SHUT_RD)  # The kernel still hands out what came before.
            if streams:
                self._drains.append((streams, then))
        if not streams:
            then()

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
                set_up_tcp(stream, self._patience)
                stream = self._tls.wrap_socket(stream, server_side=True, do_handshake_on_connect=False)
            with self._lock:
                if self._closed:
                    return
                self._streams[stream] = None
            stream.settimeout(_HELLO_TIMEOUT)
            if isinstance(stream, ssl.SSLSocket):
                stream.do_handshake()
            host, sender, number = self._admit(stream)
            with self._lock:
                self._streams[stream] = host
            stream.settimeout(None)
            while (shard := _receive(stream)) is not None:
                if self._is_new(sender, number):
                    _give(take, *shard)
                number += 1
                del shard
                with contextlib.suppress(OSError):  # A sender that has ended may have left more to read.
                    stream.sendall(TAKEN)
        except (OSError, ProtocolError) as error:
            if not self._closed:
                log.warning("A stream of shards ended: %s", error)
        finally:
            self._ended(stream)

    def _admit(self, stream: socket.socket) -> tuple[HostId, bytes, int]:
        secret, who = bytearray(len(self._keys.secret)), bytearray(WHO.size)
        if not fill(stream, memoryview(secret)) or not hmac.compare_digest(secret, self._keys.secret.encode()):
            raise ProtocolError("Somebody connected who is not of this cluster.")
        if not fill(stream, memoryview(who)):
            raise ProtocolError("Somebody connected and did not say who it is.")
        return WHO.unpack(who)

    def _is_new(self, sender: bytes, number: int) -> bool:
        """Whether the shard was not taken before, on a stream that broke. It is now."""
        with self._lock:
            if number < self._taken.get(sender, 0):
                return False
            self._taken[sender] = number + 1
            return True

    def _ended(self, stream: socket.socket) -> None:
        with self._lock:
            self._streams.pop(stream, None)
            for streams, _ in self._drains:
                streams.discard(stream)
            drained = [then for streams, then in self._drains if not streams]
            self._drains = [drain for drain in self._drains if drain[0]]
        stream.close()
        for then in drained:
            then()


def widen(stream: socket.socket) -> None:
    """Let a unix socket take more at a time than the kernel's default: who sends and who reads wake each other less."""
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


def _receive(stream: socket.socket) -> tuple[str, bytes, memoryview] | None:
    """The next shard (tag, header, data), or None if the stream ended before it."""
    head = bytearray(HEAD.size)
    if not fill(stream, memoryview(head)):
        return None
    tag_size, header_size, size = HEAD.unpack(head)
    if header_size > _MOST_HEADER or size > _MOST_BYTES:
        raise ProtocolError(f"A shard of {size} bytes with a header of {header_size} is announced.")
    names, data = bytearray(tag_size + header_size), memoryview(room(size))
    if not fill(stream, memoryview(names)) or not fill(stream, data):
        raise ProtocolError("a shard was cut off")
    return names[:tag_size].decode("utf-8", "replace"), bytes(names[tag_size:]), data


def _give(take: Take, tag: str, header: bytes, data: memoryview) -> None:
    try:
        take(tag, header, data)
    except msgspec.MsgspecError as error:
        log.warning("Dropped a malformed shard: %s", error)


def room(size: int) -> mmap.mmap | bytearray:
    """New memory for what comes; mapped, and so at a page's begin, unless it is small."""
    return bytearray(size) if size < MAPPED else mapped(size)


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


def wake(stream: socket.socket, how: int = socket.SHUT_RDWR) -> None:
    """End what a thread waits for on a socket, which it then closes."""
    with contextlib.suppress(OSError):  # It has ended by itself.
        socket.socket.shutdown(stream, how)  # TLS's own would let the thread read on, unencrypted.


def set_up_tcp(stream: socket.socket, patience: float) -> None:
    """Have the kernel send at once, and send heartbeats: a stream breaks if they are not answered for the patience."""
    seconds = max(1, round(patience / 4))
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, round(patience * 1000)))


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
