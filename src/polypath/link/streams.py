"""What carries a link: a unix socket on one machine, TLS between machines.

Each can be read by one thread while others write, one at a time.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any, Final

from polypath.link import protocol
from polypath.link.protocol import Hello, Kind
from polypath.transport.bulk import TCP, UNIX, server_context, wake, widen
from polypath.transport.keys import BulkKeys
from polypath.transport.sending import client_context

CONNECT_TIMEOUT: Final = 10.0
"""Seconds."""
_BACKLOG: Final = 4096
_CIPHERTEXT: Final = 1 << 18
"""Bytes that are read or written at a time."""


class Stream:
    """Bytes both ways, in order, on a socket as it is."""

    def __init__(self, plain: socket.socket) -> None:
        self._socket = plain
        self.settimeout = plain.settimeout
        """Let reading and sending raise TimeoutError where they wait longer; None for as long as it takes."""
        self.close = plain.close
        """Free what it has; nobody may wait on it."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Wait for bytes; how many came, 0 at the end."""
        return self._socket.recv_into(buffer)

    def sendall(self, data: Any, /) -> None:
        """Send all; waits where the other end does not read."""
        self._socket.sendall(data)

    def offer(self, data: bytes, /) -> bytes:
        """Send what goes without waiting; what is left, and must go before anything else."""
        try:
            return data[self._socket.send(data, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return data

    def shutdown(self) -> None:
        """End the stream at both ends, whoever waits on it; from any thread."""
        wake(self._socket)


class TlsStream(Stream):
    """TLS over a socket. OpenSSL's own sockets cannot be read and written at a time by Python's threads."""

    def __init__(self, plain: socket.socket, context: ssl.SSLContext, timeout: float, *, server: bool) -> None:
        """Agree on keys, in steps of at most `timeout` seconds.

        Raises:
            OSError: the other end is not who it should be, or is gone.
        """
        super().__init__(plain)
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._received, self._to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send, server_side=server)
        self._buffer = memoryview(bytearray(_CIPHERTEXT))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.settimeout(timeout)
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                plain.sendall(self._to_send.read())
                self._receive()
            else:
                break
        plain.sendall(self._to_send.read())
        plain.settimeout(None)

    def recv_into(self, buffer: memoryview, /) -> int:
        while True:
            with self._lock:
                try:
                    return self._tls.read(len(buffer), buffer)  # type: ignore[arg-type, return-value]
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLZeroReturnError:
                    return 0
            if not self._receive():
                return 0

    def sendall(self, data: Any, /) -> None:
        whole = memoryview(data).cast("B")
        with self._writing:
            for at in range(0, len(whole), _CIPHERTEXT):
                with self._lock:
                    self._tls.write(whole[at : at + _CIPHERTEXT])
                    ready = self._to_send.read()
                self._socket.sendall(ready)

    def offer(self, data: bytes, /) -> bytes:
        return data  # What is encrypted has to go.

    def _receive(self) -> int:
        size = self._socket.recv_into(self._buffer)
        with self._lock:
            if size:
                self._received.write(self._buffer[:size])
            else:
                self._received.write_eof()
        return size


def connect(address: str, certificate: str, timeout: float = CONNECT_TIMEOUT) -> Stream:
    """A stream to who listens at `address`: `unix:PATH`, or `tcp://HOST:PORT` for TLS with that certificate.

    `timeout` is the most seconds that each step over a network takes.

    Raises:
        OSError: nobody can be reached there, or it is somebody else.
    """
    if not address.startswith(TCP):
        return Stream(_connect_unix(address.removeprefix(UNIX)))
    host, _, port = address.removeprefix(TCP).rpartition(":")
    plain = socket.create_connection((host.strip("[]"), int(port)), timeout)
    with _closing_on_error(plain):
        return TlsStream(plain, client_context(certificate), timeout, server=False)


def connect_through(head: str, hello: Hello) -> Stream:
    """A stream to a host that only the head reaches, through the head's own socket.

    Raises:
        OSError: the head cannot be reached.
    """
    plain = _connect_unix(head.removeprefix(UNIX))
    with _closing_on_error(plain):
        plain.sendall(protocol.pack(Kind.HELLO, note=protocol.encode(hello)))
    return Stream(plain)


def _connect_unix(path: str) -> socket.socket:
    plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _closing_on_error(plain):
        plain.settimeout(CONNECT_TIMEOUT)
        plain.connect(path)
        plain.settimeout(None)
        widen(plain)
    return plain


@contextlib.contextmanager
def _closing_on_error(plain: socket.socket) -> Any:
    try:
        yield
    except BaseException:
        plain.close()
        raise


class Listener:
    """Where clients connect to."""

    def __init__(self, listen: str, keys: BulkKeys) -> None:
        """`listen` is `unix:PATH`, or `tcp://HOST` for a port of its own and TLS.

        Raises:
            OSError: nobody can listen there.
        """
        self._context = server_context(keys) if listen.startswith(TCP) else None
        if self._context is not None:
            self._socket = socket.create_server((listen.removeprefix(TCP), 0), backlog=_BACKLOG)
            host, port = self._socket.getsockname()[:2]
            self.address = f"{TCP}{host}:{port}"
        else:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._socket.bind(listen.removeprefix(UNIX))
            self._socket.listen(_BACKLOG)
            self.address = listen

    def accept(self) -> Callable[[], Stream]:
        """Wait for who connects; what is returned makes the stream, on the thread that is to have it.

        Raises:
            OSError: the listener was closed.
        """
        plain, _ = self._socket.accept()
        context = self._context

        def make() -> Stream:
            with _closing_on_error(plain):
                if context is None:
                    widen(plain)
                    return Stream(plain)
                return TlsStream(plain, context, CONNECT_TIMEOUT, server=True)

        return make

    def close(self) -> None:
        """Take nobody more."""
        wake(self._socket)
        self._socket.close()
