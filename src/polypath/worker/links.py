"""Links to clients, on which arrays are handed over without passing through the head.

A link is a socket of the client's. Where the client shares memory with this worker there are a few slots of it,
too: while the client takes one slot's elements the next is filled, and the same pages serve for all, as setting up
fresh ones takes several times as long as filling them. That memory has no name in any file system, so nothing of
it is left behind, whoever dies. Where none is shared, elements follow on the socket, in either direction.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import socket
import struct
import threading
from collections.abc import Generator
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from polypath.link import elements
from polypath.messages import SLOT_BYTES, SLOTS, Landed, Wanted
from polypath.transport.bulk import widen
from polypath.types import Code, DeviceId, ExecutableId
from polypath.worker.failures import WorkerFailure

_HEAD: Final = struct.Struct("<H")
"""The length of what a worker says on a stream."""

_encode = msgspec.msgpack.Encoder().encode


class Links:
    """All links of this worker, by the client's address. One ends when no program is left that uses it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, Link] = {}
        self._users: dict[ExecutableId, str] = {}

    def use(self, executable: ExecutableId, address: str) -> None:
        """Let there be a link to `address` until `executable` is unloaded."""
        with self._lock:
            self._users[executable] = address
            if address not in self._links:
                self._links[address] = Link(address)

    def get(self, address: str) -> Link:
        """The link.

        Raises:
            WorkerFailure: it has ended.
        """
        with self._lock:
            link = self._links.get(address)
        if link is None:
            raise WorkerFailure(Code.CANCELLED, "The client of the array is gone.")
        return link

    def unload(self, executable: ExecutableId) -> None:
        """The client needs no link for that program any more."""
        with self._lock:
            address = self._users.pop(executable, "")
            link = None if address in self._users.values() else self._links.pop(address, None)
        if link is not None:
            link.close()


class Link:
    """The way to one client, which opens with the first array. One shard at a time is on it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._way: _Slots | _Stream | None = None

    def send(self, number: int, start: tuple[int, ...], array: npt.NDArray[Any]) -> None:
        """Return once the client has `array`, which begins at `start` of the whole.

        Raises:
            WorkerFailure: the client is gone.
        """
        with self._open() as way:
            way.send(number, start, elements.plain(array))

    def take(self, number: int, device: DeviceId, array: npt.NDArray[Any]) -> None:
        """Fill `array` with the shard of `device` of what the client has.

        Raises:
            WorkerFailure: the client is gone, or has it no more.
        """
        with self._open() as way:
            there = way.take(number, device, elements.plain(array))
        if not there:
            raise WorkerFailure(Code.CANCELLED, "The client has the array no more; put it again.")

    def close(self) -> None:
        """Nothing is on its way any more; what is fails."""
        way = self._way
        if way is not None:
            with contextlib.suppress(OSError):  # The client was faster.
                way.socket.shutdown(socket.SHUT_RDWR)
            way.socket.close()

    @contextlib.contextmanager
    def _open(self) -> Generator[_Slots | _Stream]:
        with self._lock:
            try:
                if self._way is None:
                    self._way = _connect(self._address)
                yield self._way
            except OSError as error:
                self.close()
                self._way = None
                raise WorkerFailure(
                    Code.CANCELLED, f"The client of the array exchanges no more of it ({error}); do it again."
                ) from error


def _connect(address: str) -> _Slots | _Stream:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        link.connect(address)
        return _Slots(link)
    except OSError as error:
        link.close()
        if error.errno != errno.EPROTOTYPE:
            raise
    # The client listens with a stream: it shares no memory.
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        link.connect(address)
    except OSError:
        link.close()
        raise
    return _Stream(link)


class _Slots:
    """A link with shared memory."""

    def __init__(self, link: socket.socket) -> None:
        self.socket = link
        self._free = list(range(SLOTS))
        handle = os.memfd_create("polypath-link", os.MFD_CLOEXEC)
        try:
            os.ftruncate(handle, SLOTS * SLOT_BYTES)
            self._memory = mmap.mmap(handle, SLOTS * SLOT_BYTES)
            socket.send_fds(link, [b"memory"], [handle])
        finally:
            os.close(handle)

    def send(self, number: int, start: tuple[int, ...], array: npt.NDArray[Any]) -> None:
        for at, shape in elements.pieces(array.shape, SLOT_BYTES // array.itemsize):
            slot = self._free.pop() if self._free else self._receive()
            room: npt.NDArray[Any] = np.ndarray(shape, array.dtype, self._memory, slot * SLOT_BYTES)
            room[...] = array[elements.box(at, shape)]
            place = tuple(a + s for a, s in zip(at, start, strict=True))
            self.socket.send(_encode(Landed(number, slot, place, shape)))
        while len(self._free) < SLOTS:
            self._free.append(self._receive())

    def take(self, number: int, device: DeviceId, array: npt.NDArray[Any]) -> bool:
        raise WorkerFailure(Code.UNIMPLEMENTED, "A client that shares memory hands its arrays over in files of it.")

    def _receive(self) -> int:
        return _byte(self.socket)


class _Stream:
    """A link without shared memory."""

    def __init__(self, link: socket.socket) -> None:
        self.socket = link
        widen(link)

    def send(self, number: int, start: tuple[int, ...], array: npt.NDArray[Any]) -> None:
        self._say(Landed(number, 0, start, array.shape))
        elements.send(self.socket, array)
        _byte(self.socket)

    def take(self, number: int, device: DeviceId, array: npt.NDArray[Any]) -> bool:
        self._say(Wanted(number, device))
        there = bool(_byte(self.socket))
        if there:
            elements.receive(self.socket, array)
        return there

    def _say(self, message: Landed | Wanted) -> None:
        data = _encode(message)
        self.socket.sendall(_HEAD.pack(len(data)) + data)


def _byte(link: socket.socket) -> int:
    found = link.recv(1)
    if not found:
        raise ConnectionResetError("it closed the link")
    return found[0]
