"""The pipe in a client's folder by which the cluster's processes tell the client something themselves.

A pipe has one reader, and as many writers as there are workers. It takes what is small whole or not at all, and wakes
who waits for it without a thread between.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import time
from pathlib import Path
from typing import Final, NamedTuple

NAME: Final = "notices"
"""Of the pipe."""

_HEAD: Final = struct.Struct("<IHBB")
"""Number, length of what follows, how many notices there will be, whether this one is an answer."""
_WHOLE: Final = 4096
"""Bytes that a pipe takes whole: `select.PIPE_BUF` on Linux."""
_READ: Final = 1 << 16
_SOON: Final = 500_000
"""Nanoseconds that a small program's answer takes at most."""


QUESTIONS: Final = 1 << 24
"""Numbers of questions are below."""


class Notice(NamedTuple):
    """What one process says to the question `number`."""

    number: int
    of: int
    """So many processes tell."""
    answered: bool
    """What was asked about is there; otherwise nobody will answer."""
    elements: bytes


class Writer:
    """A process's end of a client's pipe.

    Raises:
        OSError: the client is gone.
    """

    def __init__(self, address: str) -> None:
        self._pipe = os.open(address, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)

    def tell(self, number: int, of: int = 1, elements: bytes = b"", *, answered: bool = True) -> None:
        """Tell the client.

        Raises:
            OSError: it is gone, or has asked more than it may.
        """
        os.write(self._pipe, _HEAD.pack(number, len(elements), of, answered) + elements)

    def close(self) -> None:
        os.close(self._pipe)


class Reader:
    """The client's end, with room for `most` notices if it can be had.

    Raises:
        OSError: the folder can have no pipe.
    """

    def __init__(self, folder: Path, most: int) -> None:
        path = folder / NAME
        os.mkfifo(path, 0o600)
        # For writing too: so it never ends, and `close` can be told to who reads.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # A user may have so much in pipes, and no more.
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, most * _WHOLE)
        self.most = min(most, fcntl.fcntl(self._pipe, fcntl.F_GETPIPE_SZ) // _WHOLE)
        """How many notices have room, whatever comes with them."""
        self._rest = b""
        self._was_soon = False
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)

    def read(self) -> list[Notice]:
        """Wait for notices."""
        data = self._rest + self._receive()
        notices: list[Notice] = []
        at = 0
        while len(data) - at >= _HEAD.size:
            number, size, of, answered = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + size
            if end > len(data):
                break
            notices.append(Notice(number, of, bool(answered), data[at + _HEAD.size : end]))
            at = end
        self._rest = data[at:]
        return notices

    def _receive(self) -> bytes:
        # To sleep and be woken takes longer than what is soon there; what takes long is not looked for again and again.
        began = time.perf_counter_ns()
        looks_until = began + _SOON if self._was_soon else began
        while True:
            try:
                data = os.read(self._pipe, _READ)
            except BlockingIOError:
                if time.perf_counter_ns() < looks_until:
                    os.sched_yield()
                else:
                    self._poll.poll()
            else:
                self._was_soon = time.perf_counter_ns() - began < _SOON
                return data

    def wake(self) -> None:
        """Have `read` return a notice with the number 0."""
        os.write(self._pipe, _HEAD.pack(0, 0, 1, False))

    def close(self) -> None:
        """No thread may be reading. May be called again."""
        pipe, self._pipe = self._pipe, -1
        if pipe >= 0:
            os.close(pipe)
