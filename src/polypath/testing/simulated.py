"""A cluster without processes: the real controller over workers that only keep books.

For tests of the controller and of what stands on it. Nothing happens by itself: commands and
reports wait in queues until `deliver()` is called, so that a test chooses the order. A worker
fails the test when a command names something that it cannot have.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Sequence
from typing import Final

import msgspec

from polypath import messages
from polypath.controller import events
from polypath.controller.controller import Controller
from polypath.controller.events import AnyEvent, Effect, Result
from polypath.messages import AnyReport, Command
from polypath.types import (
    ArraySpec,
    Device,
    DeviceId,
    ExecutableId,
    HostId,
    IslandId,
    Platform,
    ProgramInfo,
    SessionId,
    Sharding,
    ValueId,
)

_ANSWERS: Final[dict[type[messages.Command], bytes]] = {
    messages.CostAnalysis: msgspec.msgpack.encode({"flops": 1.0}),
    messages.ProgramText: b"HloModule simulated",
}


class SimulatedWorker:
    """One host: which values and executables it has, and what it would answer."""

    def __init__(self, host: HostId, island: IslandId, devices: Sequence[DeviceId]) -> None:
        self.host = host
        self.island = island
        self.devices = frozenset(devices)
        self.values: set[ValueId] = set()
        self.executables: set[ExecutableId] = set()
        self.commands: collections.deque[Command] = collections.deque()
        self.told: list[tuple[HostId, int, int]] = []
        """The requests on clients' links that it did its part of, and how many hosts do."""

    def joined(self) -> messages.Joined:
        described = tuple(
            Device(device, self.host, self.island, index, "cpu", "cpu", ("device",), {})
            for index, device in enumerate(sorted(self.devices))
        )
        return messages.Joined(
            self.host,
            1000 + self.host,
            Platform("cpu", "simulated", "0", {}),
            described,
            messages.Peer(self.host, f"sim:{self.host}"),
            f"unix:{self.host}",
            tuple(self.values),
        )

    def apply(self, outputs: int) -> list[AnyReport]:
        """Take the next command. `outputs` is how many results a program compiled now has."""
        match command := self.commands.popleft():
            case messages.Put(out=out, buffers=buffers):
                assert all(set(b.devices) <= self.devices for b in buffers), "bytes for another host's device"
                self.values.add(out)
            case messages.Rebind(outs=outs):
                for shards in outs:
                    mine = [value for value, device in shards.shards if device in self.devices]
                    self._need(*mine)
                    if mine:
                        self.values.add(shards.out)
            case messages.Copy(value=value, out=out, pairs=pairs):
                if any(source in self.devices for source, _ in pairs):
                    self._need(value)
                if any(target in self.devices for _, target in pairs):
                    self.values.add(out)
            case messages.Reshard(value=value, out=out, targets=targets):
                if any(piece.source in self.devices for target in targets for piece in target.pieces):
                    self._need(value)
                if any(target.device in self.devices for target in targets):
                    self.values.add(out)
            case messages.Bitcast(value=value, out=out):
                self._make(out, value)
            case messages.Execute(executable=executable, args=args, outs=outs, status=status):
                assert executable in self.executables, f"host {self.host} has no executable {executable}"
                self._need(*args)
                self.values.update(outs, (status,) if status else ())
            case messages.Delete():
                pass  # What is gone has no buffers, and what is deleted has an id still.
            case messages.Forget(values=values):
                self.values.difference_update(values)
            case messages.Compile(executable=executable, devices=devices):
                self.executables.add(executable)
                return [messages.Compiled((self.host,), executable, _program(devices, outputs))]
            case messages.Unload(executable=executable):
                self.executables.discard(executable)
            case messages.Fetch(request=request, value=value, device=device):
                self._need(value)
                assert device in self.devices, f"host {self.host} was asked for device {device}"
                return [messages.Fetched(self.host, request, messages.Memory(memoryview(b"%d" % value)))]
            case messages.Take(out=out):
                self._make(out)
                self.told.append((self.host, command.number, command.of))
            case messages.Await(request=request, values=values):
                assert self.values.intersection(values), f"host {self.host} has none of {values}"
                return [messages.Ready((self.host,), request, None)]
            case messages.Deliver(what=what):
                self._deliver(what)
                self.told.append((self.host, command.number, command.of))
            case messages.CostAnalysis() | messages.ProgramText():
                return [messages.Answered(self.host, command.request, messages.Inline(_ANSWERS[type(command)]))]
            case messages.Snapshot():
                return [messages.Left(self.host, tuple(self.values))]
            case _:
                assert isinstance(command, messages.Peers | messages.Return | messages.Unsent), (
                    f"{command} is not simulated"
                )
        return []

    def _deliver(self, what: messages.Delivery) -> None:
        match what:
            case messages.Computed(values=values):
                assert self.values.intersection(values), f"host {self.host} has none of {values}"
            case messages.SmallShard(value=value, device=device) | messages.ShardAddress(value=value, device=device):
                assert device in self.devices, f"host {self.host} was asked for device {device}"
                self._need(value)
            case messages.WholeArray(value=value, boxes=boxes):
                assert any(device in self.devices for device, _ in boxes), f"host {self.host} has nothing to send"
                self._need(value)
            case messages.ArraysTogether(parts=parts):
                mine = [part.value for part in parts if part.device in self.devices]
                assert mine, f"host {self.host} has nothing to send"
                self._need(*mine)

    def _make(self, out: ValueId, *values: ValueId) -> None:
        self._need(*values)
        self.values.add(out)

    def _need(self, *values: ValueId) -> None:
        missing = set(values) - self.values
        assert not missing, f"host {self.host} has no values {sorted(missing)}"


class SimulatedCluster:
    """The controller and its simulated workers.

    `replies` holds what clients were answered, by (session, op).
    """

    def __init__(self, hosts: int = 2, devices_per_host: int = 2, islands: int = 1) -> None:
        size = hosts // islands
        self._per_host = devices_per_host
        self.controller = Controller([range(at, at + size) for at in range(0, hosts, size)], "snapshots")
        self.workers: dict[HostId, SimulatedWorker] = {}
        self.starting: list[SimulatedWorker] = []
        """Workers whose processes run, but which have not joined."""
        self.replies: dict[tuple[SessionId, int], Result] = {}
        self.told: list[tuple[HostId, int, int]] = []
        """Who did its part of which request on a client's link, and how many are to."""
        self.unanswerable: list[tuple[str, int]] = []
        """Those that no worker will answer, by the name of the client's links."""
        self.located: dict[HostId, str] = {}
        """Where clients know that hosts take links."""
        self.ended: collections.Counter[HostId] = collections.Counter()
        """How often clients' links to a host have ended."""
        self.outputs = 1
        self._snapshots: dict[HostId, SimulatedWorker] = {}
        self._ops = itertools.count(1)
        self._last_sequence = 0
        self._do(self.controller.start())

    @property
    def devices(self) -> tuple[DeviceId, ...]:
        """All of the cluster's, whether up or not."""
        return tuple(sorted(d for worker in [*self.workers.values(), *self.starting] for d in worker.devices))

    def up(self) -> None:
        """Let every worker that starts join, and all queues run empty."""
        while self.starting or any(worker.commands for worker in self.workers.values()):
            while self.starting:
                self.join()
            self.settle()

    def join(self) -> None:
        """Let the next starting worker join."""
        worker = self.starting.pop(0)
        self.workers[worker.host] = worker
        self.handle(worker.joined())

    def settle(self) -> None:
        """Deliver commands until there are none."""
        while any(self.deliver(host) for host in list(self.workers)):
            pass

    def deliver(self, host: HostId) -> bool:
        """Let one worker take its next command; False if it has none."""
        worker = self.workers.get(host)
        if worker is None or not worker.commands:
            return False
        for report in worker.apply(self.outputs):
            self.handle(report)
            if isinstance(report, messages.Left):
                self._snapshots[host] = self.workers.pop(host)
                self.handle(events.WorkerLost(host, "exited with status 0"))
        return True

    def kill(self, host: HostId) -> None:
        """Lose a worker with all that is in its queues."""
        if self.workers.pop(host, None) is None:
            self.starting = [worker for worker in self.starting if worker.host != host]
        self.handle(events.WorkerLost(host, "killed by SIGKILL"))

    def op(self) -> int:
        """A new number for a request."""
        return next(self._ops)

    def handle(self, event: AnyEvent) -> None:
        """Give the controller an event, and do what it wants."""
        self._do(self.controller.handle(event))
        self.controller.check()

    def _do(self, effects: list[Effect]) -> None:
        stopped: list[HostId] = []
        for effect in effects:
            match effect:
                case events.Send(hosts=hosts, sequence=sequence, command=command):
                    assert sequence > self._last_sequence, "the log went backwards"
                    self._last_sequence = sequence
                    for host in hosts:
                        self.workers[host].commands.append(command)
                case events.Reply(session=session, op=op, result=result):
                    assert (session, op) not in self.replies, f"op {op} was answered twice"
                    self.replies[session, op] = result
                case events.Start(island=island, hosts=hosts, snapshots=snapshots):
                    for host in hosts:
                        self.starting.append(self._started(host, island, host in snapshots))
                case events.Stop(host=host):
                    stopped.append(host)  # Ended a little later, as a process would be.
                case events.Unanswerable(link=link, number=number):
                    self.unanswerable.append((link, number))
                case events.Located(host=at):
                    self.ended[at.host] += bool(self.located.get(at.host)) and not at.address
                    self.located[at.host] = at.address
                case events.Call() | events.Release():
                    pass
        for host in stopped:
            self.kill(host)

    def _started(self, host: HostId, island: IslandId, restored: bool) -> SimulatedWorker:
        first = host * self._per_host
        worker = SimulatedWorker(host, island, range(first, first + self._per_host))
        worker.told = self.told
        if restored:
            worker.values = self._snapshots[host].values
        return worker


def _program(devices: tuple[DeviceId, ...], outputs: int) -> ProgramInfo:
    spec = ArraySpec("float32", (8,), Sharding(devices, fully_replicated=True))
    return ProgramInfo("simulated", devices, (spec,) * outputs)
