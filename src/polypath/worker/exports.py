"""Arrays on their way to clients of this machine, by links that do not pass through the head.

A link is a socket of the client's and a few slots of memory that it shares with this worker. While the
client takes one slot's elements the next is filled, and the same pages serve for all: setting up fresh ones
takes several times as long as filling them. The memory has no name in any file system, so nothing of it is
left behind, whoever dies.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from polypath.messages import SLOT_BYTES, SLOTS, Export, Landed
from polypath.types import Code, DeviceId, ExecutableId, Failure
from polypath.worker.failures import WorkerFailure, failure_of
from polypath.worker.host import OPAQUE
from polypath.worker.store import Shard, Store, Value
from polypath.worker.transfers import Held, Transfers
from polypath.worker.waits import Pending, Waits

_THREADS: Final = 128
"""Arrays that may wait for a client, or for a program of a lane, at the same time."""
_DONE: Final = b""
"""A shard that is there and has no elements."""

_encode = msgspec.msgpack.Encoder().encode


class Exports:
    """The handler of `Export`."""

    def __init__(self, transfers: Transfers, store: Store, waits: Waits, local: set[DeviceId]) -> None:
        self._transfers = transfers
        self._store = store
        self._waits = waits
        self._local = local
        self._lock = threading.Lock()
        self._links: dict[str, _Link] = {}
        """By the client's address."""
        self._users: dict[ExecutableId, str] = {}
        self._threads = ThreadPoolExecutor(_THREADS, "export")

    def export(self, command: Export) -> None:
        mine = [device for device, _ in command.boxes if device in self._local]
        end = Pending(self._waits)
        self._store.set(command.status, Value(dict[DeviceId, Shard | Pending]({mine[0]: end})))
        send = partial(self._send, command, end)
        try:
            value = self._store.get(command.value)
            shards = {device: value.peek(device) for device in mine}
        except Exception as error:
            end.resolve(failure_of(error))
            return
        with self._lock:
            self._users[command.executable] = command.address
            if command.address not in self._links:
                self._links[command.address] = _Link(command.address)
        if any(isinstance(shard, Pending) for shard in shards.values()):
            self._threads.submit(lambda: send(_wait(shards)))
        else:
            # On a thread of ours: a client that stands still must not hold up what moves between devices.
            self._transfers.read(shards, partial(self._begin, send))

    def unload(self, executable: ExecutableId) -> None:
        """The client takes nothing any more."""
        with self._lock:
            address = self._users.pop(executable, "")
            link = None if address in self._users.values() else self._links.pop(address, None)
        if link is not None:
            link.close()

    def _begin(self, send: Callable[[Held], None], held: Held) -> None:
        self._threads.submit(send, held)

    # --- On a thread

    def _send(self, command: Export, end: Pending, held: Held) -> None:
        with self._lock:
            link = self._links.get(command.address)
        try:
            if link is None:
                raise WorkerFailure(Code.CANCELLED, "The client that the array was for is gone.")
            for device, start in command.boxes:
                if device in held:
                    link.send(command.number, start, self._elements(held[device]))
        except Exception as error:
            end.resolve(failure_of(error))
        else:
            end.resolve(_DONE)

    def _elements(self, shard: Shard | Failure) -> npt.NDArray[Any]:
        if isinstance(shard, bytes):
            raise WorkerFailure(Code.UNIMPLEMENTED, f"Arrays of type {OPAQUE[0]} are not handed over by workers.")
        array = self._transfers.fetch(shard)
        # As plain numbers of the same size: numpy copies those faster than added types, and without the GIL.
        return array.view(f"u{array.itemsize}" if array.itemsize <= 8 else np.complex128)


def _wait(shards: dict[DeviceId, Shard | Pending]) -> Held:
    held: Held = {}
    for device, shard in shards.items():
        try:
            held[device] = shard.wait() if isinstance(shard, Pending) else shard
        except WorkerFailure as error:
            held[device] = error.failure
    return held


class _Link:
    """The way to one client, which opens with the first array. One shard at a time is on it."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._memory: mmap.mmap
        self._free: list[int] = []

    def send(self, number: int, start: tuple[int, ...], array: npt.NDArray[Any]) -> None:
        """Return once the client has `array`, which begins at `start` of the whole.

        Raises:
            WorkerFailure: the client is gone.
        """
        with self._lock:
            try:
                link = self._socket = self._socket or self._open()
                for at, shape in _pieces(array.shape, SLOT_BYTES // array.itemsize):
                    slot = self._take_slot(link)
                    room: npt.NDArray[Any] = np.ndarray(shape, array.dtype, self._memory, slot * SLOT_BYTES)
                    room[...] = array[tuple(slice(a, a + n) for a, n in zip(at, shape, strict=True))]
                    place = tuple(a + s for a, s in zip(at, start, strict=True))
                    link.send(_encode(Landed(number, slot, place, shape)))
                while len(self._free) < SLOTS:
                    self._free.append(self._receive(link))
            except OSError as error:
                self.close()
                self._socket = None
                raise WorkerFailure(
                    Code.CANCELLED, f"The client that the array was for takes no more of it ({error}); read it again."
                ) from error

    def close(self) -> None:
        """Nothing is sent any more; what is on its way fails."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # The client was faster.
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def _open(self) -> socket.socket:
        handle = os.memfd_create("polypath-link", os.MFD_CLOEXEC)
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            os.ftruncate(handle, SLOTS * SLOT_BYTES)
            self._memory = mmap.mmap(handle, SLOTS * SLOT_BYTES)
            link.connect(self._address)
            socket.send_fds(link, [b"memory"], [handle])
        except OSError:
            link.close()
            raise
        finally:
            os.close(handle)
        self._free = list(range(SLOTS))
        return link

    def _take_slot(self, link: socket.socket) -> int:
        return self._free.pop() if self._free else self._receive(link)

    @staticmethod
    def _receive(link: socket.socket) -> int:
        taken = link.recv(1)
        if not taken:
            raise ConnectionResetError("it closed the link")
        return taken[0]


def _pieces(shape: tuple[int, ...], most: int) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Boxes (start and shape) of at most `most` elements each that make up `shape`."""
    if math.prod(shape) <= most:
        yield (0,) * len(shape), shape
        return
    first, *rest = shape
    rows = most // math.prod(rest)
    if rows:
        for at in range(0, first, rows):
            yield (at, *(0 for _ in rest)), (min(rows, first - at), *rest)
        return
    for at in range(first):
        for start, part in _pieces(tuple(rest), most):
            yield (at, *start), (1, *part)
