"""Requests about programs: compiled once per host, run on all of them in the log's order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from polypath import messages
from polypath.controller import events
from polypath.controller.arrays import Arrays
from polypath.controller.attached import Attached
from polypath.controller.core import Core, Refused, refuse
from polypath.controller.partition import row_major_layout
from polypath.controller.state import Compilation, Executable, Future, HostState, Session, Value
from polypath.types import Code, Failure, HostId, ProgramInfo

Handler = Callable[[Any], None]


class Programs:
    """Handles every request about programs, and the futures that come of them."""

    def __init__(self, core: Core, arrays: Arrays) -> None:
        self._core = core
        self._arrays = arrays
        self._attached = Attached(core)

    def handlers(self) -> dict[type, Handler]:
        return {
            events.Compile: self.compile,
            events.CompileReshard: self.compile_reshard,
            events.CompileAttach: self._attached.compile,
            messages.Compiled: self.compiled,
            events.Metadata: self.metadata,
            events.CostAnalysis: self.cost_analysis,
            events.ProgramText: self.program_text,
            events.ProgramSource: self.program_source,
            events.Unload: self.unload,
            events.Execute: self.execute,
            events.ExecuteStatus: self.execute_status,
            events.CheckFuture: self.check_future,
            events.DefaultLayout: self.default_layout,
            events.MemoryStats: self.memory_stats,
            events.Holdings: self.holdings,
        }

    # --- Compiling ----------------------------------------------------------------------------

    def compile(self, request: events.Compile) -> None:
        core = self._core
        core.session(request)
        if not request.devices:
            refuse(
                Code.INVALID_ARGUMENT,
                "A program without devices cannot be compiled; give it a sharding or a mesh.",
            )
        devices, hosts = core.place(request.devices)
        core.available(hosts)
        islands = {core.hosts[host].island for host in hosts}
        if len(islands) > 1 and request.kind == "xla":
            refuse(
                Code.INVALID_ARGUMENT,
                f"A program cannot span islands {sorted(islands)}, whose hosts share no interconnect; use a mesh "
                "of one island's devices (their `slice_index` tells) and jax.device_put between them.",
            )
        number = next(core.ids)
        source = messages.Compile(number, request.program, request.options, devices, request.kind, request.callbacks)
        executable = core.executables[number] = Executable(number, hosts, source)
        core.compilations[number] = Compilation(request.session, request.op, executable, set(hosts))
        core.have_loaded(executable)

    def compile_reshard(self, request: events.CompileReshard) -> None:
        """Nothing to compile: what it does is known when it has arguments."""
        devices, _ = self._core.place(request.devices)
        self._core.load(request, "reshard", devices, request)

    def compiled(self, report: messages.Compiled) -> None:
        if isinstance(report.result, ProgramInfo):
            if report.compiled:
                self._core.compiled += len(report.hosts)
            else:
                self._core.found_compiled += len(report.hosts)
        compilation = self._core.compilations.get(report.executable)
        if compilation is None:
            executable = self._core.executables.get(report.executable)
            if executable is not None and isinstance(report.result, Failure):
                executable.loaded = False  # After a loss: the next execution has it loaded once more.
            return
        if isinstance(report.result, Failure):
            compilation.failure = compilation.failure or report.result
        else:
            compilation.infos[min(report.hosts)] = report.result
        self.finish(compilation, report.hosts)

    def finish(self, compilation: Compilation, hosts: Iterable[HostId]) -> None:
        """Count the answers of `hosts`; reply when they were the last."""
        core = self._core
        compilation.waiting.difference_update(hosts)
        if compilation.waiting:
            return
        executable = compilation.executable
        del core.compilations[executable.id]
        session = core.sessions.get(compilation.session)
        failure = compilation.failure
        if session is None or failure is not None:
            core.unload(executable)
            core.reply_to(compilation.session, compilation.op, failure)
            return
        executable.info = info = core.intern(compilation.infos[min(compilation.infos)])
        executable.outputs = tuple([(spec, core.place(spec.sharding.devices)[1]) for spec in info.outputs])
        handle, ready = core.server_handle(session), core.server_handle(session)
        session.executables[handle] = executable
        session.futures[ready] = Future()
        core.reply_to(compilation.session, compilation.op, events.Loaded(handle, info, ready))

    # --- Asking -------------------------------------------------------------------------------

    def metadata(self, request: events.Metadata) -> None:
        _, info = self._loaded(self._core.session(request), request.executable)
        self._core.reply(request, info)

    def cost_analysis(self, request: events.CostAnalysis) -> None:
        executable, _ = self._loaded(self._core.session(request), request.executable)
        self._core.have_loaded(executable)
        self._core.ask(request, executable.hosts[:1], lambda n: messages.CostAnalysis(n, executable.id))

    def program_text(self, request: events.ProgramText) -> None:
        executable, _ = self._loaded(self._core.session(request), request.executable)
        self._core.have_loaded(executable)
        self._core.ask(request, executable.hosts[:1], lambda n: messages.ProgramText(n, executable.id))

    def program_source(self, request: events.ProgramSource) -> None:
        wanted = request.fingerprint, request.devices
        loaded = ((each.info, each.source) for each in self._core.executables.values())
        known = (source for info, source in loaded if info and (info.fingerprint, info.devices) == wanted)
        source = next(known, None)
        if source is None:
            refuse(Code.NOT_FOUND, "The program is not loaded any more, so it cannot be serialized; compile it again.")
        if source.callbacks is not None:
            refuse(
                Code.UNIMPLEMENTED,
                "The program calls functions of its client, so it cannot be serialized; leave them out.",
            )
        self._core.reply(request, msgspec.msgpack.encode((source.program, source.options)))

    def default_layout(self, request: events.DefaultLayout) -> None:
        core = self._core
        device = core.devices.get(request.device)
        if device is None:
            refuse(Code.INVALID_ARGUMENT, f"Device {request.device} is not in this cluster; use jax.devices().")
        # An error instead of a layout would abort the client's process.
        fallback = row_major_layout(len(request.shape))
        if device.platform == "cpu" or core.hosts[device.host].state is HostState.DOWN:
            core.reply(request, fallback)
            return
        core.ask(
            request,
            (device.host,),
            lambda n: messages.DefaultLayout(n, request.dtype, request.shape, request.device, request.memory_kind),
            fallback,
        )

    def memory_stats(self, request: events.MemoryStats) -> None:
        core = self._core
        _, hosts = core.place((request.device,))
        core.available(hosts)
        core.ask(request, hosts, lambda n: messages.MemoryStats(n, request.device))

    def holdings(self, request: events.Holdings) -> None:
        core = self._core
        if request.host not in core.hosts:
            refuse(Code.INVALID_ARGUMENT, f"Host {request.host} is not in this cluster; `polypath status` lists them.")
        core.available((request.host,))
        core.ask(request, (request.host,), messages.Holdings)

    # --- Running ------------------------------------------------------------------------------

    def execute(self, request: events.Execute) -> None:
        core, session = self._core, self._core.session(request)
        results = request.results
        status = request.status
        if request.fill_status and not status:
            status = core.server_handle(session)
        try:
            executable, info = self._loaded(session, request.executable)
            does = executable.does
            if does is not None and not isinstance(does, events.CompileReshard):
                self._attached.run(request, does, status)
                return
            args = self._arguments(session, info, request)
            count = len(info.outputs) if does is None else len(does.targets)
            if not results:
                results = tuple(core.server_handle(session) for _ in range(count))
            elif len(results) != count:
                refuse(
                    Code.INVALID_ARGUMENT,
                    f"Program {info.name} has {count} results; {len(results)} handles were given.",
                )
            if does is not None:
                self._reshard(session, request, does, args, results, status)
                return
            core.have_loaded(executable)
        except Refused as refused:
            if request.fill_status:
                session.futures[status] = Future(failure=refused.failure)
            raise
        outs = core.new_results(session, results, executable)
        end = core.new_status(executable.hosts) if request.fill_status else None
        core.executions += 1
        core.send(
            executable.hosts,
            messages.Execute(
                executable.id,
                tuple([v.id for v in args]),
                tuple([v.id for v in outs]),
                request.kept,
                request.launch,
                0 if end is None else end.id,
                request.stream,
            ),
        )
        core.delete(args[index] for index in info.donated if index not in request.kept)
        core.executed(request, status, Future(tuple(outs), status=end), zip(results, outs, strict=True))

    def _reshard(
        self,
        session: Session,
        request: events.Execute,
        program: events.CompileReshard,
        args: list[Value],
        results: tuple[events.Handle, ...],
        status: events.Handle,
    ) -> None:
        if len(args) != len(program.targets):
            refuse(
                Code.INVALID_ARGUMENT,
                f"A program that cuts {len(program.targets)} arrays anew got {len(args)} arguments.",
            )
        made = self._arrays.cut_anew(session, args, results, program.targets, donate=program.donate)
        self._core.executed(request, status, Future(tuple(made)), zip(results, made, strict=True))

    def _arguments(self, session: Session, info: ProgramInfo, request: events.Execute) -> list[Value]:
        args = self._core.arrays(session, request.args)
        elsewhere = [value for value in args if value.spec.sharding.devices is not info.devices]
        for value in elsewhere:
            devices = value.spec.sharding.devices
            if set(devices) != set(info.devices):
                refuse(
                    Code.INVALID_ARGUMENT,
                    f"Argument {args.index(value)} of {info.name} is on devices {list(devices)}, but the program runs "
                    f"on {list(info.devices)}; move it there with jax.device_put.",
                )
        if info.donated and info.donated[-1] >= len(args):
            refuse(Code.INVALID_ARGUMENT, f"Program {info.name} got {len(args)} arguments, fewer than it has.")
        return args

    def execute_status(self, request: events.ExecuteStatus) -> None:
        self._await_future(request, request.status)

    def check_future(self, request: events.CheckFuture) -> None:
        self._await_future(request, request.future)

    def _await_future(self, request: events.Request, handle: events.Handle) -> None:
        future = self._core.session(request).futures.pop(handle, None)
        if future is None:
            refuse(Code.NOT_FOUND, f"Future {handle} is unknown in this session, or was awaited before.")
        if future.failure is not None:
            raise Refused(future.failure)
        # What was freed meanwhile is on no worker any more.
        values = [v for v in future.values if v.failure is not None or v.id in self._core.values]
        if future.status is None:
            self._arrays.await_values(request, values)
            return
        self._arrays.await_values(request, [future.status, *values])
        self._core.forget((future.status,))

    def unload(self, request: events.Unload) -> None:
        session = self._core.session(request)
        executable = session.executables.pop(request.executable, None)
        if executable is None:
            refuse(Code.NOT_FOUND, f"Executable handle {request.executable} is unknown in this session.")
        self._core.unload(executable)
        self._core.reply(request, None)

    def _loaded(self, session: Session, handle: events.Handle) -> tuple[Executable, ProgramInfo]:
        executable = session.executables.get(handle)
        if executable is None or executable.info is None:
            refuse(Code.NOT_FOUND, f"Executable handle {handle} is unknown in this session, or was freed.")
        if executable.failure is not None:
            raise Refused(executable.failure)
        return executable, executable.info
