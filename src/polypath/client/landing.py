"""Where arrays go between the cluster's workers and this process: a socket in the session's folder.

Each worker that has something for this process opens a link, and a thread here serves it. Elements follow on the
link, in either direction. Places are numpy's arrays, by numbers that the caller gives. A number that is not
there (any more) is passed over: nobody wants it.
"""

from __future__ import annotations

import logging
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy.typing as npt

from polypath import elements
from polypath.messages import LANDING, Landed, Wanted
from polypath.transport.bulk import fill, widen
from polypath.types import DeviceId

_log = logging.getLogger(__name__)

_either: msgspec.msgpack.Decoder[Landed | Wanted] = msgspec.msgpack.Decoder(Landed | Wanted)


class Landing(ABC):
    """Serves links, until `close()`.

    Raises:
        OSError: the folder can have no socket.
    """

    _kind: ClassVar[socket.SocketKind]

    def __init__(self, folder: Path) -> None:
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        self._links: set[socket.socket] = set()
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX, self._kind)
        try:
            self._listener.bind(str(folder / LANDING))
            self._listener.listen()
        except OSError:
            self._listener.close()
            raise
        threading.Thread(target=self._accept, name="polypath-landing", daemon=True).start()

    def expect(self, number: int, array: npt.NDArray[Any]) -> None:
        """Let the elements of `number` land in `array`."""
        self._arrays[number] = elements.plain(array)

    def forget(self, number: int) -> None:
        """All of `number` has landed, or nobody wants it. Takes no lock: Python may call it anywhere."""
        self._arrays.pop(number, None)

    def close(self) -> None:
        """Take nothing more."""
        self._closed = True
        for link in (self._listener, *self._links):
            try:
                link.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it
            except OSError as error:
                _log.debug("A link had ended: %s", error)

    # --- On threads

    def _accept(self) -> None:
        with self._listener:
            while not self._closed:
                try:
                    link, _ = self._listener.accept()
                except OSError as error:
                    _log.debug("No more links: %s", error)
                    return
                self._links.add(link)
                threading.Thread(target=self._take, args=(link,), name="polypath-landing", daemon=True).start()

    def _take(self, link: socket.socket) -> None:
        try:
            with link:
                self._serve(link)
        except OSError as error:
            _log.debug("A link broke: %s", error)
        finally:
            self._links.discard(link)

    @abstractmethod
    def _serve(self, link: socket.socket) -> None:
        """Take what comes, until it ends."""


class StreamLanding(Landing):
    """Takes arrays and hands them over, on streams."""

    _kind = socket.SOCK_STREAM

    def __init__(self, folder: Path) -> None:
        self._offers: dict[int, Mapping[DeviceId, npt.NDArray[Any]]] = {}
        super().__init__(folder)

    def offer(self, number: int, shards: Mapping[DeviceId, npt.NDArray[Any]]) -> None:
        """Let workers take the elements of `number`, each those of its devices."""
        self._offers[number] = {device: elements.plain(shard) for device, shard in shards.items()}

    def withdraw(self, number: int) -> None:
        """They have them, or nobody needs them."""
        self._offers.pop(number, None)

    def _serve(self, link: socket.socket) -> None:
        widen(link)
        size = bytearray(2)
        while fill(link, memoryview(size)):
            message = bytearray(int.from_bytes(size, "little"))
            if not fill(link, memoryview(message)):
                return
            match _either.decode(message):
                case Landed(number, slot, start, shape):
                    self._land(link, number, start, shape)
                    link.sendall(bytes((slot,)))
                case Wanted(number, device):
                    self._hand_over(link, number, device)

    def _land(self, link: socket.socket, number: int, start: tuple[int, ...], shape: tuple[int, ...]) -> None:
        array = self._arrays.get(number)
        if array is None:
            # Elements of what nobody wants would have to be read, too; a new link is faster.
            raise ConnectionAbortedError("an array came that nobody wants any more")
        elements.receive(link, array[elements.box(start, shape)])

    def _hand_over(self, link: socket.socket, number: int, device: DeviceId) -> None:
        shard = self._offers.get(number, {}).get(device)
        link.sendall(bytes((shard is not None,)))
        if shard is not None:
            elements.send(link, shard)
