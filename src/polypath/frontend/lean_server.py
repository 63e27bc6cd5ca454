"""The lean server's socket: who connects, and how all ends. What is said there is in `http2`."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Final

from polypath.aio import TaskSet
from polypath.frontend.http2 import Connection
from polypath.frontend.http2_frames import Error
from polypath.frontend.http2_stream import Methods

log = logging.getLogger(__name__)

_BACKLOG: Final = 128


class LeanServer:
    """Serves `methods` over HTTP/2 on the event loop that `serve` is called on."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods
        self._connections: set[Connection] = set()
        self._tasks = TaskSet(lambda error: log.error("A connection failed.", exc_info=error))
        self._listener: asyncio.Server | None = None

    async def serve(self, path: Path) -> None:
        """Listen at `path`, and return.

        Raises:
            OSError: nobody can listen there.
        """
        self._listener = await asyncio.get_running_loop().create_unix_server(
            lambda: Connection(self._methods, self._tasks, self._connections), sock=bind(path), backlog=_BACKLOG
        )

    async def stop(self) -> None:
        """End all calls."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for connection in tuple(self._connections):
            connection.close(Error.NO_ERROR, "The cluster ends.")
        await self._tasks.cancel()
        for connection in tuple(self._connections):
            connection.abort()


def bind(path: Path) -> socket.socket:
    """A socket of that name, which a server that died may have left: the folder has one owner.

    Raises:
        OSError: it cannot be had.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if path.is_socket():
            path.unlink()
        listener.bind(str(path))
        path.chmod(0o600)  # Nobody can connect before `listen`.
    except OSError:
        listener.close()
        raise
    return listener
