"""Arrays that are handed to clients of this machine themselves, on links that do not pass through the head."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from polypath.messages import Export, ExportTogether, Part
from polypath.types import Code, DeviceId, Failure
from polypath.worker.failures import WorkerFailure, failure_of
from polypath.worker.host import OPAQUE, numpy_dtype
from polypath.worker.links import Link, Links
from polypath.worker.store import Shard, Store, Value
from polypath.worker.transfers import Held, Transfers
from polypath.worker.waits import Pending, Waits

_THREADS: Final = 128
"""Arrays that may wait for a client, or for a program of a lane, at the same time."""
_DONE: Final = b""
"""A shard that is there and has no elements."""


class Exports:
    """The handlers of `Export` and `ExportTogether`."""

    def __init__(self, transfers: Transfers, store: Store, waits: Waits, links: Links, local: set[DeviceId]) -> None:
        self._transfers = transfers
        self._store = store
        self._waits = waits
        self._local = local
        self._links = links
        self._threads = ThreadPoolExecutor(_THREADS, "export")

    def export(self, command: Export) -> None:
        def shards() -> dict[int, Shard | Pending]:
            value = self._store.get(command.value)
            return {device: value.peek(device) for device in mine}

        mine = [device for device, _ in command.boxes if device in self._local]
        self._start(command, mine[0], shards, self._send)

    def export_together(self, command: ExportTogether) -> None:
        def shards() -> dict[int, Shard | Pending]:
            values = self._store.get_all([command.parts[place].value for place in mine])
            return {place: value.peek(command.parts[place].device) for place, value in zip(mine, values, strict=True)}

        mine = [place for place, part in enumerate(command.parts) if part.device in self._local]
        self._start(command, command.parts[mine[0]].device, shards, self._send_together)

    def _start(
        self,
        command: Export | ExportTogether,
        device: DeviceId,
        find: Callable[[], dict[int, Shard | Pending]],
        hand_over: Callable[[Any, Link, Held], None],
    ) -> None:
        """Have a thread hand over the shards that `find` gives, once they are computed; `device` has the end."""
        end = Pending(self._waits)
        self._store.set(command.status, Value(dict[DeviceId, Shard | Pending]({device: end})))
        send = partial(self._finish, command, end, hand_over)
        try:
            shards = find()
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

    def _finish(
        self,
        command: Export | ExportTogether,
        end: Pending,
        hand_over: Callable[[Any, Link, Held], None],
        held: Held,
    ) -> None:
        try:
            hand_over(command, self._links.get(command.address), held)
        except Exception as error:
            end.resolve(failure_of(error))
        else:
            end.resolve(_DONE)

    def _send(self, command: Export, link: Link, held: Held) -> None:
        for device, start in command.boxes:
            if device in held:
                link.send(command.number, start, self._elements(held[device]))

    def _send_together(self, command: ExportTogether, link: Link, held: Held) -> None:
        parts, first = command.parts, min(held)
        indices = np.array([parts[place].index for place in sorted(held)], np.uint32)
        link.send(command.number, (first * indices.itemsize,), indices.view(np.uint8))
        start = len(parts) * indices.itemsize + sum(map(_bytes, parts[:first]))
        data = b"".join([self._elements(held[place]).tobytes() for place in sorted(held)])
        link.send(command.number, (start,), np.frombuffer(data, np.uint8))

    def _elements(self, shard: Shard | Failure) -> npt.NDArray[Any]:
        if isinstance(shard, bytes):
            raise WorkerFailure(Code.UNIMPLEMENTED, f"Arrays of type {OPAQUE[0]} are not handed over by workers.")
        return self._transfers.fetch(shard)


def _bytes(part: Part) -> int:
    return numpy_dtype(part.dtype).itemsize * part.size


def _wait(shards: dict[int, Shard | Pending]) -> Held:
    held: Held = {}
    for key, shard in shards.items():
        try:
            held[key] = shard.wait() if isinstance(shard, Pending) else shard
        except WorkerFailure as error:
            held[key] = error.failure
    return held
