"""Where arrays from the cluster land: the client's end of its workers' links.

Owns the socket in the session's folder, a thread for each worker that has connected, and the arrays that
wait for their elements. Which array has which number, and when it is complete, is `hooks.getting`'s business.
"""

from __future__ import annotations

import logging
import mmap
import os
import socket
import threading
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from polypath.messages import LANDING, SLOT_BYTES, SLOTS, Landed

_log = logging.getLogger(__name__)

_MESSAGE: Final = 1 << 12
"""More bytes than a `Landed` has."""

_decode = msgspec.msgpack.Decoder(Landed).decode


class Landing:
    """Takes what workers send, until `close()`.

    Raises:
        OSError: the folder can have no socket.
    """

    def __init__(self, folder: Path) -> None:
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        self._links: set[socket.socket] = set()
        self._closed = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._listener.bind(str(folder / LANDING))
            self._listener.listen()
        except OSError:
            self._listener.close()
            raise
        threading.Thread(target=self._accept, name="polypath-landing", daemon=True).start()

    def expect(self, number: int, array: npt.NDArray[Any]) -> None:
        """Let the elements of `number` land in `array`."""
        self._arrays[number] = array.view(f"u{array.itemsize}" if array.itemsize <= 8 else np.complex128)

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
                memory = _receive_memory(link)
                while data := link.recv(_MESSAGE):
                    landed = _decode(data)
                    self._place(landed, memory)
                    link.send(bytes((landed.slot,)))
        except OSError as error:
            _log.debug("A link broke: %s", error)
        finally:
            self._links.discard(link)

    def _place(self, landed: Landed, memory: mmap.mmap) -> None:
        array = self._arrays.get(landed.number)
        if array is not None:
            box = tuple(slice(at, at + size) for at, size in zip(landed.start, landed.shape, strict=True))
            array[box] = np.ndarray(landed.shape, array.dtype, memory, landed.slot * SLOT_BYTES)


def _receive_memory(link: socket.socket) -> mmap.mmap:
    _, handles, _, _ = socket.recv_fds(link, _MESSAGE, 1)
    if not handles:
        raise ConnectionResetError("the worker sent no memory")
    try:
        return mmap.mmap(handles[0], SLOTS * SLOT_BYTES, prot=mmap.PROT_READ)
    finally:
        os.close(handles[0])
