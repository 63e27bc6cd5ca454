"""The controller's state and the few moves that all its handlers are made of.

Rules that the handlers keep:

- A request that makes arrays makes them whatever happens: where it is refused, its results
  are values that hold the failure, since the client does not wait for the reply.
- A command that needs a value with a failure is never sent: the failure is handed on.
- What a lost host held fails at once, not when somebody asks.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import NoReturn

import msgspec

from polypath.controller.events import Discard, Effect, Handle, Release, Reply, Request, Result, Send
from polypath.controller.state import (
    Compilation,
    Executable,
    Host,
    HostState,
    Island,
    Pending,
    Requests,
    Session,
    Unloading,
    Value,
)
from polypath.messages import Command, Forget, Peer, Put, Shared, Unload
from polypath.types import (
    SERVER_HANDLES,
    ArraySpec,
    Code,
    Device,
    DeviceId,
    ExecutableId,
    Failure,
    HostId,
    IslandId,
    Platform,
    ProgramInfo,
    RequestId,
    SessionId,
    Sharding,
    ValueId,
)


class Refused(Exception):
    """A request that cannot be done; its failure goes to the client and into its results."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def refuse(code: Code, message: str) -> NoReturn:
    raise Refused(Failure(code, message))


class Core:
    """State and moves. `effects` collects what the event at hand brings about."""

    def __init__(self, islands: Sequence[Sequence[HostId]], snapshot_folder: str) -> None:
        self.snapshot_folder = snapshot_folder
        self.islands: dict[IslandId, Island] = {
            island: Island(island, tuple(hosts)) for island, hosts in enumerate(islands)
        }
        self.hosts: dict[HostId, Host] = {
            host: Host(host, island.id) for island in self.islands.values() for host in island.hosts
        }
        self.devices: dict[DeviceId, Device] = {}
        self.platform: Platform | None = None
        self.peers: tuple[Peer, ...] = ()
        """The workers that were told last that they may send shards to each other."""
        self.sessions: dict[SessionId, Session] = {}
        self.values: dict[ValueId, Value] = {}
        self.executables: dict[ExecutableId, Executable] = {}
        self.pending: Requests = {}
        self.compilations: dict[ExecutableId, Compilation] = {}
        self.unloading: dict[ExecutableId, Unloading] = {}
        self.layouts: dict[tuple[str, int, str, str], bytes] = {}
        """By dtype, rank, platform, memory kind."""
        self.effects: list[Effect] = []
        self.made: list[Value] = []
        """The values that the event at hand made."""
        self.ids = itertools.count(1)
        """For values, executables and requests alike."""
        self.sequence = 0
        """The last number of the log. Each island's log is the part of it that its hosts got."""
        self.executions = 0
        self.compiled = self.found_compiled = 0
        self._device_lists: dict[tuple[DeviceId, ...], tuple[tuple[DeviceId, ...], tuple[HostId, ...]]] = {}

    # --- Towards workers ----------------------------------------------------------------------

    def send(self, hosts: Iterable[HostId], command: Command) -> None:
        """Append to the log for `hosts`; a host that is on its way up gets it once it is there."""
        ready: list[HostId] = []
        for host_id in hosts:
            host = self.hosts[host_id]
            if host.state is HostState.UP:
                ready.append(host_id)
            elif host.state is not HostState.DOWN:
                host.held.append(command)
        if ready:
            self.sequence += 1
            self.effects.append(Send(tuple(ready), self.sequence, command))

    def drop_held(self, host: Host) -> None:
        """Forget the commands that a host would have got, and the files that they would have read."""
        buffers = [buffer.data for command in host.held if isinstance(command, Put) for buffer in command.buffers]
        if files := tuple(data for data in buffers if isinstance(data, Shared)):
            self.effects.append(Discard(files))
        host.held.clear()

    def ask(
        self,
        request: Request,
        hosts: Iterable[HostId],
        question: Callable[[RequestId], Command],
        fallback: bytes | None = None,
    ) -> None:
        """Send `question(number)`; the last answer, or the first failure, is the reply."""
        number = next(self.ids)
        waiting = set(hosts)
        self.pending[number] = Pending(request.session, request.op, waiting, fallback)
        self.send(sorted(waiting), question(number))

    # --- Towards clients ----------------------------------------------------------------------

    def reply(self, request: Request, result: Result) -> None:
        self.effects.append(Reply(request.session, request.op, result))

    def reply_to(self, session: SessionId, op: int, result: Result) -> None:
        if session in self.sessions:
            self.effects.append(Reply(session, op, result))

    # --- Devices ------------------------------------------------------------------------------

    def place(self, devices: tuple[DeviceId, ...]) -> tuple[tuple[DeviceId, ...], tuple[HostId, ...]]:
        """The one tuple that stands for this device list (so that `is` compares), and its hosts."""
        known = self._device_lists.get(devices)
        if known is None:
            for device in devices:
                if device not in self.devices:
                    refuse(
                        Code.INVALID_ARGUMENT,
                        f"Device {device} is not in this cluster, whose devices are "
                        f"{min(self.devices, default=0)} to {max(self.devices, default=0)}; use jax.devices().",
                    )
            hosts = tuple(sorted({self.devices[device].host for device in devices}))
            known = self._device_lists[devices] = (devices, hosts)
        return known

    def intern(self, info: ProgramInfo) -> ProgramInfo:
        """The same, with the one tuple for each device list."""
        return msgspec.structs.replace(
            info, devices=self.place(info.devices)[0], outputs=tuple(map(self._intern_spec, info.outputs))
        )

    def _intern_spec(self, spec: ArraySpec) -> ArraySpec:
        devices = self.place(spec.sharding.devices)[0]
        if devices is spec.sharding.devices:
            return spec
        return ArraySpec(spec.dtype, spec.shape, msgspec.structs.replace(spec.sharding, devices=devices))

    def available(self, hosts: Iterable[HostId]) -> None:
        """Refuse if one of `hosts` was given up."""
        for host_id in hosts:
            host = self.hosts[host_id]
            if host.state is HostState.DOWN:
                refuse(
                    Code.UNAVAILABLE,
                    f"Host {host_id} of island {host.island} is down and was given up after {host.losses} starts; "
                    "see `polypath logs` for why, then restart the cluster.",
                )

    # --- Values -------------------------------------------------------------------------------

    def session(self, request: Request) -> Session:
        session = self.sessions.get(request.session)
        if session is None:
            refuse(Code.FAILED_PRECONDITION, "The session is closed; connect again.")
        return session

    def new_value(self, session: Session, handle: Handle, spec: ArraySpec) -> Value:
        """A value under the client's `handle`, placed on `spec`'s devices."""
        if handle in session.arrays:
            refuse(Code.ALREADY_EXISTS, f"Array handle {handle} is in use already; each handle names one array.")
        _, hosts = self.place(spec.sharding.devices)
        value = Value(next(self.ids), self._intern_spec(spec), hosts)
        session.arrays[handle] = value
        self.values[value.id] = value
        self.made.append(value)
        return value

    def new_status(self, hosts: tuple[HostId, ...]) -> Value:
        """A value without elements that stands for the end of an execution on `hosts`."""
        value = Value(next(self.ids), ArraySpec("token", (), Sharding(())), hosts)
        self.values[value.id] = value
        self.made.append(value)
        return value

    def new_error(self, session: Session, handle: Handle, failure: Failure, spec: ArraySpec) -> None:
        """A value that is nothing but a failure."""
        if handle not in session.arrays:
            session.arrays[handle] = Value(next(self.ids), spec, (), failure)

    def array(self, session: Session, handle: Handle) -> Value:
        """The value under a handle; refuses when it is unknown, deleted or failed."""
        value = session.arrays.get(handle)
        if value is None:
            refuse(Code.NOT_FOUND, f"Array handle {handle} is unknown in this session, or was freed.")
        if value.failure is not None:
            raise Refused(value.failure)
        if value.deleted:
            refuse(Code.INVALID_ARGUMENT, "The array was deleted or donated; keep a copy if you need it later.")
        return value

    def delete(self, values: Iterable[Value]) -> None:
        """Mark deleted; the caller tells the workers."""
        for value in values:
            value.deleted = True

    def forget(self, values: Iterable[Value]) -> None:
        """Drop values here and on their workers, one command per set of hosts."""
        groups: dict[tuple[HostId, ...], list[ValueId]] = {}
        for value in values:
            if self.values.pop(value.id, None) is not None and value.hosts:
                groups.setdefault(value.hosts, []).append(value.id)
        for hosts, ids in groups.items():
            self.send(hosts, Forget(tuple(ids)))

    def fail(self, values: Iterable[Value], failure: Failure, without: HostId | None = None) -> None:
        """Turn values into a failure and free what is left of them (not on host `without`)."""
        groups: dict[tuple[HostId, ...], list[ValueId]] = {}
        for value in values:
            if value.failure is None:
                value.failure = failure
            if self.values.pop(value.id, None) is not None:
                rest = tuple(host for host in value.hosts if host != without)
                if rest:
                    groups.setdefault(rest, []).append(value.id)
            value.hosts = ()
        for hosts, ids in groups.items():
            self.send(hosts, Forget(tuple(ids)))

    def unload(self, executable: Executable) -> None:
        loaded = self.executables.pop(executable.id, None) is not None and bool(executable.hosts)
        if loaded:
            self.send(executable.hosts, Unload(executable.id))
        if executable.export is not None:
            self.send(sorted(executable.export.hosts), Unload(executable.id))
        if executable.callbacks is None:
            return
        self.unloading[executable.id] = Unloading(executable.callbacks, set(executable.hosts) if loaded else set())
        self.quiet(executable.id, None)

    def quiet(self, number: ExecutableId, host: HostId | None) -> None:
        """Nothing of an unloaded program is under way on `host`; its client hears when that holds for all."""
        unloading = self.unloading.get(number)
        if unloading is None:
            return
        unloading.hosts.discard(-1 if host is None else host)
        if not unloading.hosts:
            del self.unloading[number]
            self.effects.append(Release(unloading.callbacks))

    def server_handle(self, session: Session) -> Handle:
        session.next_handle += 1
        return SERVER_HANDLES + session.next_handle
