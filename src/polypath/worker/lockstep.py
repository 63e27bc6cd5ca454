"""What simulated hosts that share a process do alike is done once for all of them.

A program over simulated devices gives each of its hosts the same: results of its types, without elements. So where
its hosts' arguments are alike, what it gives is written down here once and not in the books of each host, and so is
its end; and who waits for it has one answer. A host's own books get what they lack before they are asked for it,
so nobody sees from outside which hosts are in step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Final

import msgspec

from polypath import messages as m
from polypath.types import DeviceId, ExecutableId, HostId, ValueId
from polypath.worker.deliveries import values_of
from polypath.worker.executors.null import NullProgram, result
from polypath.worker.failures import DELETED
from polypath.worker.server import Worker
from polypath.worker.store import ShardType

_Hosts = tuple[HostId, ...]
"""Whom a command is for. Only the same tuple counts as the same hosts."""

_OF_NO_VALUES: Final = (
    m.Put, m.Compile, m.CostAnalysis, m.ProgramText, m.DefaultLayout, m.MemoryStats, m.Return, m.Peers, m.Unsent,
    m.Take,
)  # fmt: skip


class _Program(msgspec.Struct, frozen=True, eq=False):
    """One that these hosts have run alike."""

    hosts: _Hosts
    workers: tuple[Worker, ...]
    programs: tuple[NullProgram, ...]
    """As each worker has it."""
    devices: tuple[DeviceId, ...]
    """The same tuple for the same devices."""

    @property
    def any(self) -> NullProgram:
        return self.programs[0]

    def has_run(self, command: m.Execute) -> bool:
        """Whether it has just run on all hosts, as its results show, and nothing else is still to run there."""
        seen = bool(command.outs)
        return seen and all(not worker.busy and worker.store.has_wholes(command.outs) for worker in self.workers)


class _Value(msgspec.Struct, eq=False, gc=False):
    """One that these hosts have alike."""

    hosts: _Hosts
    devices: tuple[DeviceId, ...]
    """On each of which it has a shard."""
    kind: ShardType
    maker: _Program | None
    """What gave it; None where it is in the hosts' own books."""
    deleted: bool = False
    """Only where it is not."""


class Lockstep:
    """The hosts of one process, as far as they are in step."""

    def __init__(
        self,
        workers: Mapping[HostId, Worker],
        apply_to_each: Callable[[_Hosts, m.AnyCommand], None],
        answer: Callable[[_Hosts, m.Ready], None],
    ) -> None:
        """`answer` takes what each of these hosts answers."""
        self._workers = workers
        self._apply_to_each = apply_to_each
        self._answer = answer
        self._programs: dict[ExecutableId, _Program] = {}
        self._values: dict[ValueId, _Value] = {}
        self._devices: dict[tuple[DeviceId, ...], tuple[DeviceId, ...]] = {}

    def apply(self, hosts: _Hosts, command: m.AnyCommand) -> None:
        """Apply a command, once or to each of these hosts."""
        if isinstance(command, m.Execute):
            if not self._execute(hosts, command):
                written = self._settle(command.args)
                self._apply_to_each(hosts, command)
                self._learn(hosts, command, written)
            return
        if isinstance(command, m.Await):
            if command.values and all(map(self._is_here, command.values, repeat(hosts))):
                self._answer(hosts, m.Ready(hosts, command.request, None))
                return
            self._settle(command.values)
        elif isinstance(command, m.Forget):
            if self._forget(hosts, command.values):
                return
        elif isinstance(command, m.Deliver):
            self._settle(tuple(values_of(command.what)))
        elif isinstance(command, m.Fetch):
            self._settle((command.value,))
        elif isinstance(command, m.Unload):
            self._programs.pop(command.executable, None)
        elif not isinstance(command, _OF_NO_VALUES):
            self.end()
        self._apply_to_each(hosts, command)

    def end(self) -> None:
        """From here on the hosts' own books have everything."""
        self._settle(tuple(self._values))
        self._values.clear()
        self._programs.clear()
        self._devices.clear()

    def _learn(self, hosts: _Hosts, command: m.Execute, written: set[ValueId]) -> None:
        """Each of these hosts was told to run a program: if all did, they are in step."""
        program = self._find(hosts, command.executable)
        donated = set[ValueId]() if program is None else program.any.donates(command)
        for name in donated:
            self._values.pop(name, None)
        if program is None or donated - written:
            # What is in the hosts' own books may share its memory with what ended there.
            self._values = {name: value for name, value in self._values.items() if value.maker is not None}
        if program is None or not program.has_run(command):
            return
        self._programs[command.executable] = program
        if not donated - written:
            for name, kind in zip(command.args, program.any.parameters, strict=True):
                if name not in donated:
                    self._values[name] = _Value(hosts, program.devices, kind, None)
        self._make(program, command.outs)
        for worker in program.workers:
            worker.store.forget(command.outs)

    def _find(self, hosts: _Hosts, executable: ExecutableId) -> _Program | None:
        """The program, if it is alike for these hosts."""
        known = self._programs.get(executable)
        if known is not None and known.hosts is hosts:
            return known
        workers = [self._workers[host] for host in hosts if host in self._workers]
        programs = [worker.programs.get(executable) for worker in workers]
        alike = [each for each in programs if isinstance(each, NullProgram) and each.is_like(programs[0])]
        if not alike or len(alike) < len(hosts):
            return None
        devices = alike[0].place.devices
        return _Program(hosts, tuple(workers), tuple(alike), self._devices.setdefault(devices, devices))

    def _execute(self, hosts: _Hosts, command: m.Execute) -> bool:
        program = self._programs.get(command.executable)
        if program is None or program.hosts is not hosts or command.status:
            return False
        parameters = program.any.parameters
        if len(command.args) != len(parameters) or len(command.outs) != len(program.any.results):
            return False
        donated = program.any.donates(command)
        for name, kind in zip(command.args, parameters, strict=True):
            if not self._is_here(name, hosts):
                return False
            value = self._values[name]
            if value.devices is not program.devices or value.kind != kind or (value.maker is None and name in donated):
                return False
        for name in donated:
            self._values[name].deleted = True
        self._make(program, command.outs)
        return True

    def _make(self, program: _Program, outs: tuple[ValueId, ...]) -> None:
        for name, kind in zip(outs, program.any.results, strict=True):
            self._values[name] = _Value(program.hosts, program.devices, kind, program)

    def _is_here(self, name: ValueId, hosts: _Hosts) -> bool:
        value = self._values.get(name)
        return value is not None and value.hosts is hosts and not value.deleted

    def _forget(self, hosts: _Hosts, names: tuple[ValueId, ...]) -> bool:
        """Forget these; whether none of them is in the hosts' own books."""
        done = True
        for name in names:
            value = self._values.get(name)
            if value is not None and value.hosts is not hosts:
                self._settle((name,))  # They may not be all that have it.
            done &= value is not None and value.maker is not None
            self._values.pop(name, None)
        return done

    def _settle(self, names: tuple[ValueId, ...]) -> set[ValueId]:
        """Write these into the hosts' own books; those that were not there."""
        written = set[ValueId]()
        for name in names:
            value = self._values.get(name)
            if value is None or value.maker is None:
                continue
            for worker, program in zip(value.maker.workers, value.maker.programs, strict=True):
                if value.deleted:
                    worker.store.fail((name,), DELETED)
                else:
                    worker.store.set(name, result(value.kind, program.place))
            value.maker = None
            written.add(name)
            if value.deleted:
                del self._values[name]
        return written
