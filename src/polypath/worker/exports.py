"""Arrays that are handed to clients of this machine themselves, on links that do not pass through the head."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import numpy.typing as npt

from polypath.messages import Export
from polypath.types import Code, DeviceId, Failure
from polypath.worker.failures import WorkerFailure, failure_of
from polypath.worker.host import OPAQUE
from polypath.worker.links import Links
from polypath.worker.store import Shard, Store, Value
from polypath.worker.transfers import Held, Transfers
from polypath.worker.waits import Pending, Waits

_THREADS: Final = 128
"""Arrays that may wait for a client, or for a program of a lane, at the same time."""
_DONE: Final = b""
"""A shard that is there and has no elements."""


class Exports:
    """The handler of `Export`."""

    def __init__(self, transfers: Transfers, store: Store, waits: Waits, links: Links, local: set[DeviceId]) -> None:
        self._transfers = transfers
        self._store = store
        self._waits = waits
        self._local = local
        self._links = links
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
        self._links.use(command.executable, command.address)
        if any(isinstance(shard, Pending) for shard in shards.values()):
            self._threads.submit(lambda: send(_wait(shards)))
        else:
            # On a thread of ours: a client that stands still must not hold up what moves between devices.
            self._transfers.read(shards, partial(self._begin, send))

    def _begin(self, send: Callable[[Held], None], held: Held) -> None:
        self._threads.submit(send, held)

    # --- On a thread

    def _send(self, command: Export, end: Pending, held: Held) -> None:
        try:
            link = self._links.get(command.address)
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
        return self._transfers.fetch(shard)


def _wait(shards: dict[DeviceId, Shard | Pending]) -> Held:
    held: Held = {}
    for device, shard in shards.items():
        try:
            held[device] = shard.wait() if isinstance(shard, Pending) else shard
        except WorkerFailure as error:
            held[device] = error.failure
    return held
