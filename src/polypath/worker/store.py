"""What this worker holds: values by id. Knows nothing of devices beyond their ids.

A value is the shards that stand on this worker, in either of two forms, made from each other
when needed and then kept: single shards by device, or one whole over the devices of a
program, which is what executing takes and gives. What failed is a `Failure` in its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, final

import msgspec

from polypath.types import Code, DeviceId, Failure, ValueId
from polypath.worker.failures import DELETED, FailedValue, WorkerFailure
from polypath.worker.waits import Pending

Shard = Any
"""One device's part: the executor's own object, or `bytes` of a type no device knows."""
ShardType = tuple[str, tuple[int, ...]]
"""The dtype's name and the shape of one shard."""


class Place(ABC):
    """The devices of a program, in its order, and how a whole over them falls into shards."""

    devices: tuple[DeviceId, ...]
    local: tuple[DeviceId, ...]
    """Those of this worker, in the same order."""

    @abstractmethod
    def split(self, whole: Any) -> list[Shard]:
        """The shards, in the order of `local`, which go on sharing the whole's memory."""

    @abstractmethod
    def join(self, shards: list[Shard], shard_type: ShardType) -> Any:
        """The whole that these shards are."""


@final
class Value(msgspec.Struct, eq=False, gc=False):
    """The shards of one array on this worker. Nothing that it holds leads back to it: the collector need not look."""

    _shards: dict[DeviceId, Shard | Pending] | None = None
    whole: Any = None
    place: Place | None = None
    shard_type: ShardType | None = None
    """Of the whole; None until there is one."""

    @property
    def shards(self) -> dict[DeviceId, Shard | Pending]:
        """The shards by device; some may be pending."""
        if self._shards is None:
            assert self.place is not None
            self._shards = dict(zip(self.place.local, self.place.split(self.whole), strict=True))
        return self._shards

    def peek(self, device: DeviceId) -> Shard | Pending:
        """The shard on `device`, or what will be it.

        Raises:
            WorkerFailure: it has none there.
        """
        try:
            return self.shards[device]
        except KeyError:
            raise WorkerFailure(
                Code.INVALID_ARGUMENT, f"The array has no shard on device {device}; it is elsewhere."
            ) from None

    def shard(self, device: DeviceId) -> Shard:
        """The shard on `device`; waits if it is pending.

        Raises:
            WorkerFailure: it has none there, or it failed.
        """
        shard = self.peek(device)
        if isinstance(shard, Pending):
            shard = self.shards[device] = shard.wait()
        return shard

    def is_pending(self) -> bool:
        """Whether a shard is on its way still."""
        return self._shards is not None and any(
            isinstance(shard, Pending) and not shard.done for shard in self._shards.values()
        )

    def pieces(self) -> list[Shard | Pending]:
        """What its memory consists of: the whole, or the shards."""
        return [self.whole] if self.whole is not None else list(self.shards.values())


class Store:
    """Values by id."""

    __slots__ = ("_values",)

    def __init__(self) -> None:
        self._values: dict[ValueId, Value | Failure] = {}

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, value: ValueId) -> bool:
        return value in self._values

    def get(self, value: ValueId) -> Value:
        """The value.

        Raises:
            WorkerFailure: it failed, was deleted, or was never made here.
        """
        return self.get_all((value,))[0]

    def get_all(self, values: Iterable[ValueId]) -> list[Value]:
        """These values.

        Raises:
            WorkerFailure: one failed, was deleted, or was never made here.
        """
        found: list[Value] = []
        for name in values:
            value = self._values.get(name)
            if value is None:
                raise WorkerFailure(Code.NOT_FOUND, f"Value {name} is not on this worker.")
            if isinstance(value, Failure):
                raise FailedValue(value)
            found.append(value)
        return found

    def present(self, values: Iterable[ValueId]) -> list[Value]:
        """Those of the values that are here.

        Raises:
            WorkerFailure: one failed, or was deleted.
        """
        found: list[Value] = []
        for name in values:
            value = self._values.get(name)
            if isinstance(value, Failure):
                raise FailedValue(value)
            if value is not None:
                found.append(value)
        return found

    def set(self, value: ValueId, what: Value | Failure) -> None:
        self._values[value] = what

    def add(self, values: Iterable[tuple[ValueId, Value]]) -> None:
        self._values.update(values)

    def fail(self, values: Iterable[ValueId], failure: Failure) -> None:
        for value in values:
            self._values[value] = failure

    def mark_deleted(self, value: ValueId) -> None:
        """Its buffers are gone; its name stays until it is forgotten."""
        if isinstance(self._values.get(value), Value):
            self._values[value] = DELETED

    def forget(self, values: Iterable[ValueId]) -> None:
        for value in values:
            self._values.pop(value, None)

    def items(self) -> Iterator[tuple[ValueId, Value | Failure]]:
        """All there is, as of now."""
        return iter(list(self._values.items()))
