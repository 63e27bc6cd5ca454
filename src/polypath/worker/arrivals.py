"""Arrays that clients send this worker over their links.

Whoever applies the command goes on at once. Each shard is pending until it has come, which may have been before.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from polypath.link.worker import ClientLinks, Pushed
from polypath.messages import Take
from polypath.types import DeviceId, Failure
from polypath.worker.execution import Fail
from polypath.worker.executors.base import Executor
from polypath.worker.failures import failure_of
from polypath.worker.host import numpy_dtype
from polypath.worker.store import Shard, Store, Value
from polypath.worker.waits import Countdown, Pending, Waits


class Arrivals:
    """The handler of `Take`."""

    def __init__(self, executor: Executor, store: Store, waits: Waits, links: ClientLinks, report_failed: Fail) -> None:
        self._executor = executor
        self._store = store
        self._waits = waits
        self._links = links
        self._report_failed = report_failed
        self._local = {device.id for device in executor.devices}

    def take(self, command: Take) -> None:
        """Have the client's shards put on this worker's devices as they come."""
        groups: list[tuple[tuple[int, ...], dict[DeviceId, Pending]]] = []
        shards: dict[DeviceId, Shard | Pending] = {}
        for devices, shape in command.shards:
            group = {device: Pending(self._waits) for device in devices if device in self._local}
            if group:
                groups.append((shape, group))
                shards.update(group)
        self._store.set(command.out, Value(shards))
        failures: list[Failure] = []
        arrival = Countdown(len(groups), partial(self._end, command, failures))
        for shape, group in groups:
            came = partial(self._came, command, arrival, failures, shape, group)
            self._links.claim(command.session, command.number, group, came)

    def _came(
        self,
        command: Take,
        arrival: Countdown,
        failures: list[Failure],
        shape: tuple[int, ...],
        group: dict[DeviceId, Pending],
        pushed: Pushed,
    ) -> None:
        """From the apply loop where the shard was here, else from the link's thread."""
        made = self._put(command, shape, group, pushed)
        for device, pending in group.items():
            pending.resolve(made if isinstance(made, Failure) else made[device])
        if isinstance(made, Failure):
            failures.append(made)
        arrival.one_came()

    def _end(self, command: Take, failures: list[Failure]) -> None:
        if not failures:
            self._links.done(command.session, command.number, command.of)
        else:
            # Also for the other hosts, which would run programs with their part of it.
            self._report_failed((command.out,), failures[0], False)
            self._links.failed(command.session, command.number)

    def _put(
        self, command: Take, shape: tuple[int, ...], group: dict[DeviceId, Pending], pushed: Pushed
    ) -> dict[DeviceId, Shard] | Failure:
        if isinstance(pushed, Failure):
            return pushed
        try:
            array = np.frombuffer(pushed, numpy_dtype(command.dtype)).reshape(shape)
            return {device: self._executor.put(array, device, command.memory_kind, None) for device in group}
        except Exception as error:
            return failure_of(error)
