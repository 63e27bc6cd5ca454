"""A client's end of its links to workers, with the head's real end between, on a loop of its own."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Awaitable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from polypath import messages as m
from polypath.frontend import HeadLinks
from polypath.link.client import Links, Request
from polypath.link.protocol import HostAddress
from polypath.transport.keys import BulkKeys

SESSION = "a-client"
PATIENCE = 60.0


class Client:
    """Of workers that have joined."""

    def __init__(self, keys: BulkKeys, workers: Iterable[m.Joined]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="polypath-", dir="/tmp")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._head = HeadLinks(lambda: keys, PATIENCE)
        path = Path(self._folder.name, "link")
        self._do(self._head.serve(path))
        for joined in workers:
            self._head.locate(HostAddress(joined.host, joined.link, tuple(device.id for device in joined.devices)))
        self.links = Links(f"unix:{path}", SESSION, lambda *_, **__: None)

    def _do(self, work: Awaitable[Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def ask(self, *devices: int, place: np.ndarray | None = None) -> Request:
        request = self.links.ask(self.links.hosts_of(devices), place)
        assert request is not None, f"there is no link to the host of {devices}"
        return request

    def close(self) -> None:
        self.links.close()
        self._do(self._head.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._folder.cleanup()
