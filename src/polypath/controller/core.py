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

from polypath.controller.events import (
    CompileReshard,
    Effect,
    Execute,
    Executed,
    Handle,
    Loaded,
    Located,
    Output,
    Release,
    Reply,
    Request,
    Result,
    Send,
)
from polypath.controller.state import (
    Compilation,
    Executable,
    Future,
    Given,
    Host,
    HostState,
    Island,
    Pending,
    Requests,
    Session,
    Unloading,
    Value,
)
from polypath.link.protocol import HostAddress
from polypath.messages import Command, Delete, Forget, Peer, Peers, Rebind, Shards, Unload, Unsent
from polypath.plugins import Wanted
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
        self.up = 0
        """How many hosts are up."""
        self.given_up = False
        """Whether one is down for good."""
        self.sessions: dict[SessionId, Session] = {}
        self.values: dict[ValueId, Value] = {}
        self.executables: dict[ExecutableId, Executable] = {}
        self.pending: Requests = {}
        self.compilations: dict[ExecutableId, Compilation] = {}
        self.unloading: dict[ExecutableId, Unloading] = {}
        self.effects: list[Effect] = []
        self.sharers: dict[ValueId, set[ValueId]] = {}
        """The regrouped values that have shards of a value, which may itself be gone."""
        self.made: list[Value] = []
        """The values that the event at hand made."""
        self.ids = itertools.count(1)
        """For values, executables and requests alike."""
        self.sequence = 0
        """The last number of the log. Each island's log is the part of it that its hosts got."""
        self.executions = 0
        self.compiled = self.found_compiled = 0
        self._device_lists: dict[tuple[DeviceId, ...], tuple[tuple[DeviceId, ...], tuple[HostId, ...]]] = {}
        self._host_lists: dict[tuple[HostId, ...], tuple[HostId, ...]] = {}
        self._places: dict[int, tuple[tuple[DeviceId, ...], tuple[HostId, ...]]] = {}
        """The same as `_device_lists` by what the one tuple is, as hashing thousands of ids takes its time."""

    # --- Towards workers ----------------------------------------------------------------------

    def send(self, hosts: tuple[HostId, ...], command: Command) -> None:
        """Append to the log for `hosts`; those of an island that is being started get it once the island is up."""
        if self.all_up:
            if hosts:
                self.sequence += 1
                self.effects.append(Send(hosts, self.sequence, command))
            return
        by_island: dict[IslandId, list[HostId]] = {}
        for host in hosts:
            by_island.setdefault(self.hosts[host].island, []).append(host)
        ready: list[HostId] = []
        for number, members in by_island.items():
            island = self.islands[number]
            if island.complete:
                ready += members
            elif self.hosts[members[0]].state is not HostState.DOWN:
                island.held.append((tuple(members), command))
        if ready:
            self.sequence += 1
            self.effects.append(Send(tuple(sorted(ready)), self.sequence, command))

    def send_now(self, host: HostId, command: Command) -> None:
        """Append to the log for a host that is up, though others of its island may not be."""
        self.sequence += 1
        self.effects.append(Send((host,), self.sequence, command))

    @property
    def all_up(self) -> bool:
        """Whether every host is: then nobody has to look at each."""
        return self.up == len(self.hosts)

    def send_held(self, island: Island) -> None:
        """All hosts of the island are up: they get what was held for them."""
        held, island.held = island.held, []
        for hosts, command in held:
            self.send(hosts, command)

    def drop_held(self, island: Island) -> None:
        """Drop the commands that were held, but not what ends something."""
        island.held = [each for each in island.held if isinstance(each[1], Forget | Delete | Unload)]

    def ask(
        self,
        request: Request,
        hosts: tuple[HostId, ...],
        question: Callable[[RequestId], Command],
        fallback: bytes | None = None,
    ) -> None:
        """Send `question(number)`; the last answer, or the first failure, is the reply."""
        number = next(self.ids)
        self.pending[number] = Pending(request.session, request.op, set(hosts), fallback)
        self.send(hosts, question(number))

    def rebind(self, outs: Iterable[Shards]) -> None:
        """Have new values stand for old shards; each host hears of its own."""
        by_host: dict[HostId, list[Shards]] = {}
        for out in outs:
            self._share(out)
            mine: dict[HostId, list[tuple[ValueId, DeviceId]]] = {}
            for shard in out.shards:
                mine.setdefault(self.devices[shard[1]].host, []).append(shard)
            for host, shards in mine.items():
                by_host.setdefault(host, []).append(Shards(out.out, tuple(shards)))
        for host, rebound in by_host.items():
            self.send((host,), Rebind(tuple(rebound)))

    # --- Between workers ----------------------------------------------------------------------

    def introduce(self, moves: Iterable[tuple[DeviceId, DeviceId]]) -> None:
        """Tell the hosts of the first devices where those of the second take shards, if they do not know."""
        new: dict[HostId, set[HostId]] = {}
        for source, target in moves:
            sender, taker = self.devices[source].host, self.devices[target].host
            if taker != sender and taker not in self.hosts[sender].told:
                new.setdefault(sender, set()).add(taker)
        for sender, takers in new.items():
            self.hosts[sender].told |= takers
            for taker in takers:
                self.hosts[taker].known_to.add(sender)
            self._tell(sender, takers)

    def moved(self, host: Host, peer: Peer | None, link: str) -> None:
        """A host came or went: clients and those that send to it hear of it, and it hears of those that it sends to.

        It also hears what was lost on its way to it: the commands that wait for that may have been held for it.
        """
        host.peer, host.link = peer, link
        self.effects.append(Located(HostAddress(host.id, link, tuple([device.id for device in host.devices]))))
        for sender in sorted(host.known_to):
            self._tell(sender, (host.id,))
            if self.hosts[sender].state is not HostState.LEAVING:  # Else it may still send.
                self.tell_unsent(self.hosts[sender], (host.id,))
        self._tell(host.id, host.told)

    def tell_unsent(self, host: Host, takers: Iterable[HostId]) -> None:
        """Tell hosts that take shards from one what its ended processes have not sent."""
        island = self.islands[host.island]
        if takers and island.last_loss is not None:
            devices = tuple(device.id for device in host.devices)
            unsent = Unsent(host.id, devices, island.held_since, island.last_loss)
            for taker in sorted(takers):
                self.send_if_up(taker, unsent)

    def send_if_up(self, host: HostId, command: Command) -> None:
        """Append to the log for a host, or nothing if it is not up."""
        if self.hosts[host].state is HostState.UP:
            self.send_now(host, command)

    def _tell(self, sender: HostId, takers: Iterable[HostId]) -> None:
        """Nothing to a host that is not up: it hears of all when it is."""
        if takers:
            self.send_if_up(sender, Peers(tuple(self._peer(self.hosts[taker]) for taker in sorted(takers))))

    def _peer(self, host: Host) -> Peer:
        if host.state is HostState.UP and host.peer is not None:
            return host.peer
        return Peer(host.id, "", tuple(device.id for device in host.devices))

    # --- Towards clients ----------------------------------------------------------------------

    def reply(self, request: Request, result: Result) -> None:
        self.effects.append(Reply(request.session, request.op, result))

    def reply_to(self, session: SessionId, op: int, result: Result) -> None:
        if session in self.sessions:
            self.effects.append(Reply(session, op, result))

    def executed(
        self, request: Execute, status: Handle, future: Future, made: Iterable[tuple[Handle, Value]] = ()
    ) -> None:
        """A program was started: reply, with the handles of what it gives where the client has not made them."""
        if request.fill_status:
            self.session(request).futures[status] = future
        outputs = () if request.results else tuple([Output(handle, value.spec) for handle, value in made])
        self.reply(request, Executed(status if request.fill_status else 0, outputs))

    # --- Devices ------------------------------------------------------------------------------

    def place(self, devices: tuple[DeviceId, ...]) -> tuple[tuple[DeviceId, ...], tuple[HostId, ...]]:
        """The one tuple that stands for this device list (so that `is` compares), and its hosts."""
        known = self._places.get(id(devices))
        if known is not None and known[0] is devices:
            return known
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
            known = self._device_lists[devices] = (devices, self._host_lists.setdefault(hosts, hosts))
            self._places[id(devices)] = known
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
        if self.all_up:
            return
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

    def new_results(self, session: Session, handles: Sequence[Handle], executable: Executable) -> list[Value]:
        """What an execution gives: `new_value` for many at once."""
        arrays = session.arrays
        taken = next(filter(arrays.__contains__, handles), None)
        if taken is not None:
            refuse(Code.ALREADY_EXISTS, f"Array handle {taken} is in use already; each handle names one array.")
        made = [Value(next(self.ids), spec, hosts) for spec, hosts in executable.outputs]
        arrays.update(zip(handles, made, strict=True))
        self.values.update([(value.id, value) for value in made])
        self.made.extend(made)
        return made

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

    def named(self, session: Session, handle: Handle) -> Value:
        """The value under a handle, also one that is deleted or failed."""
        value = session.arrays.get(handle)
        if value is None:
            refuse(Code.NOT_FOUND, f"Array handle {handle} is unknown in this session, or was freed.")
        return value

    def array(self, session: Session, handle: Handle) -> Value:
        """The value under a handle; refuses when it is unknown, deleted or failed."""
        value = self.named(session, handle)
        if value.failure is not None:
            raise Refused(value.failure)
        if value.deleted:
            refuse(Code.INVALID_ARGUMENT, "The array was deleted or donated; keep a copy if you need it later.")
        return value

    def arrays(self, session: Session, handles: Iterable[Handle]) -> list[Value]:
        """`array` for many at once."""
        get = session.arrays.get
        return [
            value
            if (value := get(handle)) is not None and value.failure is None and not value.deleted
            else self.array(session, handle)  # Says what is wrong.
            for handle in handles
        ]

    def delete(self, values: Iterable[Value]) -> None:
        """Mark deleted, with what shares their shards; the caller tells the workers."""
        for value in values:
            value.deleted = True
            if value.shares is not None or value.id in self.sharers:
                shards = set(_shards(value))
                for root in {root for root, _ in shards}:
                    for sharer in (root, *self.sharers.get(root, ())):
                        other = self.values.get(sharer)
                        if other is not None and not other.deleted:
                            other.deleted = not shards.isdisjoint(_shards(other))

    def _share(self, out: Shards) -> None:
        """Note whose shards a new value has."""
        roots: dict[ValueId, dict[DeviceId, ValueId]] = {}
        for name, _ in out.shards:
            if name not in roots:
                roots[name] = {device: root for root, device in _shards(self.values[name])}
        shares = tuple([roots[name][device] for name, device in out.shards])
        self.values[out.out].shares = shares
        for root in set(shares):
            self.sharers.setdefault(root, set()).add(out.out)

    def _drop(self, value: Value) -> bool:
        """Whether it was still held."""
        if self.values.pop(value.id, None) is None:
            return False
        for root in set(value.shares or ()):
            sharers = self.sharers[root]
            sharers.discard(value.id)
            if not sharers:
                del self.sharers[root]
        return True

    def forget(self, values: Iterable[Value], without: HostId | None = None) -> None:
        """Drop values here and on their workers (not on host `without`, which is gone).

        This is the one place that decides when memory is freed: at once. `Forget` has its place in the log where the
        client freed the values, so every later program finds the memory free. Workers were once told after the next
        program instead; that made no step faster (benchmarks/LOG.md, 2026-12-01).
        """
        for hosts, ids in by_hosts([value for value in values if self._drop(value)]):
            rest = hosts if without is None else tuple([host for host in hosts if host != without])
            self.send(rest, Forget(ids))

    def fail(self, values: Iterable[Value], failure: Failure, without: HostId | None = None) -> None:
        """Turn values into a failure, unless they are one, and forget what is left of them (see `forget`)."""
        failed = list(values)
        for value in failed:
            value.failure = value.failure or failure
        self.forget(failed, without)
        for value in failed:
            value.hosts = ()

    def load(
        self, request: Request, name: str, devices: tuple[DeviceId, ...], does: CompileReshard | Wanted | Given
    ) -> Executable:
        """Answer with a program that runs nowhere: what it does is known to the controller alone."""
        session = self.session(request)
        info = ProgramInfo(name, devices, ())
        executable = Executable(next(self.ids), (), info=info, does=does)
        self.executables[executable.id] = executable
        handle, ready = self.server_handle(session), self.server_handle(session)
        session.executables[handle] = executable
        session.futures[ready] = Future()
        self.reply(request, Loaded(handle, info, ready))
        return executable

    def have_loaded(self, executable: Executable) -> None:
        """Have the workers load a program again that was lost with a process: what is sent next may run it."""
        if not executable.loaded and executable.source is not None:
            self.available(executable.hosts)
            executable.loaded = True
            self.send(executable.hosts, executable.source)

    def unload(self, executable: Executable) -> None:
        loaded = self.executables.pop(executable.id, None) is not None and executable.loaded
        if loaded:
            self.send(executable.hosts, Unload(executable.id))
        if executable.source is None or executable.source.callbacks is None:
            return
        hosts = set(executable.hosts) if loaded else set[HostId]()
        self.unloading[executable.id] = Unloading(executable.source.callbacks, hosts)
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


def _shards(value: Value) -> Iterable[tuple[ValueId, DeviceId]]:
    """Its shards: the value that each was made with, and the device."""
    devices = value.spec.sharding.devices
    return zip(value.shares or (value.id,) * len(devices), devices, strict=True)


def by_hosts(values: Iterable[Value]) -> list[tuple[tuple[HostId, ...], tuple[ValueId, ...]]]:
    """The values by the hosts that they are on. (One tuple stands for each set of hosts, and is not hashed.)"""
    groups: dict[int, tuple[tuple[HostId, ...], list[ValueId]]] = {}
    for value in values:
        if not (hosts := value.hosts):
            continue
        group = groups.get(id(hosts))
        if group is None:
            group = groups[id(hosts)] = (hosts, [])
        group[1].append(value.id)
    return [(hosts, tuple(ids)) for hosts, ids in groups.values()]


def union(hosts: Iterable[tuple[HostId, ...]]) -> tuple[HostId, ...]:
    """All hosts of some groups; most often there is but one, however often it is named."""
    groups = {id(group): group for group in hosts if group}
    if len(groups) == 1:
        return next(iter(groups.values()))
    return tuple(sorted({host for group in groups.values() for host in group}))
