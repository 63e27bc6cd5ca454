"""This process's connections to unix sockets, also those that libraries in C++ have, which tell nobody of them."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Collection, Iterator
from pathlib import Path


def connected_to(paths: Collection[str]) -> Iterator[tuple[int, socket.socket]]:
    """Those whose other end has one of these paths: the descriptor, and a copy of it until the next is asked for."""
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # The folder's own descriptor is closed by now, say.
            number = int(entry.name)
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                if connection.family == socket.AF_UNIX and connection.getpeername() in paths:
                    yield number, connection


def end(path: str) -> None:
    """End all connections to a path: whoever waits on one hears of it at once."""
    for _, connection in connected_to({path}):
        with contextlib.suppress(OSError):  # It has ended by itself.
            connection.shutdown(socket.SHUT_RDWR)
