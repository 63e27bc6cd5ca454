"""Moves shards: copy, reshard, bitcast; within this worker and to and from others.

A copy between this worker's devices is left to the executor. All else goes over host memory
on a thread, and its result is pending until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from polypath.link.elements import slices
from polypath.messages import Bitcast, Copy, Piece, Reshard, Target
from polypath.types import Code, DeviceId, Failure, ValueId
from polypath.worker.executors.base import Executor
from polypath.worker.failures import FailedValue, WorkerFailure, failure_of
from polypath.worker.host import OPAQUE, numpy_dtype
from polypath.worker.lanes import Lanes
from polypath.worker.peers import Header, PeerPost, tag_of
from polypath.worker.store import Shard, Store, Value
from polypath.worker.waits import Countdown, Pending, Waits


class Transfers:
    """The handlers of the commands that move shards."""

    def __init__(self, executor: Executor, store: Store, post: PeerPost, waits: Waits, lanes: Lanes) -> None:
        self._executor = executor
        self._store = store
        self._post = post
        self._waits = waits
        self._lanes = lanes
        self._local = {device.id for device in executor.devices}
        self._pool = ThreadPoolExecutor(8, "move")

    def copy(self, command: Copy) -> None:
        sources = {source for source, _ in command.pairs if source in self._local}
        value = self._source(command.value, sources, ((source, to, 0) for source, to in command.pairs), command.out)
        shards: dict[DeviceId, Shard | Pending] = {}
        for source, to in command.pairs:
            tag = tag_of(command.out, to, 0)
            if source in self._local:
                assert value is not None
                shard = value.shard(source)
                if to not in self._local:
                    self.read({to: shard}, partial(self._send_whole, tag))
                elif isinstance(shard, bytes):
                    shards[to] = shard
                elif self._executor.copies(source, to):
                    shards[to] = self._executor.copy(shard, to, command.memory_kind)
                else:
                    pending = shards[to] = Pending(self._waits)
                    put = self._put_into(pending, to, command.memory_kind)
                    self.read({to: shard}, partial(self._over_host, put))
            elif to in self._local:
                pending = shards[to] = Pending(self._waits)
                self._post.expect(tag, source, self._receive_whole(pending, to, command.memory_kind))
        self._made(command.out, shards)
        if command.donate and value is not None:
            self._donate(command.value, value)

    def reshard(self, command: Reshard) -> None:
        sources = {piece.source for target in command.targets for piece in target.pieces} & self._local
        pieces = ((piece.source, t.device, i) for t in command.targets for i, piece in enumerate(t.pieces))
        value = self._source(command.value, sources, pieces, command.out)
        shards: dict[DeviceId, Shard | Pending] = {}
        boxes: list[tuple[Target, int, Piece, _Assembly | None]] = []
        for target in command.targets:
            assembly = None
            if target.device in self._local:
                pending = shards[target.device] = Pending(self._waits)
                put = self._put_into(pending, target.device, command.memory_kind)
                assembly = _Assembly(target, command.dtype, put)
            for index, piece in enumerate(target.pieces):
                if piece.source in self._local:
                    boxes.append((target, index, piece, assembly))
                elif assembly is not None:
                    tag = tag_of(command.out, target.device, index)
                    self._post.expect(tag, piece.source, assembly.receiver(piece))
        if boxes:
            assert value is not None
            self.read({s: value.shard(s) for s in sources}, partial(self._cut, command.out, boxes))
        self._made(command.out, shards)
        if command.donate and value is not None:
            self._donate(command.value, value)

    def bitcast(self, command: Bitcast) -> None:
        value = self._store.get(command.value)
        shards: dict[DeviceId, Shard | Pending] = {}
        shapes = command.shard_shapes
        for index, device in enumerate(command.devices):
            if device in self._local:
                shape = shapes[0] if len(shapes) == 1 else shapes[index]
                pending = shards[device] = Pending(self._waits)
                shard = value.shard(device)
                put = self._put_into(pending, device, self._executor.memory_kind(shard))
                self.read({device: shard}, partial(self._view, command.dtype, shape, put))
        self._store.set(command.out, Value(shards))
        if command.donate:
            self._donate(command.value, value)

    # --- In the apply loop

    def _made(self, out: ValueId, shards: dict[DeviceId, Shard | Pending]) -> None:
        """Nothing where only other workers have shards of it: they alone are told to forget it."""
        if shards:
            self._store.set(out, Value(shards))

    def _source(
        self,
        value: ValueId,
        sources: set[DeviceId],
        pieces: Iterable[tuple[DeviceId, DeviceId, int]],
        out: ValueId,
    ) -> Value | None:
        """The value to move from here, or None if nothing of it is here.

        If it failed, the workers that wait for its `pieces` (source, target, index) from here are told.
        """
        if not sources:
            return None
        try:
            found = self._store.get(value)
            for device in sources:
                found.shard(device)
        except WorkerFailure as error:
            for source, device, piece in pieces:
                if source in self._local and device not in self._local:
                    self._send(device, tag_of(out, device, piece), error.failure)
            raise
        return found

    def read(self, shards: dict[int, Shard], use: Callable[[Held], None]) -> None:
        """Have a thread of the pool `use` the shards as they are now, whatever comes later in the log."""
        if all(isinstance(shard, bytes) or self._executor.can_hold(shard) for shard in shards.values()):
            self._pool.submit(use, {device: self._hold(shard) for device, shard in shards.items()})
            return

        # In the lane, so that nothing that comes later donates them, or is started and waits for what waits for them.
        def hold() -> None:
            held = {device: self._hold_computed(shard) for device, shard in shards.items()}
            self._pool.submit(use, held)

        self._lanes["xla"].submit(hold)

    def _hold(self, shard: Shard) -> Shard | Failure:
        try:
            return shard if isinstance(shard, bytes) else self._executor.hold(shard)
        except Exception as error:
            return failure_of(error)

    def _hold_computed(self, shard: Shard) -> Shard | Failure:
        try:
            if not isinstance(shard, bytes):
                self._executor.wait(shard)
        except Exception as error:
            return failure_of(error)
        return self._hold(shard)

    def fetch(self, held: Shard | Failure) -> npt.NDArray[Any]:
        """What was held as an array; waits until it is computed.

        Raises:
            Exception: it failed, in whatever way.
        """
        if isinstance(held, Failure):
            raise FailedValue(held)
        return self._executor.fetch(held)

    def _donate(self, name: ValueId, value: Value) -> None:
        self._store.mark_deleted(name)
        self._lanes.after_all(partial(self._free, list(value.shards.values())))

    def _free(self, shards: list[Shard | Pending]) -> None:
        for shard in shards:
            if not isinstance(shard, bytes | Pending):
                self._executor.delete(shard)

    def _put_into(self, pending: Pending, device: DeviceId, memory_kind: str) -> _Put:
        def put(array: npt.NDArray[Any] | Failure) -> None:
            if isinstance(array, Failure):
                pending.resolve(array)
                return
            try:
                pending.resolve(self._executor.put(array, device, memory_kind, None))
            except Exception as error:
                pending.resolve(failure_of(error))

        return put

    # --- On a thread

    def _elements(self, held: Shard | Failure) -> npt.NDArray[Any] | Failure:
        """As `fetch`, but what went wrong is given back."""
        try:
            return self.fetch(held)
        except Exception as error:
            return failure_of(error)

    def _over_host(self, put: _Put, held: Held) -> None:
        (shard,) = held.values()
        put(self._elements(shard))

    def _send_whole(self, tag: str, held: Held) -> None:
        ((device, shard),) = held.items()
        if isinstance(shard, bytes):
            self._post.send(device, tag, Header(OPAQUE[0], ()), shard)
        else:
            self._send(device, tag, self._elements(shard))

    def _send(self, device: DeviceId, tag: str, array: npt.NDArray[Any] | Failure) -> None:
        if not isinstance(array, Failure):
            try:
                flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                self._post.send(device, tag, Header(str(array.dtype), array.shape), flat.data)
                return
            except Exception as error:
                array = failure_of(error)
        self._post.send(device, tag, Header("", (), array))

    def _receive_whole(self, pending: Pending, device: DeviceId, memory_kind: str) -> _Receive:
        put = self._put_into(pending, device, memory_kind)

        def receive(header: Header, data: bytes | memoryview) -> None:
            if header.failure is not None:
                pending.resolve(header.failure)
            elif header.dtype in OPAQUE:
                pending.resolve(bytes(data))
            else:
                put(np.frombuffer(data, numpy_dtype(header.dtype)).reshape(header.shape))

        return receive

    def _cut(self, out: ValueId, boxes: list[tuple[Target, int, Piece, _Assembly | None]], held: Held) -> None:
        arrays = {source: self._elements(shard) for source, shard in held.items()}
        for target, index, piece, assembly in boxes:
            array = arrays[piece.source]
            part = array if isinstance(array, Failure) else array[slices(piece.source_start, piece.shape)]
            if assembly is not None:
                assembly.add(piece, part)
            else:
                self._send(target.device, tag_of(out, target.device, index), part)

    def _view(self, dtype: str, shape: tuple[int, ...], put: _Put, held: Held) -> None:
        (shard,) = held.values()
        try:
            flat = np.ascontiguousarray(self.fetch(shard)).reshape(-1)
            result = flat.view(np.uint8).view(numpy_dtype(dtype)).reshape(shape)
        except ValueError as error:
            put(Failure(Code.INVALID_ARGUMENT, f"The array cannot be read as {dtype}{list(shape)} ({error})."))
        except Exception as error:
            put(failure_of(error))
        else:
            put(result)


Held = dict[int, Shard | Failure]
"""Shards that nothing can change any more; by the device they are on, or go to, or a number of their user's."""
_Put = Callable[[npt.NDArray[Any] | Failure], None]
_Receive = Callable[[Header, bytes | memoryview], None]


class _Assembly:
    """A shard that is put together from pieces, which come in any order and from any thread."""

    def __init__(self, target: Target, dtype: str, put: _Put) -> None:
        self._array: npt.NDArray[Any] = np.empty(target.shape, numpy_dtype(dtype))
        self._failure: Failure | None = None
        self._pieces = Countdown(len(target.pieces), lambda: put(self._failure or self._array))

    def add(self, piece: Piece, elements: npt.NDArray[Any] | Failure) -> None:
        if isinstance(elements, Failure):
            self._failure = elements
        else:
            self._array[slices(piece.target_start, piece.shape)] = elements
        self._pieces.one_came()

    def receiver(self, piece: Piece) -> _Receive:
        def receive(header: Header, data: bytes | memoryview) -> None:
            if header.failure is not None:
                self.add(piece, header.failure)
            else:
                self.add(piece, np.frombuffer(data, self._array.dtype).reshape(piece.shape))

        return receive
