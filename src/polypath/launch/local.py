"""Workers as child processes on this machine.

Owns the processes: each gets its config through stdin, which stays open (its end tells the
worker that the head is gone; the kernel kills the worker should it not listen), and writes to
`<log_dir>/worker-<host>.log`. Exits are seen through pidfds, without polling.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, final

from polypath.errors import ClusterError
from polypath.launch.base import Launcher, WorkerExit, WorkerSpec
from polypath.processes import describe_exit, last_words
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
    env["PYTHONUNBUFFERED"] = "1"
    return env


class _Worker:
    """One process, from start to `gone`."""

    def __init__(self, spec: WorkerSpec, process: subprocess.Popen[bytes], log: Path, offset: int) -> None:
        self.host = spec.host
        self.process = process
        self.pidfd = os.pidfd_open(process.pid)
        self.log = log
        self.offset = offset
        self.wanted = True
        """Whether its end is news."""
        self.gone = asyncio.Event()

    def cause(self) -> str:
        status = self.process.returncode
        # Of a process that was killed from outside, the last line tells nothing.
        told = status != 0 and -status not in (signal.SIGKILL, signal.SIGTERM)
        words = last_words(self.log, self.offset) if told else ""
        return describe_exit(status) + (f"; its last words: {words}" if words else "")


@final
class LocalLauncher(Launcher):
    """Workers on this machine."""

    def __init__(
        self,
        on_exit: Callable[[WorkerExit], None],
        *,
        log_dir: Path,
        platform: str | None = None,
        module: str = "polypath.worker",
        rendezvous: str = "polypath.worker.rendezvous",
        environ: Mapping[str, str] = os.environ,
        grace: float = STOP_GRACE,
    ) -> None:
        super().__init__(on_exit)
        self._log_dir = log_dir
        self._environment = worker_environment(environ, platform)
        # Without -P the folder that the user happens to be in could shadow modules.
        self._child = (sys.executable, "-P", "-m", "polypath.launch.child", str(os.getpid()))
        self._module = module
        self._rendezvous = rendezvous
        self._services: dict[IslandId, subprocess.Popen[bytes]] = {}
        self._grace = grace
        self._workers: dict[HostId, _Worker] = {}

    async def start(
        self, island: IslandId, specs: Sequence[WorkerSpec], rendezvous: bytes | None = None
    ) -> dict[HostId, int]:
        old = [self._workers[spec.host] for spec in specs if spec.host in self._workers]
        await self._end(old)
        self._end_service(island)
        pids: dict[HostId, int] = {}
        try:
            if rendezvous is not None:
                self._services[island] = self._spawn_service(island, rendezvous)
            for spec in specs:
                pids[spec.host] = self._spawn(spec)
        except OSError as error:
            await self._end([self._workers[host] for host in pids])
            raise ClusterError(
                f"Island {island}'s workers could not be started ({error.strerror or error}): free memory or "
                "processes on this machine, or start fewer hosts."
            ) from error
        return pids

    async def kill(self, host: HostId) -> None:
        if worker := self._workers.get(host):
            worker.process.kill()
            await worker.gone.wait()

    async def stop(self) -> None:
        await self._end(list(self._workers.values()))
        for island in list(self._services):
            self._end_service(island)

    def _spawn_service(self, island: IslandId, config: bytes) -> subprocess.Popen[bytes]:
        process = self._popen(self._rendezvous, self._log_dir / f"rendezvous-{island}.log")
        _tell(process, config)
        return process

    def _end_service(self, island: IslandId) -> None:
        """It holds nothing that has to be put away."""
        if (process := self._services.pop(island, None)) is not None:
            process.kill()
            process.wait()
            _close(process)

    def _spawn(self, spec: WorkerSpec) -> int:
        log = self._log_dir / f"worker-{spec.host}.log"
        offset = log.stat().st_size if log.exists() else 0
        process = self._popen(self._module, log)
        worker = _Worker(spec, process, log, offset)
        self._workers[spec.host] = worker
        asyncio.get_running_loop().add_reader(worker.pidfd, self._reap, worker)
        _tell(process, spec.config)
        return process.pid

    def _popen(self, module: str, log: Path) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                (*self._child, module),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the head, which ends workers in order.
            )

    def _reap(self, worker: _Worker) -> None:
        """Called by the loop once the process has ended."""
        asyncio.get_running_loop().remove_reader(worker.pidfd)
        os.close(worker.pidfd)
        worker.process.wait()
        _close(worker.process)
        del self._workers[worker.host]
        worker.gone.set()
        if worker.wanted:
            process = worker.process
            self.on_exit(WorkerExit(worker.host, process.pid, process.returncode, worker.cause()))

    async def _end(self, workers: Iterable[_Worker]) -> None:
        workers = list(workers)
        for worker in workers:
            worker.wanted = False
            worker.process.terminate()
        try:
            async with asyncio.timeout(self._grace):
                for worker in workers:
                    await worker.gone.wait()
        except TimeoutError:
            for worker in workers:
                worker.process.kill()
            for worker in workers:
                await worker.gone.wait()


def _tell(process: subprocess.Popen[bytes], config: bytes) -> None:
    """Send a process its config. One that has ended already is found out by its exit."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(config + b"\n")
        process.stdin.flush()


def _close(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
