"""The apply loop: takes commands in the order of the log and applies them, one after another.

It never waits for a device, only where `Waits` allows it. What takes long runs beside it:
compiling, answering `Fetch` and `Await`, sending to clients, moving shards over host memory. Failures become
values and reports; none ends the loop.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from polypath import messages as m
from polypath.link.worker import LinkServer
from polypath.types import ExecutableId, Failure, ProgramKind, ValueId
from polypath.worker import host, protos, snapshot
from polypath.worker.arrivals import Arrivals
from polypath.worker.callbacks import HostCallbacks
from polypath.worker.config import WorkerConfig
from polypath.worker.deliveries import Deliveries
from polypath.worker.execution import Executions
from polypath.worker.executors.base import Executor, Program, Runner
from polypath.worker.failures import WorkerFailure, failure_of
from polypath.worker.lanes import Lanes
from polypath.worker.peers import PeerLink, PeerPost
from polypath.worker.plugins.runner import Plugins
from polypath.worker.programs import Programs
from polypath.worker.questions import Handler, Questions
from polypath.worker.readiness import Readiness
from polypath.worker.store import Shard, Store, Value
from polypath.worker.transfers import Transfers
from polypath.worker.waits import Pending, Waits

_log = logging.getLogger(__name__)


class Channel(Protocol):
    """The transport, as seen by a worker."""

    @property
    def peers(self) -> PeerLink: ...

    def receive(self) -> m.Command:
        """The next command; waits for it. Only `run` calls it."""
        ...

    def send(self, report: m.Report) -> None:
        """Send without waiting, from any thread."""
        ...


class Worker:
    """One host's part of its island."""

    def __init__(
        self,
        config: WorkerConfig,
        channel: Channel,
        executor: Executor,
        waits: Waits,
        links: LinkServer,
        compilers: ThreadPoolExecutor | None = None,
    ) -> None:
        """`links` and `compilers` (threads) may be shared with other workers of the process."""
        self._config = config
        self._host = config.host
        self._channel = channel
        self._executor = executor
        self._waits = waits
        self.store: Final = Store()
        self._post = PeerPost(channel.peers, lambda to, reason: channel.send(m.Undelivered(config.host, to, reason)))
        self._lanes = Lanes()
        self._transfers = Transfers(executor, self.store, self._post, waits, self._lanes)
        self._link = links.address
        clients = links.serve(config.host)
        local = {device.id for device in executor.devices}
        readiness = Readiness(executor, self.store)
        deliveries = Deliveries(executor, self.store, readiness, self._transfers, clients, self._report_failed)
        arrivals = Arrivals(executor, self.store, waits, clients, self._report_failed)
        self._callbacks = HostCallbacks(config.host, channel.send)
        executor.callbacks = self._callbacks
        self._runners: dict[ProgramKind, Runner] = {"xla": executor}
        if executor.python is not None:
            self._runners["python"] = executor.python
        if config.platform != "null":
            self._runners["plugin"] = Plugins(config.host, executor)
        self._programs = Programs(config.host, local, self._runners, channel.send, self._lanes, waits, compilers)
        self.programs: Final[dict[ExecutableId, Program]] = self._programs.loaded
        self._questions = Questions(config, channel.send, executor, self.store, readiness, self._programs)
        self._executions = Executions(
            self._runners,
            self._programs,
            self.store,
            self._lanes,
            waits,
            self._report_failed,
            in_order=executor.platform.name != "cpu",
        )
        self._local = local
        store = self.store
        self.handlers: dict[type[m.Command], Handler] = {
            m.Execute: self._executions.execute,
            m.Put: self._making(self._put),
            m.Rebind: self._rebind,
            m.Copy: self._making(self._transfers.copy),
            m.Reshard: self._making(self._transfers.reshard),
            m.Bitcast: self._making(self._transfers.bitcast),
            m.Deliver: deliveries.deliver,
            m.Take: arrivals.take,
            m.Delete: self._delete,
            m.Forget: lambda command: store.forget(command.values),
            m.Compile: self._programs.compile,
            m.Unload: lambda command: self._programs.unload(command.executable),
            m.Return: self._callbacks.returned,
            **self._questions.handlers(),
            m.Peers: lambda command: self._post.connect(command.peers),
            m.Unsent: self._post.give_up,
        }
        """As `store`, `programs` and `busy`, for who applies commands to many workers. One worker takes its own."""

    @property
    def busy(self) -> bool:
        """Whether programs run beside the log."""
        return self._lanes.busy

    def run(self) -> None:
        """Join, and apply commands until one ends the worker."""
        self.join()
        while self.take(self._channel.receive()):
            pass

    def take(self, command: m.Command) -> bool:
        """Apply any command; False if it ended the worker."""
        if isinstance(command, m.Snapshot):
            self._leave(command)
            return False
        answer = self.handlers[type(command)](command)
        if answer is not None:
            self._channel.send(answer)
        return True

    def take_out_of_turn(self, command: m.OutOfTurn) -> None:
        """Take what ends waits, also while a command is being applied that waits."""
        self.handlers[type(command)](command)

    def cancel(self, reason: str) -> None:
        """End every wait of the apply loop; from any thread."""
        self._waits.cancel(reason)

    # --- Values

    def _fail(self, values: Iterable[ValueId], failure: Failure) -> None:
        values = tuple(values)
        self.store.fail(values, failure)
        self._report_failed(values, failure)

    def _report_failed(self, values: Iterable[ValueId], failure: Failure, stranded: bool = False) -> None:
        self._channel.send(m.Failed(self._host, tuple(values), failure, stranded))

    def _making(self, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        def handle(command: Any) -> None:
            try:
                handler(command)
            except Exception as error:
                self._fail((command.out,), failure_of(error))

        return handle

    def _put(self, command: m.Put) -> None:
        shards: dict[int, Shard] = {}
        layout = None if command.layout is None else protos.minor_to_major(command.layout)
        for buffer in command.buffers:
            mine = [device for device in buffer.devices if device in self._local]
            if not mine:
                continue
            if command.dtype in host.OPAQUE:
                data = bytes(buffer.data)
                shards.update(dict.fromkeys(mine, data))
                continue
            array = host.array_of(buffer, command.dtype)
            for device in mine:
                shards[device] = self._executor.put(array, device, command.memory_kind, layout)
        self.store.extend(command.out, shards)

    def _rebind(self, command: m.Rebind) -> None:
        for out in command.outs:
            try:
                shards = {
                    device: self.store.get(value).peek(device) for value, device in out.shards if device in self._local
                }
            except WorkerFailure as error:
                self._fail((out.out,), error.failure)
            else:
                self.store.set(out.out, Value(shards))

    def _delete(self, command: m.Delete) -> None:
        for name in command.values:
            try:
                value = self.store.get(name)
            except WorkerFailure:
                continue  # What failed or is gone has no buffers.
            self.store.mark_deleted(name)
            # What was started before and has not come to it may still read it.
            self._lanes.after_all(partial(self._free, value.pieces()))

    def _free(self, parts: list[Shard | Pending]) -> None:
        for part in parts:
            if not isinstance(part, bytes | Pending):
                self._executor.delete(part)

    # --- Beginning and end

    def join(self) -> None:
        """Report that this worker is up, with what its snapshot held."""
        if self._config.snapshot:
            snapshot.load(Path(self._config.snapshot), self.store, self._executor)
        devices = self._executor.devices
        peer = msgspec.structs.replace(self._channel.peers.me, devices=tuple(device.id for device in devices))
        self._channel.send(
            m.Joined(
                host=self._host,
                pid=os.getpid(),
                platform=self._executor.platform,
                devices=devices,
                peer=peer,
                link=self._link,
                values=tuple(name for name, _ in self.store.items()),
            )
        )

    def _leave(self, command: m.Snapshot) -> None:
        try:
            written = snapshot.save(
                Path(command.path), list(self.store.items()), self._executor, self._waits, command.patience
            )
        except OSError as error:
            _log.warning("The snapshot %s cannot be written (%s): its values are lost.", command.path, error)
            written = ()
        self._questions.close()
        self._channel.send(m.Left(self._host, written))
