"""What the server needs of devices. Implementations: `pjrt` (real ones) and `null` (simulated).

An executor holds no values: it makes shards and takes them back. None of its operations waits
for a device, except those that say so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import msgspec
import numpy.typing as npt

from polypath.messages import Callbacks
from polypath.types import Device, DeviceId, Platform, ProgramInfo, ProgramKind
from polypath.worker.callbacks import HostCallbacks
from polypath.worker.failures import DELETED, FailedValue
from polypath.worker.store import Place, Shard, ShardType, Value


class Program(ABC):
    """A program, loaded on this worker's share of its devices."""

    __slots__ = ()

    kind: ProgramKind = "xla"
    calls_back: bool = False
    """Whether running it may wait for the client's process."""
    compiled: bool = False
    """Whether a compiler ran for it; False out of the cache, and for what needs none."""
    place: Place
    info: ProgramInfo
    parameters: tuple[ShardType, ...]
    """What one device takes."""

    def local_of(self, output: int) -> tuple[DeviceId, ...]:
        """This worker's devices on which a result is: for most programs all that are the program's."""
        return self.place.local

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Let go of what it holds; it is not run any more."""


class Source(msgspec.Struct, frozen=True, array_like=True):
    """What a program is compiled from."""

    program: bytes
    options: bytes
    devices: tuple[DeviceId, ...]
    kind: ProgramKind = "xla"
    callbacks: Callbacks | None = None


class Launched(msgspec.Struct, eq=False, gc=False):
    """A program that was started."""

    outs: list[Value]
    end: Any
    """Something to wait for, as for a shard; None where nobody asked."""


class Runner(ABC):
    """What compiles and runs programs of one kind."""

    @abstractmethod
    def compile(self, source: Source) -> Program:
        """Compile and load. Called from any thread; takes its time."""

    @abstractmethod
    def execute(self, program: Program, args: list[Value], kept: tuple[int, ...], launch: int, end: bool) -> Launched:
        """Start the program. Waits for pending arguments and where too much is in flight.

        Nothing was started if it raises. `end` asks for something to wait for.
        """


class Executor(Runner):
    """The devices of one worker, and what runs XLA's programs on them."""

    python: Runner | None = None
    """What runs Python beside the devices, where there is such."""

    callbacks: HostCallbacks
    """What programs call back by; whoever has the way to the clients sets it."""

    platform: Platform
    devices: tuple[Device, ...]

    # --- Shards

    @abstractmethod
    def put(
        self,
        array: npt.NDArray[Any],
        device: DeviceId,
        memory_kind: str,
        layout: tuple[int, ...] | None,
    ) -> Shard:
        """A shard of `array`, which nobody changes afterwards.

        `layout` is minor to major, None for the default.
        """

    @abstractmethod
    def fetch(self, shard: Shard | npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The elements of a shard, or of what `hold` gave; waits until they are computed. Strides may be any."""

    @abstractmethod
    def copy(self, shard: Shard, device: DeviceId, memory_kind: str) -> Shard:
        """A copy on another device (or the same), that lives on its own."""

    def copies(self, source: DeviceId, device: DeviceId) -> bool:
        """Whether `copy` can be from one of these devices to the other: not between an accelerator and a CPU."""
        return True

    @abstractmethod
    def hold(self, shard: Shard) -> Shard | npt.NDArray[Any]:
        """The same elements for `fetch`, safe from a later donation or deletion of the original."""

    @abstractmethod
    def can_hold(self, shard: Shard) -> bool:
        """Whether what `hold` gives can be had while programs that were started wait for another host."""

    @abstractmethod
    def shard_type(self, shard: Shard) -> ShardType: ...

    @abstractmethod
    def is_ready(self, value: Shard) -> bool:
        """Whether waiting for a shard (or a whole) would return at once."""

    @abstractmethod
    def wait(self, value: Shard) -> None:
        """Wait until a shard (or a whole) is computed; raises what went wrong."""

    def wait_all(self, values: list[Shard]) -> None:
        """`wait` for all of these."""
        for value in values:
            self.wait(value)

    @abstractmethod
    def delete(self, value: Shard) -> None:
        """Free the memory of a shard (or a whole) now."""

    @abstractmethod
    def is_deleted(self, value: Shard) -> bool:
        """Whether the memory of a shard (or a whole) is gone: deleted, or donated."""

    def any_deleted(self, values: list[Shard]) -> bool:
        """Whether one of these is deleted."""
        return any(map(self.is_deleted, values))

    @abstractmethod
    def memory_kind(self, shard: Shard) -> str: ...

    @abstractmethod
    def address(self, shard: Shard) -> int:
        """Where a shard is in its device's memory; waits until it is there."""

    # --- Programs

    @abstractmethod
    def cost_analysis(self, program: Program) -> dict[str, float]: ...

    @abstractmethod
    def text(self, program: Program) -> str:
        """The optimized HLO."""

    @abstractmethod
    def memory_stats(self, device: DeviceId) -> dict[str, int] | None:
        """What the platform counts of a device's memory; None where it counts nothing."""

    @abstractmethod
    def default_layout(self, dtype: str, shape: tuple[int, ...], device: DeviceId, memory_kind: str) -> bytes:
        """A serialized `LayoutProto`."""


def wholes_of(args: list[Value], program: Program, executor: Executor) -> list[Any]:
    """The arguments as wholes over the program's place; none of them is deleted.

    Raises:
        WorkerFailure: one is deleted, or a shard of it is missing or failed.
        ValueError: they are not what the program takes.
    """
    place, parameters = program.place, program.parameters
    if len(args) != len(parameters):
        raise ValueError(f"The program takes {len(parameters)} arguments and got {len(args)}.")
    # Mostly they are what programs over the same devices gave, and all of this is quickly seen.
    wholes = [value.whole for value in args if value.place is place]
    if len(wholes) < len(args) or tuple([value.shard_type for value in args]) != parameters:
        wholes = [
            whole_of(value, place, wanted, executor, index)
            for index, (value, wanted) in enumerate(zip(args, parameters, strict=True))
        ]
    if executor.any_deleted(wholes):
        raise FailedValue(DELETED)
    return wholes


def whole_of(value: Value, place: Place, wanted: ShardType, executor: Executor, index: int) -> Any:
    """The argument as one whole over `place`, kept in the value for the next time.

    Raises:
        WorkerFailure: a shard is missing or failed.
        ValueError: its type is not what the program takes.
    """
    if value.place is not place:
        shards = [value.shard(device) for device in place.local]
        for shard in shards:
            if isinstance(shard, bytes):
                raise ValueError(f"Argument {index} is of a type that programs cannot take.")
            if executor.is_deleted(shard):
                raise FailedValue(DELETED)
            found = executor.shard_type(shard)
            if found != wanted:
                raise ValueError(mismatch(index, found, wanted))
        value.whole = place.join(shards, wanted)
        value.place = place
        value.shard_type = wanted
        value.execution = 0
    elif value.shard_type != wanted:
        raise ValueError(mismatch(index, value.shard_type, wanted))
    return value.whole


def mismatch(index: int, found: ShardType | None, wanted: ShardType) -> str:
    def show(kind: ShardType | None) -> str:
        return "nothing" if kind is None else f"{kind[0]}[{','.join(map(str, kind[1]))}]"

    return f"Argument {index} has shards of {show(found)} but the program takes {show(wanted)}."
