"""What workers report, and what happens when one is lost.

A worker that is lost takes with it every value that needs it: those fail at once. The other
workers of its island cannot run programs together with the new one before they have formed a
new group, and a group is formed when processes start. So each of them is told to write a
`Snapshot` of the values it still holds and to end; then the whole island is started again,
every worker loads its own snapshot, and the values that did not need the lost host live on.

Commands for an island on its way are held and sent when all of it is up. If another host is lost
meanwhile, they are dropped, and what they were to make fails: a part of what hosts were
to do together could not be done by the others.

A program of XLA gives the same wherever it is loaded, so an island that starts again has none, and
each is loaded again, from what the client sent, when it is next needed. Other programs keep
something in the workers' processes (Python's objects, a trace) and fail for good.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from polypath import messages
from polypath.controller import events
from polypath.controller.core import Core
from polypath.controller.programs import Programs
from polypath.controller.state import TRANSITIONS, Executable, Host, HostState, Island
from polypath.types import Code, Failure, HostId, RequestId

Handler = Callable[[Any], None]

MAX_LOSSES: Final = 3
"""Starts of a worker that may fail in a row before its host is given up; one that never came up gets one."""

SNAPSHOT_PATIENCE: Final = 2.0
"""Seconds that a survivor waits for values that are not computed yet."""


class Workers:
    """Handles the workers' reports and the launcher's events."""

    def __init__(self, core: Core, programs: Programs) -> None:
        self._core = core
        self._programs = programs

    def handlers(self) -> dict[type, Handler]:
        return {
            events.WorkerStarted: self.started,
            events.WorkerLost: self.lost,
            messages.Joined: self.joined,
            messages.Left: self.left,
            messages.Ready: self.ready,
            messages.Fetched: self.fetched,
            messages.Answered: self.answered,
            messages.Failed: self.failed,
            messages.Undelivered: self.undelivered,
            messages.Quiet: lambda report: self._core.quiet(report.executable, report.host),
        }

    # --- Coming and going ---------------------------------------------------------------------

    def started(self, event: events.WorkerStarted) -> None:
        self._core.hosts[event.host].pid = event.pid

    def joined(self, report: messages.Joined) -> None:
        core, host = self._core, self._core.hosts[report.host]
        self._move(host, HostState.UP)
        host.pid, host.devices, host.losses = report.pid, report.devices, 0
        core.platform = core.platform or report.platform
        core.devices.update((device.id, device) for device in report.devices)
        core.moved(host, report.peer, report.link)
        island = core.islands[host.island]
        if island.complete:
            island.loss = None
            core.send_held(island)

    def lost(self, event: events.WorkerLost) -> None:
        """The process is gone: in order (it was told to write a snapshot) or not."""
        host = self._core.hosts[event.host]
        if host.state in (HostState.AWAY, HostState.DOWN):
            return
        island = self._core.islands[host.island]
        if not (host.state is HostState.LEAVING and host.snapshot):
            self._fail_host(host, event.cause)
        if host.state is HostState.STARTING:
            host.losses += 1
        self._move(host, HostState.AWAY)
        self._core.moved(host, None, "")
        for number in list(self._core.unloading):
            self._core.quiet(number, host.id)
        if host.losses >= (MAX_LOSSES if host.devices else 1):
            self._give_up(island, event.cause)
        else:
            self._gather(island)
        island.last_loss = self._island_failure(host)
        self._tell_unsent(island)

    def _tell_unsent(self, island: Island) -> None:
        """Tell other hosts what will not be sent: the island's processes ended, or held commands were dropped."""
        for number in island.hosts:
            host = self._core.hosts[number]
            if host.told and host.state not in (HostState.UP, HostState.LEAVING):
                self._core.tell_unsent(host, host.told)

    def undelivered(self, report: messages.Undelivered) -> None:
        """A stream from a host to another broke for good, and both live, or else more is told."""
        core, host, to = self._core, self._core.hosts[report.host], self._core.hosts[report.to.host]
        if to.peer != report.to:
            return  # A process that has ended since.
        failure = Failure(
            Code.DATA_LOSS,
            f"Host {host.id} of island {host.island} could not send to host {to.id} of island {to.island} "
            f"({report.reason}), and what it was sending is lost; copy the arrays again.",
        )
        devices = tuple(device.id for device in host.devices)
        core.send_if_up(to.id, messages.Unsent(host.id, devices, next(core.ids), failure))

    def left(self, report: messages.Left) -> None:
        """A snapshot is written: what it does not hold is lost with its process, which ends now."""
        core, host = self._core, self._core.hosts[report.host]
        if host.state is not HostState.LEAVING:
            return
        host.snapshot = f"{core.snapshot_folder}/{host.id}"
        failure = self._island_failure(host)
        kept, since = set(report.values), core.islands[host.island].held_since
        older = [v for v in list(core.values.values()) if v.id < since and host.id in v.hosts]
        core.fail([v for v in older if v.id not in kept], failure, without=host.id)

    def _gather(self, island: Island) -> None:
        """Have the rest of the island leave; once all are away, start it as a new group."""
        core = self._core
        hosts = [core.hosts[host] for host in island.hosts]
        for host in hosts:
            if host.state is HostState.UP:
                path = f"{core.snapshot_folder}/{host.id}"
                core.send_now(host.id, messages.Snapshot(path, SNAPSHOT_PATIENCE))
                self._move(host, HostState.LEAVING)
                core.moved(host, None, "")
        self._compile_again(island)
        starting = [host for host in hosts if host.state is HostState.STARTING]
        if starting or any(host.state is not HostState.AWAY for host in hosts):
            # A worker that is still forming the old group would wait for the lost one for ever.
            core.effects.extend(events.Stop(host.id) for host in starting)
            return
        self._explain(island)
        snapshots = {host.id: host.snapshot for host in hosts if host.snapshot}
        for host in hosts:
            self._move(host, HostState.STARTING)
            host.snapshot = ""
        core.effects.append(events.Start(island.id, island.hosts, snapshots))

    def _explain(self, island: Island) -> None:
        """Answer what hosts could not, now that it is known which of them was lost."""
        unexplained, island.unexplained = island.unexplained, []
        for number, host in unexplained:
            self._answer(number, (host,), self._island_failure(self._core.hosts[host]))

    def _compile_again(self, island: Island) -> None:
        """Have what was being compiled for the island compiled by its next processes."""
        core = self._core
        for compilation in core.compilations.values():
            executable = compilation.executable
            if not executable.loaded and executable.source is not None:
                executable.loaded = True
                core.send(executable.hosts, executable.source)

    def _give_up(self, island: Island, cause: str) -> None:
        core = self._core
        for host_id in island.hosts:
            host = core.hosts[host_id]
            if host.state is not HostState.AWAY:
                core.effects.append(events.Stop(host.id))
                self._move(host, HostState.AWAY)
            self._fail_host(host, f"its island was given up: {cause}")
            self._move(host, HostState.DOWN)
        island.held.clear()
        self._explain(island)
        assert island.loss is not None
        for compilation in list(core.compilations.values()):
            if not compilation.waiting.isdisjoint(island.hosts):
                compilation.failure = compilation.failure or island.loss
                self._programs.finish(compilation, tuple(compilation.waiting))

    def _fail_host(self, host: Host, cause: str) -> None:
        """Fail every value and question that needs this host, and what was held for its island."""
        core = self._core
        failure = Failure(
            Code.DATA_LOSS,
            f"Host {host.id} of island {host.island} was lost ({cause}), and with it the values that needed its "
            "devices; put the data there again and run the program again, which waits until the host is back.",
        )
        island = core.islands[host.island]
        island.loss = failure
        core.fail([v for v in list(core.values.values()) if host.id in v.hosts], failure, without=host.id)
        for number, pending in list(core.pending.items()):
            if host.id in pending.waiting:
                self._answer(number, (host.id,), failure)
        if island.complete:
            self._fail_compilations(host, failure)
        else:
            self._drop_held(island, failure)

    def _fail_compilations(self, host: Host, failure: Failure) -> None:
        """Compiling may be what ended the host, so its next process is not asked for the same by itself."""
        core = self._core
        for compilation in list(core.compilations.values()):
            executable = compilation.executable
            if host.id in compilation.waiting:
                executable.loaded = False
                rest = tuple(other for other in executable.hosts if other != host.id)
                core.send(rest, messages.Unload(executable.id))
                compilation.failure = compilation.failure or failure
                self._programs.finish(compilation, tuple(compilation.waiting))

    def _drop_held(self, island: Island, failure: Failure) -> None:
        core, since = self._core, island.held_since
        core.drop_held(island)
        members = set(island.hosts)
        made = [v for v in list(core.values.values()) if v.id >= since and not members.isdisjoint(v.hosts)]
        core.fail(made, failure)
        for number, pending in list(core.pending.items()):
            if number >= since and not members.isdisjoint(pending.waiting):
                self._answer(number, tuple(pending.waiting), failure)
        for host in island.hosts:
            for number in list(core.unloading):
                core.quiet(number, host)
        self._end_programs(island)
        island.held_since = next(core.ids)

    def _end_programs(self, island: Island) -> None:
        """The island's next processes will have no program."""
        core, members = self._core, set(island.hosts)
        for executable in list(core.executables.values()):
            if executable.source is None or members.isdisjoint(executable.hosts):
                continue
            executable.loaded = False
            elsewhere = tuple(host for host in executable.hosts if host not in members)
            core.send(elsewhere, messages.Unload(executable.id))
            if executable.source.kind == "xla" or executable.id in core.compilations:
                continue
            executable.failure = self._end_of(executable, island)
            core.executables.pop(executable.id)

    @staticmethod
    def _end_of(executable: Executable, island: Island) -> Failure:
        name = "" if executable.info is None else executable.info.name
        loss = f" ({island.loss.message.partition(';')[0]})" if island.loss else ""
        if executable.source is not None and executable.source.kind == "python":
            ended, remedy = f"The colocated function {name}", "call jax.clear_caches() and make its objects anew"
        else:
            ended, remedy = f"The program {name!r}, which is no compiler's,", "make it anew"
        return Failure(
            Code.DATA_LOSS,
            f"{ended} ended, with what it kept, when island {island.id} was started again{loss}; {remedy}.",
        )

    def _move(self, host: Host, state: HostState) -> None:
        if state not in TRANSITIONS[host.state]:
            raise AssertionError(f"Host {host.id} cannot go from {host.state} to {state}.")
        core, island = self._core, self._core.islands[host.island]
        core.given_up |= state is HostState.DOWN
        was_complete = island.complete
        change = (state is HostState.UP) - (host.state is HostState.UP)
        core.up += change
        island.up += change
        host.state = state
        if was_complete and not island.complete:
            island.held_since = next(core.ids)
            self._end_programs(island)

    # --- Answers ------------------------------------------------------------------------------

    def _island_failure(self, host: Host) -> Failure:
        """For what a worker that had to leave could not bring to its end."""
        return self._core.islands[host.island].loss or Failure(
            Code.ABORTED,
            f"Host {host.id} of island {host.island} had to be started again before this was computed; do it again.",
        )

    def ready(self, report: messages.Ready) -> None:
        self._answer(report.request, report.hosts, report.failure)

    def fetched(self, report: messages.Fetched) -> None:
        result = report.result
        self._answer(report.request, (report.host,), result if isinstance(result, Failure) else result.data)

    def answered(self, report: messages.Answered) -> None:
        result = report.result
        self._answer(report.request, (report.host,), result if isinstance(result, Failure) else result.data)

    def failed(self, report: messages.Failed) -> None:
        core, host = self._core, self._core.hosts[report.host]
        if report.stranded and host.state is HostState.UP:
            self._gather(core.islands[host.island])
        if report.failure.code is Code.ABORTED and host.state is HostState.LEAVING:
            return  # It fails with all that the host does not keep, by what is then known.
        values = [value for number in report.values if (value := core.values.get(number)) is not None]
        core.fail(values, report.failure)

    def _answer(
        self, number: RequestId, hosts: tuple[HostId, ...], result: bytes | memoryview | Failure | None
    ) -> None:
        """What some workers answer alike; the client gets the last answer, or the first failure."""
        core = self._core
        pending = core.pending.get(number)
        if pending is None or pending.waiting.isdisjoint(hosts):
            return
        host = core.hosts[hosts[0]]
        if isinstance(result, Failure) and result.code is Code.ABORTED and host.state is HostState.LEAVING:
            core.islands[host.island].unexplained.append((number, host.id))
            return
        pending.waiting.difference_update(hosts)
        if isinstance(result, Failure):
            del core.pending[number]
            core.reply_to(pending.session, pending.op, result if pending.fallback is None else pending.fallback)
        elif not pending.waiting:
            del core.pending[number]
            core.reply_to(pending.session, pending.op, result)
