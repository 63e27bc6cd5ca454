"""The controller: a pure state machine, `handle(event) -> effects`.

No clock, no sockets, no threads, no randomness. The handlers are in `arrays`, `programs` and
`workers`, by noun; this module puts them into one table and owns sessions.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from polypath import messages
from polypath.controller import events
from polypath.controller.arrays import Arrays
from polypath.controller.core import Core, Refused
from polypath.controller.events import AnyEvent, Effect, Request
from polypath.controller.programs import Programs
from polypath.controller.state import HostState, Session
from polypath.controller.workers import Workers
from polypath.types import HOST_CPU, ArraySpec, Device, Failure, HostId, IslandId, Platform, SessionId, Sharding


class HostStatistics(msgspec.Struct, frozen=True):
    """One worker, as it is now."""

    host: HostId
    island: IslandId
    state: str
    pid: int
    devices: int
    kind: str


class SessionStatistics(msgspec.Struct, frozen=True):
    """One client, as it is now."""

    session: SessionId
    client: str
    arrays: int
    executables: int
    futures: int
    """Ends that the client may still ask about."""


class Statistics(msgspec.Struct, frozen=True):
    """The controller, as it is now."""

    hosts: tuple[HostStatistics, ...]
    sessions: tuple[SessionStatistics, ...]
    values: int
    executables: int
    pending: int
    executions: int
    """Since the start."""
    log: int
    """The last sequence number."""
    compiled: int
    """Programs that a worker compiled since the start; one of two hosts counts twice."""
    found_compiled: int
    """Programs that a worker found in its cache, or that need no compiler."""


class Controller:
    """Drives the workers of `islands` (the hosts of each).

    Survivors of a loss write their snapshots under `snapshot_folder`.
    """

    def __init__(self, islands: Sequence[Sequence[HostId]], snapshot_folder: str = "/nonexistent") -> None:
        self._core = Core(islands, snapshot_folder)
        arrays = Arrays(self._core)
        programs = Programs(self._core, arrays)
        workers = Workers(self._core, programs)
        self._handlers: dict[type, Callable[[Any], None]] = {
            **arrays.handlers(),
            **programs.handlers(),
            **workers.handlers(),
            events.Open: self._open,
            events.Close: self._close,
            messages.Called: self._called,
            events.Returned: self._returned,
        }

    def handle(self, event: AnyEvent) -> list[Effect]:
        """Take one event; what is to be done about it, in order."""
        core = self._core
        core.effects, core.made = [], []
        try:
            self._handlers[type(event)](event)
        except Refused as refused:
            self._refuse(event, refused.failure)
        return core.effects

    def start(self) -> list[Effect]:
        """What starts the cluster: every island's first group."""
        return [events.Start(island.id, island.hosts, {}) for island in self._core.islands.values()]

    @property
    def devices(self) -> tuple[Device, ...]:
        """Every device that ever joined, by id."""
        return tuple(device for _, device in sorted(self._core.devices.items()))

    @property
    def platform(self) -> Platform | None:
        """What the workers run on; None before the first joined."""
        return self._core.platform

    @property
    def complete(self) -> bool:
        """Whether every worker is up."""
        return self._core.all_up

    @property
    def given_up(self) -> bool:
        """Whether a worker was lost so often that it is not started any more."""
        return self._core.given_up

    def statistics(self) -> Statistics:
        core = self._core
        hosts = tuple(
            HostStatistics(h.id, h.island, str(h.state), h.pid, len(devices), devices[0].kind if devices else "")
            for h in core.hosts.values()
            # Without the CPUs beside accelerators.
            for devices in [[device for device in h.devices if device.id < HOST_CPU]]
        )
        sessions = tuple(
            SessionStatistics(s.id, s.client, len(s.arrays), len(s.executables), len(s.futures))
            for s in core.sessions.values()
        )
        return Statistics(
            hosts,
            sessions,
            len(core.values),
            len(core.executables),
            len(core.pending) + len(core.compilations),
            core.executions,
            core.sequence,
            core.compiled,
            core.found_compiled,
        )

    def check(self) -> None:
        """Assert what must hold between events; for tests."""
        core = self._core
        named = {v.id: v for s in core.sessions.values() for v in s.arrays.values()}
        ends = [f.status for s in core.sessions.values() for f in s.futures.values() if f.status is not None]
        named.update((end.id, end) for end in ends)
        for number, value in core.values.items():
            assert named.get(number) is value, f"value {number} has no handle"
            assert value.failure is None, f"value {number} failed but is still kept"
        for root, sharers in core.sharers.items():
            assert sharers, f"shards of value {root} are said to be shared by nobody"
            assert sharers <= core.values.keys(), f"shards of value {root} are shared by values that are gone"
        held = {e.id for s in core.sessions.values() for e in s.executables.values()}
        for number in core.executables:
            assert number in held or number in core.compilations, f"executable {number} has no handle"
        waiting = collections.Counter(host for p in core.pending.values() for host in p.waiting)
        for host in waiting:
            assert core.hosts[host].state is not HostState.DOWN, f"a question waits for host {host}, which is down"

    def _open(self, event: events.Open) -> None:
        self._core.sessions[event.session] = Session(event.session, event.client, event.link)

    def _close(self, event: events.Close) -> None:
        """Free all that the client had; what it waits for is answered to nobody."""
        core = self._core
        session = core.sessions.pop(event.session, None)
        if session is None:
            return
        core.forget(session.arrays.values())
        core.forget([future.status for future in session.futures.values() if future.status is not None])
        for executable in session.executables.values():
            core.unload(executable)

    def _called(self, report: messages.Called) -> None:
        self._core.effects.append(events.Call(report))

    def _returned(self, event: events.Returned) -> None:
        """Nothing for a host that is not up: the call was of its earlier life."""
        if self._core.hosts[event.host].state is HostState.UP:
            self._core.send((event.host,), messages.Return(event.call, event.result))

    def _refuse(self, event: AnyEvent, failure: Failure) -> None:
        """Hand a failure to the client: in the reply and in every array that was to be made."""
        core = self._core
        if not isinstance(event, Request):
            raise AssertionError(f"{type(event).__name__} cannot be refused.")
        session = core.sessions.get(event.session)
        if session is not None:
            core.fail(core.made, failure)
            for handle in _results(event):
                core.new_error(session, handle, failure, _NOTHING)
        core.reply(event, failure)


_NOTHING = ArraySpec("token", (), Sharding(()))


def _results(request: Request) -> tuple[events.Handle, ...]:
    """The handles that a request makes."""
    if isinstance(request, events.Put):
        return tuple(array.handle for array in request.arrays)
    if isinstance(request, events.Assemble | events.FullyReplicatedShard):
        return (request.result,)
    if isinstance(
        request,
        events.MakeErrors
        | events.Disassemble
        | events.Remap
        | events.Copy
        | events.Reshard
        | events.Bitcast
        | events.Execute,
    ):
        return request.results
    return ()
