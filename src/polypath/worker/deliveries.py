"""What this worker sends clients over their links: that arrays are computed, elements of small ones, whole arrays.

The apply loop looks whether what was asked for is there, and tells at once if so. Threads wait for the rest, and send
arrays: a client that stands still holds up neither the loop nor what moves between devices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from polypath.link.worker import ClientLinks
from polypath.messages import (
    MOST_ELEMENTS,
    ArraysTogether,
    Computed,
    Deliver,
    Delivery,
    Part,
    ShardAddress,
    SmallShard,
    WholeArray,
)
from polypath.types import Code, Failure, ValueId
from polypath.worker.execution import Fail
from polypath.worker.executors.base import Executor
from polypath.worker.failures import DELETED, FailedValue, WorkerFailure, failure_of
from polypath.worker.host import OPAQUE, numpy_dtype
from polypath.worker.readiness import Readiness
from polypath.worker.store import Shard, Store
from polypath.worker.transfers import Held, Transfers
from polypath.worker.waits import Pending

_THREADS: Final = 128
"""Of those that wait for devices, and of those that send arrays."""

_Answer = bytes | Callable[[], bytes]
"""What comes with the end of a request, or what waits for that."""


class Deliveries:
    """The handler of `Deliver`."""

    def __init__(
        self,
        executor: Executor,
        store: Store,
        readiness: Readiness,
        transfers: Transfers,
        links: ClientLinks,
        report_failed: Fail,
    ) -> None:
        self._executor = executor
        self._store = store
        self._readiness = readiness
        self._transfers = transfers
        self._links = links
        self._report_failed = report_failed
        self._local = {device.id for device in executor.devices}
        self._waiters = ThreadPoolExecutor(_THREADS, "await")
        self._senders = ThreadPoolExecutor(_THREADS, "deliver")

    def deliver(self, command: Deliver) -> None:
        """Send what is wanted now, or have a thread send it."""
        try:
            match command.what:
                case Computed(values=values):
                    answer = self._computed(values, command.of)
                case SmallShard(value=value, device=device):
                    answer = self._elements(self._store.get(value).peek(device))
                case ShardAddress(value=value, device=device):
                    answer = partial(self._address, self._store.get(value).peek(device))
                case WholeArray() | ArraysTogether():
                    self._send_later(command)
                    return
        except Exception as error:
            self._fail(command, error)
            return
        if isinstance(answer, bytes):
            self._end(command, answer)
        else:
            self._waiters.submit(self._end_later, command, answer)

    # --- The end of a request, from any thread

    def _end_later(self, command: Deliver, answer: Callable[[], bytes]) -> None:
        try:
            self._end(command, answer())
        except Exception as error:
            self._fail(command, error)

    def _end(self, command: Deliver, answer: bytes = b"") -> None:
        if len(answer) > MOST_ELEMENTS:
            self._links.failed(command.session, command.number)
        else:
            self._links.done(command.session, command.number, command.of, answer)

    def _fail(self, command: Deliver, error: Exception) -> None:
        """The client asks by the stock protocol, and hears of it there."""
        failure = failure_of(error)
        if failure.code is Code.ABORTED:
            self._report_failed((), failure, True)
        self._links.failed(command.session, command.number)

    # --- What is small

    def _computed(self, values: tuple[ValueId, ...], of: int) -> _Answer:
        if of == 1:
            self._store.get_all(values)  # The head may not know yet that one is lost.
        wait = self._readiness.look(values)
        return b"" if wait is None else partial(_after, wait)

    def _elements(self, shard: Shard | Pending) -> _Answer:
        if isinstance(shard, bytes):
            return shard
        if not isinstance(shard, Pending):
            if self._executor.is_deleted(shard):
                raise FailedValue(DELETED)
            if self._executor.is_ready(shard):
                return self._executor.fetch(shard).tobytes()
            shard = self._executor.hold(shard)
        return lambda: self._executor.fetch(shard.wait() if isinstance(shard, Pending) else shard).tobytes()

    def _address(self, shard: Shard | Pending) -> bytes:
        here = shard.wait() if isinstance(shard, Pending) else shard
        if isinstance(here, bytes):
            raise WorkerFailure(Code.UNIMPLEMENTED, f"Arrays of type {OPAQUE[0]} have no address.")
        return self._executor.address(here).to_bytes(8, "little")

    # --- Arrays

    def _send_later(self, command: Deliver) -> None:
        """Have a thread send shards as they are now, once they are computed."""
        shards = self._shards(command.what)
        if any(isinstance(shard, Pending) for shard in shards.values()):
            self._senders.submit(self._send, command, lambda: _wait(shards))
        else:
            # On a thread of ours, not the one that holds them, which moves things between devices.
            self._transfers.read(shards, lambda held: _submit(self._senders, self._send, command, held))

    def _shards(self, what: Delivery) -> dict[int, Shard | Pending]:
        """Those of this worker, by device, or by their place among those that go together."""
        if isinstance(what, WholeArray):
            value = self._store.get(what.value)
            return {device: value.peek(device) for device, _ in what.boxes if device in self._local}
        assert isinstance(what, ArraysTogether)
        mine = {place: part for place, part in enumerate(what.parts) if part.device in self._local}
        values = self._store.get_all([part.value for part in mine.values()])
        return {place: value.peek(part.device) for (place, part), value in zip(mine.items(), values, strict=True)}

    def _send(self, command: Deliver, held: Held | Callable[[], Held]) -> None:
        try:
            for start, array in self._pieces(command.what, held() if callable(held) else held):
                self._links.send(command.session, command.number, start, array)
            self._end(command)
        except Exception as error:
            self._fail(command, error)

    def _pieces(self, what: Delivery, held: Held) -> Iterable[tuple[tuple[int, ...], npt.NDArray[Any]]]:
        if isinstance(what, WholeArray):
            for device, start in what.boxes:
                if device in held:
                    yield start, self._fetch(held[device])
            return
        assert isinstance(what, ArraysTogether)
        parts, first = what.parts, min(held)
        indices = np.array([parts[place].index for place in sorted(held)], np.uint32)
        yield (first * indices.itemsize,), indices.view(np.uint8)
        data = b"".join([self._fetch(held[place]).tobytes() for place in sorted(held)])
        start = len(parts) * indices.itemsize + sum(map(_bytes, parts[:first]))
        yield (start,), np.frombuffer(data, np.uint8)

    def _fetch(self, shard: Shard | Failure) -> npt.NDArray[Any]:
        if isinstance(shard, bytes):
            raise WorkerFailure(Code.UNIMPLEMENTED, f"Arrays of type {OPAQUE[0]} are not sent by workers.")
        return self._transfers.fetch(shard)


def values_of(what: Delivery) -> Iterable[ValueId]:
    """The values that a delivery is about."""
    match what:
        case Computed(values=values):
            return values
        case SmallShard(value=value) | ShardAddress(value=value) | WholeArray(value=value):
            return (value,)
        case ArraysTogether(parts=parts):
            return [part.value for part in parts]


def _after(wait: Callable[[], None]) -> bytes:
    wait()
    return b""


def _submit(threads: ThreadPoolExecutor, work: Callable[..., None], *args: Any) -> None:
    threads.submit(work, *args)


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
