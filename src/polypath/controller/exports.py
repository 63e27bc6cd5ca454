"""Arrays that workers hand to the client itself: no byte of them passes through the head.

The client sees a program without results that it runs with one array. The number of the launch is its name for
the array, and the execution's status ends when the client has all of it.
"""

from __future__ import annotations

from typing import Final

from polypath.controller import events
from polypath.controller.core import Core, refuse
from polypath.controller.partition import shard_boxes
from polypath.controller.state import Executable, Export, Future
from polypath.errors import ProtocolError
from polypath.messages import Export as ExportCommand
from polypath.types import Code, DeviceId, ProgramInfo

MOST_HOSTS: Final = 64
"""Each has a link to the client, and a client may not have many files open."""


class Exports:
    """The handlers of programs that export."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def compile(self, request: events.CompileExport) -> None:
        """Nothing to compile: what it does is known when it has an argument."""
        core, session = self._core, self._core.session(request)
        devices, _ = core.place(request.devices)
        info = ProgramInfo("export", b"", devices, (), None, None, None, None, (), (), None, 0)
        executable = Executable(next(core.ids), (), info=info, export=Export(request.address))
        core.executables[executable.id] = executable
        handle, ready = core.server_handle(session), core.server_handle(session)
        session.executables[handle] = executable
        session.futures[ready] = Future()
        core.reply(request, events.Loaded(handle, info, ready))

    def run(self, request: events.Execute, executable: Executable, export: Export, status: events.Handle) -> None:
        """Have the array's hosts send it; `status` is the future of that."""
        core, session = self._core, self._core.session(request)
        if len(request.args) != 1 or not request.fill_status:
            refuse(Code.INVALID_ARGUMENT, "A program that exports takes one array, and its status must be asked for.")
        array = core.array(session, request.args[0])
        sharding = array.spec.sharding
        try:
            boxes = shard_boxes(sharding, array.spec.shape)
        except ProtocolError as error:
            refuse(Code.UNIMPLEMENTED, str(error))
        chosen: dict[tuple[int, ...], DeviceId] = {}
        for device, box in zip(sharding.devices, boxes, strict=True):
            chosen.setdefault(box.start, device)  # one of several replicas
        hosts = tuple(sorted({core.devices[device].host for device in chosen.values()}))
        if len(hosts) > MOST_HOSTS:
            refuse(
                Code.UNIMPLEMENTED,
                f"An array's workers hand it over where they are at most {MOST_HOSTS}, and it has {len(hosts)}: read "
                "it shard by shard.",
            )
        end = core.new_status(hosts)
        export.hosts.update(hosts)
        places = tuple((device, start) for start, device in chosen.items())
        core.send(hosts, ExportCommand(executable.id, array.id, places, export.address, request.launch, end.id))
        session.futures[status] = Future(status=end)
        core.reply(request, events.Executed(status, ()))
