"""What a channel needs of the links below it, and a relay of those on both sides of it.

Implementations: `streams` (one machine) and `curve` (networks). A relay's number stands where a host's does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from polypath.transport.frames import Buffer
from polypath.types import HostId

Take = Callable[[HostId, int, Buffer], None]
"""Takes (host, kind, payload) of a report. Raises ProtocolError or msgspec's where it cannot be."""
Silent = Callable[[HostId, float], None]
"""Is told of a worker that sent nothing, not even a beat, for so many seconds; once, unless it is expected again."""


class HeadLinks(Protocol):
    """The head's ends of all workers' links, which beat by themselves."""

    address: str
    """Where workers connect."""
    refused_frames: int
    refused_keys: int

    def expect(self, host: HostId, incarnation: int, key: str) -> None:
        """Let a worker in that shows this public key, and no earlier one of the host."""
        ...

    def drop(self, host: HostId) -> None:
        """Forget a worker: what was sent and not yet taken is lost, its key is worth nothing."""
        ...

    def send(self, hosts: Iterable[HostId], sequence: int, data: Buffer, tail: Buffer = b"") -> int:
        """Send a command to those of `hosts` that are connected; how many that are. Never blocks.

        `tail` is the end of the command, and not copied.
        """
        ...

    def close(self) -> None: ...


class WorkerEnd(Protocol):
    """A worker's end of its link, which beats by itself as long as it is open."""

    def receive(self) -> tuple[int, Buffer]:
        """The next command's sequence number and bytes; waits for it.

        Raises:
            ProtocolError: what came is no command.
            ConnectionError: nothing will come any more.
        """
        ...

    def poll(self, descriptor: int) -> bool:
        """Wait until `descriptor` is readable, then False; or until `receive` would not wait, then True."""
        ...

    def send(self, kind: int, data: Buffer, tail: Buffer = b"") -> None:
        """Send a report, of which `tail` is the end and is not copied; from any thread."""
        ...

    def close(self, linger: float) -> None:
        """End the link; reports that are queued have `linger` seconds to leave."""
        ...
