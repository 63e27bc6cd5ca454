"""Simulated hosts: those below one relay share the relay's process (`polypath.worker.simulated`).

That process is told by lines on its stdin which hosts to start and to end. It says over the transport which
have ended, after all that these reported.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import final

import msgspec

from polypath.errors import ClusterError
from polypath.launch import processes
from polypath.launch.base import RelaySpec, WorkerExit, WorkerSpec
from polypath.launch.local import LocalLauncher
from polypath.launch.processes import Child
from polypath.types import HostId, IslandId
from polypath.worker.config import HostEnded, HostOrder


@final
class SimulatedLauncher(LocalLauncher):
    """Starts hosts within the processes of their relays."""

    def __init__(
        self,
        on_exit: Callable[[WorkerExit], None],
        on_relay_exit: Callable[[int, str], None] = lambda _, __: None,
        *,
        log_dir: Path,
    ) -> None:
        super().__init__(on_exit, on_relay_exit, log_dir=log_dir)
        self._places: dict[HostId, Child] = {}
        """The process that a host runs in, or would."""
        self._running: dict[HostId, tuple[int, Child]] = {}
        """By host, the number of its start, and where it runs."""
        self._numbers = itertools.count(1)

    async def start(
        self, island: IslandId, specs: Sequence[WorkerSpec], rendezvous: bytes | None = None
    ) -> dict[HostId, int]:
        pids: dict[HostId, int] = {}
        orders: dict[Child, list[bytes]] = {}
        for spec in specs:
            place = self._places.get(spec.host)
            if place is None:
                raise ClusterError(f"Host {spec.host} has no process to run in: its relay ended; start it again.")
            number = next(self._numbers)
            self._running[spec.host] = number, place
            order = HostOrder(number, spec.host, msgspec.Raw(spec.config))
            orders.setdefault(place, []).append(msgspec.json.encode(order))
            pids[spec.host] = place.process.pid
        # On threads: more than a pipe holds, for a process that has much to tell us meanwhile.
        tell = [asyncio.to_thread(processes.tell, place.process, b"\n".join(lines)) for place, lines in orders.items()]
        await asyncio.gather(*tell)
        return pids

    async def start_relay(self, spec: RelaySpec) -> None:
        if not spec.hosts:
            await super().start_relay(spec)
            return
        child = self._relays[spec.relay] = self.spawn_relay(spec, "polypath.worker.simulated")
        self._places.update(dict.fromkeys(spec.hosts, child))

    async def kill(self, host: HostId, cause: str = "") -> None:
        if (running := self._running.get(host)) is not None:
            number, place = running
            # On a thread: the process may be stopped, and its pipe full.
            await asyncio.to_thread(processes.tell, place.process, msgspec.json.encode(HostOrder(number, host)))

    def relay_ended(self, relay: int, child: Child) -> None:
        self._places = {host: place for host, place in self._places.items() if place is not child}
        for host in [host for host, (_, place) in self._running.items() if place is child]:
            self._ended(host, child, child.process.returncode, child.cause())
        super().relay_ended(relay, child)

    def told_of_end(self, host: HostId, words: bytes) -> None:
        told = msgspec.json.decode(words, type=HostEnded)
        number, place = self._running.get(host, (0, None))
        if place is not None and number == told.number:
            self._ended(host, place, told.status, told.cause)

    def _ended(self, host: HostId, place: Child, status: int, cause: str) -> None:
        del self._running[host]
        if place.wanted:
            self.on_exit(WorkerExit(host, place.process.pid, status, cause))
