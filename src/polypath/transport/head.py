"""The head's end: commands out to each worker, reports in from all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from polypath.errors import ProtocolError
from polypath.messages import AnyReport, Command, decode_report, encode
from polypath.transport import frames, streams
from polypath.transport.curve import HeadSockets
from polypath.transport.keys import KeyPair, WorkerLink
from polypath.transport.links import HeadLinks
from polypath.types import HostId


class Traffic(msgspec.Struct, frozen=True):
    """What went over the transport so far."""

    commands: int
    command_bytes: int
    reports: int
    report_bytes: int
    refused_frames: int
    refused_keys: int


class HeadChannel:
    """All workers' links. Lives on one asyncio loop, which also calls `on_report`.

    `address` is where workers find the head: `unix:PATH` on one machine, or `tcp://HOST:*`.
    """

    def __init__(self, address: str, on_report: Callable[[AnyReport], None]) -> None:
        self._on_report = on_report
        self._keys = KeyPair.new()
        self._shard_keys = KeyPair.new()
        self._links: HeadLinks = (
            streams.HeadStreams(address, self._take)
            if address.startswith(streams.SCHEME)
            else HeadSockets(address, self._keys, self._take)
        )
        self._commands_sent = self._bytes_sent = self._reports_read = self._bytes_read = 0

    def link(self, host: HostId, incarnation: int, listen: str) -> WorkerLink:
        """Expect a worker (again): a new key for it, and what it must be told."""
        self.drop(host)
        keys = KeyPair.new()
        self._links.expect(host, incarnation, keys)
        return WorkerLink(host, incarnation, self._links.address, self._keys.public, keys, self._shard_keys, listen)

    def drop(self, host: HostId) -> None:
        """Forget a worker: what was sent and not yet taken is lost, its key is worth nothing."""
        self._links.drop(host)

    def send(self, hosts: Iterable[HostId], sequence: int, command: Command) -> None:
        """Send `command` to each of `hosts`, after all that was sent before. Never blocks.

        A host whose worker is gone is passed over: the controller is told of it by the launcher.
        """
        data = encode(command)
        sent = self._links.send(hosts, sequence, data)
        self._commands_sent += sent
        self._bytes_sent += sent * len(data)

    def statistics(self) -> Traffic:
        return Traffic(
            self._commands_sent,
            self._bytes_sent,
            self._reports_read,
            self._bytes_read,
            self._links.refused_frames,
            self._links.refused_keys,
        )

    def close(self) -> None:
        """End all links; what is still queued is lost."""
        self._links.close()

    def _take(self, host: HostId, kind: int, payload: bytes) -> None:
        if kind != frames.REPORT:
            raise ProtocolError(f"A report of kind {kind} is unknown.")
        self._reports_read += 1
        self._bytes_read += len(payload)
        self._on_report(decode_report(payload))
