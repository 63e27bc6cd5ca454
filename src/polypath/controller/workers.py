"""What workers report, and what happens when one is lost.

A worker that is lost takes with it every value and program that needs it: those fail at
once. The other workers of its island cannot run programs together with the new one before
they have formed a new group, and a group is formed when processes start. So each of them is
told to write a `Snapshot` of what it still holds and to end; then the whole island is started
again, every worker loads its own snapshot, and what did not need the lost host lives on.
Commands for an island on its way are held and sent when it is up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from polypath import messages
from polypath.controller import events
from polypath.controller.core import Core
from polypath.controller.programs import Programs
from polypath.controller.state import TRANSITIONS, Host, HostState, Island
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
            messages.Quiet: lambda report: self._core.quiet(report.executable, report.host),
        }

    # --- Coming and going ---------------------------------------------------------------------

    def started(self, event: events.WorkerStarted) -> None:
        self._core.hosts[event.host].pid = event.pid

    def joined(self, report: messages.Joined) -> None:
        core, host = self._core, self._core.hosts[report.host]
        core.forget_freed()  # After what made it, which may be held.
        self._move(host, HostState.UP)
        host.pid, host.devices, host.peer, host.losses = report.pid, report.devices, report.peer, 0
        core.platform = core.platform or report.platform
        core.devices.update((device.id, device) for device in report.devices)
        core.tell_peers(host)
        held, host.held = host.held, []
        for command in held:
            core.send((host.id,), command)

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
        host.peer = None
        self._core.tell_peers(host)
        for number in list(self._core.unloading):
            self._core.quiet(number, host.id)
        if host.losses >= (MAX_LOSSES if host.devices else 1):
            self._give_up(island, event.cause)
        else:
            self._gather(island)

    def left(self, report: messages.Left) -> None:
        """A snapshot is written: what it does not hold is lost with its process, which ends now."""
        core, host = self._core, self._core.hosts[report.host]
        if host.state is not HostState.LEAVING:
            return
        host.snapshot = f"{core.snapshot_folder}/{host.id}"
        failure = self._island_failure(host)
        kept, programs = set(report.values), set(report.executables)
        older = [v for v in list(core.values.values()) if v.id < host.left_at and host.id in v.hosts]
        core.fail([v for v in older if v.id not in kept], failure, without=host.id)
        for executable in core.executables.values():
            if executable.id < host.left_at and host.id in executable.hosts and executable.id not in programs:
                executable.failure = executable.failure or failure
        for compilation in core.compilations.values():
            if compilation.executable.id < host.left_at and host.id in compilation.waiting:
                host.held.insert(0, compilation.command)

    def _gather(self, island: Island) -> None:
        """Have the rest of the island leave; once all are away, start it as a new group."""
        core = self._core
        hosts = [core.hosts[host] for host in island.hosts]
        for host in hosts:
            if host.state is HostState.UP:
                path = f"{core.snapshot_folder}/{host.id}"
                core.send((host.id,), messages.Snapshot(path, SNAPSHOT_PATIENCE))
                host.left_at = next(core.ids)
                host.peer = None
                self._move(host, HostState.LEAVING)
                core.tell_peers(host)
        starting = [host for host in hosts if host.state is HostState.STARTING]
        if starting or any(host.state is not HostState.AWAY for host in hosts):
            # A worker that is still forming the old group would wait for the lost one for ever.
            core.effects.extend(events.Stop(host.id) for host in starting)
            return
        island.formations += 1
        snapshots = {host.id: host.snapshot for host in hosts if host.snapshot}
        for host in hosts:
            self._move(host, HostState.STARTING)
            host.snapshot = ""
        core.effects.append(events.Start(island.id, island.hosts, snapshots, island.formations))

    def _give_up(self, island: Island, cause: str) -> None:
        core = self._core
        for host_id in island.hosts:
            host = core.hosts[host_id]
            if host.state is not HostState.AWAY:
                core.effects.append(events.Stop(host.id))
                self._move(host, HostState.AWAY)
            self._fail_host(host, f"its island was given up: {cause}")
            self._move(host, HostState.DOWN)
            core.drop_held(host)

    def _fail_host(self, host: Host, cause: str) -> None:
        """Fail every value, program and question that needs this host."""
        core = self._core
        failure = Failure(
            Code.DATA_LOSS,
            f"Host {host.id} of island {host.island} was lost ({cause}), and with it the values and programs "
            "that needed its devices; put the data there again and compile anew, which waits until the host is back.",
        )
        core.islands[host.island].loss = failure
        core.forget_freed(without=host.id)
        core.fail([v for v in list(core.values.values()) if host.id in v.hosts], failure, without=host.id)
        for executable in list(core.executables.values()):
            if host.id not in executable.hosts or executable.failure is not None:
                continue
            executable.failure = failure
            rest = tuple(other for other in executable.hosts if other != host.id)
            core.send(rest, messages.Unload(executable.id))
            executable.hosts = ()
            core.executables.pop(executable.id, None)
        for compilation in list(core.compilations.values()):
            if host.id in compilation.waiting:
                compilation.failure = compilation.failure or failure
                compilation.waiting &= {host.id}
                self._programs.finish(compilation, (host.id,))
        for number, pending in list(core.pending.items()):
            if host.id in pending.waiting:
                self._answer(number, (host.id,), failure)
        self._programs.notices.lost(host.id)
        core.drop_held(host)

    def _move(self, host: Host, state: HostState) -> None:
        if state not in TRANSITIONS[host.state]:
            raise AssertionError(f"Host {host.id} cannot go from {host.state} to {state}.")
        self._core.given_up |= state is HostState.DOWN
        self._core.up += (state is HostState.UP) - (host.state is HostState.UP)
        host.state = state

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
        if report.request not in self._core.pending and isinstance(report.result, messages.Shared):
            self._core.effects.append(events.Discard((report.result,)))
        self._answer(report.request, (report.host,), _unwrap(report.result))

    def answered(self, report: messages.Answered) -> None:
        self._answer(report.request, (report.host,), _unwrap(report.result))

    def failed(self, report: messages.Failed) -> None:
        core = self._core
        values = [value for number in report.values if (value := core.values.get(number)) is not None]
        core.fail(values, report.failure)
        host = core.hosts[report.host]
        if report.stranded and host.state is HostState.UP:
            self._gather(core.islands[host.island])

    def _answer(
        self, number: RequestId, hosts: tuple[HostId, ...], result: bytes | messages.Shared | Failure | None
    ) -> None:
        """What some workers answer alike; the client gets the last answer, or the first failure."""
        core = self._core
        pending = core.pending.get(number)
        if pending is None or pending.waiting.isdisjoint(hosts):
            return
        pending.waiting.difference_update(hosts)
        if isinstance(result, Failure):
            del core.pending[number]
            if result.code is Code.ABORTED and core.hosts[hosts[0]].state is HostState.LEAVING:
                result = self._island_failure(core.hosts[hosts[0]])
            core.reply_to(pending.session, pending.op, result if pending.fallback is None else pending.fallback)
        elif not pending.waiting:
            del core.pending[number]
            if pending.session not in core.sessions and isinstance(result, messages.Shared):
                core.effects.append(events.Discard((result,)))
            core.reply_to(pending.session, pending.op, result)


def _unwrap(result: messages.Inline | messages.Shared | Failure) -> bytes | messages.Shared | Failure:
    return result.data if isinstance(result, messages.Inline) else result
