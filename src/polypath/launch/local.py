"""Workers and relays as child processes on this machine.

Owns the processes: each gets its config through stdin and writes to `<log_dir>/worker-<host>.log` or
`<log_dir>/relay-<number>.log`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from polypath.errors import ClusterError
from polypath.files import sentence
from polypath.launch import processes
from polypath.launch.base import Launcher, RelaySpec, WorkerExit, WorkerSpec
from polypath.launch.processes import Child
from polypath.transport.frames import FIRST_RELAY
from polypath.types import HostId, IslandId

STOP_GRACE: Final = 5.0
"""Seconds that a worker gets to end after SIGTERM."""

_NOT_INHERITED: Final = (
    "IFRT_PROXY_",
    "JAX_BACKEND_TARGET",
    "JAX_COORDINATOR_",
    "JAX_LOCAL_DEVICE_IDS",
    "JAX_NUM_CPU_DEVICES",
    "JAX_NUM_PROCESSES",
    "JAX_PLATFORM",
    "JAX_PROCESS_ID",
)
_HUGE_PAGES: Final = "glibc.malloc.hugetlb=1"
"""XLA's CPU programs get fresh memory at each start, and small pages of it cost up to a fourth of their time."""
_DEVICE_COUNT_FLAG: Final = "--xla_force_host_platform_device_count"


def worker_environment(environ: Mapping[str, str], platform: str | None) -> dict[str, str]:
    """The user's environment, less what would make a worker a client or change its devices."""
    env = {key: value for key, value in environ.items() if not key.startswith(_NOT_INHERITED)}
    if flags := env.pop("XLA_FLAGS", None):
        kept = [flag for flag in flags.split() if not flag.startswith(_DEVICE_COUNT_FLAG)]
        if kept:
            env["XLA_FLAGS"] = " ".join(kept)
    if platform:
        env["JAX_PLATFORMS"] = platform
    env.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    tunables = env.get("GLIBC_TUNABLES", "")
    if _HUGE_PAGES.partition("=")[0] not in tunables:
        env["GLIBC_TUNABLES"] = f"{tunables}:{_HUGE_PAGES}".removeprefix(":")
    env["PYTHONUNBUFFERED"] = "1"
    return env


def _why(error: OSError) -> str:
    if error.filename:
        return sentence(error)
    return f"{error.strerror or error}; free memory or processes on this machine, or start fewer hosts."


async def _kill(child: Child | None, cause: str) -> None:
    if child is not None:
        child.killed_for = child.killed_for or cause
        child.process.kill()
        await child.gone.wait()


class LocalLauncher(Launcher):
    """Workers on this machine."""

    def __init__(
        self,
        on_exit: Callable[[WorkerExit], None],
        on_relay_exit: Callable[[int, str], None] = lambda _, __: None,
        *,
        log_dir: Path,
        platform: str | None = None,
        module: str = "polypath.worker",
        rendezvous: str = "polypath.worker.rendezvous",
        environ: Mapping[str, str] = os.environ,
        grace: float = STOP_GRACE,
    ) -> None:
        super().__init__(on_exit, on_relay_exit)
        self._log_dir = log_dir
        self._environment = worker_environment(environ, platform)
        self._module = module
        self._rendezvous = rendezvous
        self._services: dict[IslandId, Child] = {}
        self._islands: dict[HostId, IslandId] = {}
        self._grace = grace
        self._workers: dict[HostId, Child] = {}
        self._relays: dict[int, Child] = {}

    async def start(
        self, island: IslandId, specs: Sequence[WorkerSpec], rendezvous: bytes | None = None
    ) -> dict[HostId, int]:
        old = [self._workers[spec.host] for spec in specs if spec.host in self._workers]
        await processes.end(old, self._grace)
        await self._end_services([island])
        pids: dict[HostId, int] = {}
        try:
            if rendezvous is not None:
                self._services[island] = self._spawn_service(island, rendezvous)
            for spec in specs:
                self._islands[spec.host] = island
                pids[spec.host] = self._spawn(spec)
        except OSError as error:
            await processes.end([self._workers[host] for host in pids], self._grace)
            raise ClusterError(f"Island {island}'s workers could not be started: {_why(error)}") from error
        return pids

    async def start_relay(self, spec: RelaySpec) -> None:
        self._relays[spec.relay] = self.spawn_relay(spec, "polypath.transport.relay")

    async def kill(self, host: HostId, cause: str = "") -> None:
        await _kill(self._workers.get(host), cause)

    async def kill_relay(self, relay: int, cause: str) -> None:
        await _kill(self._relays.get(relay), cause)

    async def stop(self) -> None:
        await processes.end([*self._workers.values(), *self._relays.values()], self._grace)
        await self._end_services(list(self._services))

    def spawn_relay(self, spec: RelaySpec, module: str) -> Child:
        """Start a module as this relay.

        Raises:
            ClusterError: it could not be started.
        """
        log = self._log_dir / f"relay-{spec.relay - FIRST_RELAY}.log"
        try:
            return Child(module, log, self._environment, spec.link, partial(self.relay_ended, spec.relay))
        except OSError as error:
            raise ClusterError(f"A relay could not be started: {_why(error)}") from error

    def relay_ended(self, relay: int, child: Child) -> None:
        """Called once a relay's process is gone."""
        if self._relays.get(relay) is child:
            del self._relays[relay]
        if child.wanted:
            self.on_relay_exit(relay, child.cause())

    def through(self, host: HostId) -> Sequence[str]:
        """A command through which a host's worker is started and which becomes it, such as `ip netns exec NAME`."""
        del host
        return ()

    def _spawn_service(self, island: IslandId, config: bytes) -> Child:
        log = self._log_dir / f"rendezvous-{island}.log"
        return Child(self._rendezvous, log, self._environment, config, partial(self._service_ended, island))

    async def _end_services(self, islands: Sequence[IslandId]) -> None:
        services = [self._services.pop(island) for island in islands if island in self._services]
        await processes.end(services, self._grace)

    def _service_ended(self, island: IslandId, service: Child) -> None:
        """Without it the island's workers can form no group, and would wait for it."""
        if service.wanted:
            for host, worker in self._workers.items():
                if self._islands[host] == island:
                    worker.process.kill()

    def _spawn(self, spec: WorkerSpec) -> int:
        log = self._log_dir / f"worker-{spec.host}.log"
        ended = partial(self._worker_ended, spec.host)
        worker = self._workers[spec.host] = Child(
            self._module, log, self._environment, spec.config, ended, self.through(spec.host)
        )
        return worker.process.pid

    def _worker_ended(self, host: HostId, worker: Child) -> None:
        del self._workers[host]
        if worker.wanted:
            process, service, cause = worker.process, self._services.get(self._islands[host]), worker.cause()
            if service is not None and service.gone.is_set():
                cause = f"lost its island's rendezvous ({service.cause()})"
            self.on_exit(WorkerExit(host, process.pid, process.returncode, cause))
