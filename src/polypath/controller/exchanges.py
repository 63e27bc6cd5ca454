"""Arrays that workers and the client hand over to each other: no byte of them passes through the head.

For the client each is a program: one without results that it runs with an array to take, or with several small ones
that come together; or one without arguments, whose result is an array that it has. The number of the launch is its
name for the array. The end of the execution that takes is when the client has everything; the result of the other is
pending until the workers have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from polypath.controller import events
from polypath.controller.core import Core, refuse
from polypath.controller.notices import Notices
from polypath.controller.partition import Box, shard_boxes
from polypath.controller.state import MOST_HOSTS, Exchange, Executable, Future, Import, Value
from polypath.errors import ProtocolError
from polypath.messages import Export as ExportCommand
from polypath.messages import ExportTogether, Part
from polypath.messages import Import as ImportCommand
from polypath.types import ArraySpec, Code, DeviceId, HostId


class Exchanges:
    """The handlers of programs that export and import. Nothing of them is compiled."""

    def __init__(self, core: Core, notices: Notices) -> None:
        self._core = core
        self._notices = notices

    def compile_export(self, request: events.CompileExport) -> None:
        devices, _ = self._core.place(request.devices)
        self._core.load(request, "exchange", devices, Exchange(request.address))

    def compile_import(self, request: events.CompileImport) -> None:
        spec = request.spec
        devices, hosts = self._core.place(spec.sharding.devices)
        _check_hosts(hosts, "put")
        groups: dict[Box, list[DeviceId]] = {}
        for device, box in zip(devices, _boxes(spec), strict=True):
            groups.setdefault(box, []).append(device)
        shards = tuple((tuple(same), box.shape) for box, same in groups.items())
        self._core.load(request, "exchange", devices, Exchange(request.address, Import(spec, shards)))

    def run(self, request: events.Execute, executable: Executable, exchange: Exchange, status: events.Handle) -> None:
        """Have hosts send the array, or take it; `status` is the future of that."""
        if exchange.imports is None:
            self._export(request, executable, exchange, status)
        else:
            self._import(request, executable, exchange, exchange.imports, status)

    def _export(
        self, request: events.Execute, executable: Executable, exchange: Exchange, status: events.Handle
    ) -> None:
        core, session = self._core, self._core.session(request)
        if not request.args or not (request.fill_status or request.question):
            refuse(Code.INVALID_ARGUMENT, "A program that exports takes arrays, and its end must be asked for.")
        arrays = core.arrays(session, request.args)
        chosen = [_one_of_each(array.spec) for array in arrays]
        hosts = tuple(sorted({core.devices[device].host for shards in chosen for _, device in shards.values()}))
        _check_hosts(hosts, "read")
        end = core.new_status(hosts)
        exchange.hosts.update(hosts)
        to = exchange.address, request.launch, end.id
        if len(arrays) == 1:
            places = tuple((device, start) for start, (_, device) in chosen[0].items())
            core.send(hosts, ExportCommand(executable.id, arrays[0].id, places, *to))
        else:
            core.send(hosts, ExportTogether(executable.id, self._parts(arrays, chosen), *to))
        self._notices.ask(session, request, [], [end])
        if request.fill_status:
            session.futures[status] = Future(status=end)
        else:
            core.forget([end])  # Its hosts know by now who waits for it.
        core.reply(request, events.Executed(status if request.fill_status else 0, ()))

    def _parts(self, arrays: Sequence[Value], chosen: Sequence[_Shards]) -> tuple[Part, ...]:
        """All shards, host by host; their indices are by array, and within one by where they begin."""
        found: list[Part] = []
        for array, shards in zip(arrays, chosen, strict=True):
            for _, (shape, device) in sorted(shards.items()):
                found.append(Part(len(found), array.id, device, array.spec.dtype, math.prod(shape)))
        devices = self._core.devices
        return tuple(sorted(found, key=lambda part: devices[part.device].host))

    def _import(
        self,
        request: events.Execute,
        executable: Executable,
        exchange: Exchange,
        imported: Import,
        status: events.Handle,
    ) -> None:
        core, session, spec = self._core, self._core.session(request), imported.spec
        if request.args or len(request.results) > 1:
            refuse(Code.INVALID_ARGUMENT, "A program that imports takes no array and has one result.")
        handle = request.results[0] if request.results else core.server_handle(session)
        value = core.new_value(session, handle, spec)
        core.available(value.hosts)
        exchange.hosts.update(value.hosts)
        command = ImportCommand(
            executable.id,
            value.id,
            spec.dtype,
            imported.shards,
            spec.sharding.memory_kind,
            exchange.address,
            request.launch,
        )
        core.send(value.hosts, command)
        self._notices.ask(session, request, [value], [value])
        if request.fill_status:
            session.futures[status] = Future((value,))
        outputs = () if request.results else (events.Output(handle, value.spec),)
        core.reply(request, events.Executed(status if request.fill_status else 0, outputs))


_Shards = dict[tuple[int, ...], tuple[tuple[int, ...], DeviceId]]
"""Those of an array that differ, by where they begin: their shape, and one of the devices that have it."""


def _one_of_each(spec: ArraySpec) -> _Shards:
    chosen: _Shards = {}
    for device, box in zip(spec.sharding.devices, _boxes(spec), strict=True):
        chosen.setdefault(box.start, (box.shape, device))
    return chosen


def _boxes(spec: ArraySpec) -> tuple[Box, ...]:
    try:
        return shard_boxes(spec.sharding, spec.shape)
    except ProtocolError as error:
        refuse(Code.UNIMPLEMENTED, str(error))


def _check_hosts(hosts: Sequence[HostId], act: str) -> None:
    if len(hosts) > MOST_HOSTS:
        refuse(
            Code.UNIMPLEMENTED,
            f"An array's workers exchange it with the client where they are at most {MOST_HOSTS}, and it has "
            f"{len(hosts)}: {act} it shard by shard.",
        )
