"""What a program of the worker's own is."""

from __future__ import annotations

from abc import abstractmethod

from polypath.types import ArraySpec, DeviceId, ProgramInfo
from polypath.worker.executors.base import Launched, Program
from polypath.worker.store import Place, Shard, ShardType, Value


class _Place(Place):
    """A whole is the list of its shards."""

    def split(self, whole: list[Shard]) -> list[Shard]:
        return whole

    def join(self, shards: list[Shard], shard_type: ShardType) -> list[Shard]:
        return shards


class Plugin(Program):
    """A program that runs in the worker's own code, on its part of `devices`."""

    kind = "plugin"
    parameters = ()

    def __init__(
        self, name: str, devices: tuple[DeviceId, ...], local: tuple[DeviceId, ...], outputs: tuple[ArraySpec, ...]
    ) -> None:
        self.place = _Place(devices, local)
        self.info = ProgramInfo(
            name=name,
            devices=devices,
            outputs=outputs,
            output_memory_kinds=tuple(output.sharding.memory_kind for output in outputs),
        )

    def local_of(self, output: int) -> tuple[DeviceId, ...]:
        on = self.info.outputs[output].sharding.devices
        return tuple(device for device in self.place.local if device in on)

    @abstractmethod
    def run(self, args: list[Value]) -> Launched:
        """Do it. May wait."""
