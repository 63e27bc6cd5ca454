"""What this worker holds: values by id. Knows nothing of devices beyond their ids.

A value is the shards that stand on this worker, in either of two forms, made from each other
when needed and then kept: single shards by device, or one whole over the devices of a
program, which is what executing takes and gives. What failed is a `Failure` in its place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator
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

    def __init__(self, devices: tuple[DeviceId, ...], local: tuple[DeviceId, ...]) -> None:
        """`local` are those of this worker, in the same order."""
        self.devices = devices
        self.local = local

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
    execution: int = 0
    """Whose result the whole is, if not 0: all that one execution makes is there, or fails, at the same time."""

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
            WorkerFailure: it has none there, or it has failed.
        """
        try:
            shard = self.shards[device]
        except KeyError:
            raise WorkerFailure(
                Code.INVALID_ARGUMENT, f"The array has no shard on device {device}; it is elsewhere."
            ) from None
        if isinstance(shard, Pending) and shard.done:
            shard = self.shards[device] = shard.wait()
        return shard

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
        """Whether a shard is on its way still. None is where there is a whole."""
        return self.whole is None and any(
            isinstance(shard, Pending) and not shard.done for shard in self.shards.values()
        )

    def pieces(self) -> list[Shard | Pending]:
        """What its memory consists of: the whole, or the shards."""
        return [self.whole] if self.whole is not None else list(self.shards.values())


class Store:
    """Values by id."""

    __slots__ = ("_failures", "_values")

    def __init__(self) -> None:
        self._values: dict[ValueId, Value] = {}
        self._failures: dict[ValueId, Failure] = {}

    def __len__(self) -> int:
        return len(self._values) + len(self._failures)

    def __contains__(self, value: ValueId) -> bool:
        return value in self._values or value in self._failures

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
        held = self._values
        try:
            return [held[name] for name in values]
        except KeyError as error:
            name = error.args[0]
        if name in self._failures:
            raise FailedValue(self._failures[name])
        raise WorkerFailure(Code.NOT_FOUND, f"Value {name} is not on this worker.")

    def present(self, values: Collection[ValueId]) -> list[Value]:
        """Those of the values that are here.

        Raises:
            WorkerFailure: one failed, or was deleted.
        """
        held = self._values
        found = [held[name] for name in values if name in held]
        if self._failures and len(found) < len(values):
            for name in values:
                if name in self._failures:
                    raise FailedValue(self._failures[name])
        return found

    def has_wholes(self, values: Collection[ValueId]) -> bool:
        """Whether these are here as what a program gives, and no one is on its way or has failed."""
        held = self._values
        return all((value := held.get(name)) is not None and value.whole is not None for name in values)

    def set(self, value: ValueId, what: Value) -> None:
        """A new value, under an id that was never used."""
        self._values[value] = what

    def extend(self, value: ValueId, shards: dict[DeviceId, Shard | Pending]) -> None:
        """Shards of a value that comes in parts. A value of which a part failed stays a failure."""
        if value in self._failures:
            return
        held = self._values.get(value)
        if held is None:
            self._values[value] = Value(shards)
        else:
            held.shards.update(shards)

    def add(self, values: Iterable[tuple[ValueId, Value]]) -> None:
        """New values, as by `set`."""
        self._values.update(values)

    def fail(self, values: Iterable[ValueId], failure: Failure) -> None:
        for value in values:
            self._values.pop(value, None)
            self._failures[value] = failure

    def mark_deleted(self, value: ValueId) -> None:
        """Its buffers are gone; its name stays until it is forgotten."""
        if value in self._values:
            self.fail((value,), DELETED)

    def forget(self, values: Iterable[ValueId]) -> None:
        for value in values:
            if self._values.pop(value, None) is None:
                self._failures.pop(value, None)

    def items(self) -> Iterator[tuple[ValueId, Value | Failure]]:
        """All there is, as of now."""
        return iter([*self._values.items(), *self._failures.items()])
