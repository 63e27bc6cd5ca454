"""The interface of launchers: what brings workers' processes up and says when they end.

A launcher starts processes and watches them; it does not decide what is started (again), nor
talk to workers.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence

import msgspec

from polypath.types import HostId, IslandId


class WorkerSpec(msgspec.Struct, frozen=True):
    """One worker to start."""

    host: HostId
    config: bytes
    """The JSON line that the worker reads from stdin; without the end of line."""


class WorkerExit(msgspec.Struct, frozen=True):
    """A worker's process ended. `pid` tells one start of a host's worker from the next."""

    host: HostId
    pid: int
    status: int
    """As `Popen.returncode`: the exit status, or minus the signal."""
    cause: str
    """For people: `killed by SIGKILL`, `exited with status 1; its last words: ...`."""


class RelaySpec(msgspec.Struct, frozen=True):
    """One relay to start."""

    relay: int
    link: bytes
    """The JSON line that it reads from stdin; without the end of line."""
    hosts: range
    """Those directly below it."""


class Launcher(abc.ABC):
    """Starts workers and relays. All its methods are called on one event loop."""

    def __init__(
        self, on_exit: Callable[[WorkerExit], None], on_relay_exit: Callable[[int, str], None] = lambda _, __: None
    ) -> None:
        """`on_exit` is called once for each process that ends before `stop` or a new `start` of its host.

        `on_relay_exit` likewise, with the relay and the cause.
        """
        self.on_exit = on_exit
        self.on_relay_exit = on_relay_exit

    @abc.abstractmethod
    async def start(
        self, island: IslandId, specs: Sequence[WorkerSpec], rendezvous: bytes | None = None
    ) -> dict[HostId, int]:
        """Start a process for each of an island's hosts; one that a host still has is ended first.

        `rendezvous` is the JSON line for the service through which they form their group; it
        lives until the island is started again. Returns the workers' pids.

        Raises:
            ClusterError: a process could not be started; none of `specs` runs then.
        """

    @abc.abstractmethod
    async def start_relay(self, spec: RelaySpec) -> None:
        """Start a relay's process.

        Raises:
            ClusterError: it could not be started.
        """

    @abc.abstractmethod
    async def kill(self, host: HostId, cause: str = "") -> None:
        """End a host's process at once, if there is one; `on_exit` tells of it.

        `cause` is then the cause that it tells, unless the process is not the host's own.
        """

    @abc.abstractmethod
    async def kill_relay(self, relay: int, cause: str) -> None:
        """End a relay's process at once, if there is one; `on_relay_exit` tells of it, with this cause."""

    def told_of_end(self, host: HostId, words: bytes) -> None:
        """What a process says of the end of one of the hosts that share it."""
        raise NotImplementedError(f"Host {host} has a process of its own, and its end is seen.")

    @abc.abstractmethod
    async def stop(self) -> None:
        """End all processes, in order where they let us, and wait until they are gone."""
