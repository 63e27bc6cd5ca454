"""Compiles and runs plugin programs: each kind of request has its class, found by the struct."""

from __future__ import annotations

from typing import final

from polypath import plugins
from polypath.types import HostId
from polypath.worker.executors.base import Executor, Launched, Program, Runner, Source
from polypath.worker.plugins.base import Plugin
from polypath.worker.plugins.persistence import Reader, Storage, Writer
from polypath.worker.plugins.profiling import Profiler, Tracer
from polypath.worker.store import Value


@final
class Plugins(Runner):
    """One worker's."""

    def __init__(self, host: HostId, executor: Executor) -> None:
        self._executor = executor
        self._local = frozenset(device.id for device in executor.devices)
        self._storage = Storage(host)
        self._profiler = Profiler(host)

    def compile(self, source: Source) -> Program:
        local = tuple(device for device in source.devices if device in self._local)
        match plugins.decode(source.program):
            case plugins.Read(arrays=arrays):
                return Reader(arrays, local, self._executor, self._storage)
            case plugins.Write(arrays=arrays):
                return Writer(arrays, local, self._executor, self._storage)
            case plugins.Profile() as asked:
                return Tracer(asked, source.devices, local, self._profiler)

    def execute(self, program: Program, args: list[Value], kept: tuple[int, ...], launch: int, end: bool) -> Launched:
        assert isinstance(program, Plugin)
        return program.run(args)
