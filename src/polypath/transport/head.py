"""The head's end: commands out to each worker, reports in from all of them.

Workers are linked directly or below relays, as whoever asks for their links decides.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final

import msgspec

from polypath.errors import ProtocolError
from polypath.messages import AnyReport, Command, encode_apart
from polypath.transport import beats, ends, frames
from polypath.transport.bulk import TCP
from polypath.transport.frames import Down
from polypath.transport.keys import BulkKeys, KeyPair, WorkerLink
from polypath.transport.relay import Expect
from polypath.transport.reports import question_of, unpack_report
from polypath.transport.routes import EVERY, Node, Routes
from polypath.transport.streams import SCHEME
from polypath.types import HostId


class Traffic(msgspec.Struct, frozen=True):
    """What went over the transport so far."""

    commands: int
    command_bytes: int
    reports: int
    report_bytes: int
    refused_frames: int
    refused_keys: int


class _Relay:
    """A relay: where it serves, once it does, and by which key those below know it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.address: asyncio.Future[str] = asyncio.get_running_loop().create_future()


class HeadChannel:
    """All workers' links. Lives on one asyncio loop, which also calls `on_report`.

    `address` is where those directly below find the head: `unix:PATH` on one machine, or `tcp://HOST:*`.
    """

    def __init__(
        self,
        address: str,
        on_report: Callable[[AnyReport], None],
        on_ended: Callable[[HostId, bytes], None] = lambda _, __: None,
        on_silent: Callable[[Node, float], None] = lambda _, __: None,
        *,
        elsewhere: bool = False,
    ) -> None:
        """`elsewhere` tells that workers listen on networks: all are to know the cluster's certificate.

        `on_ended` is told what a process says of the end of one of its hosts.

        `on_silent` is told of a worker, or a relay, that sent nothing for so many seconds, and is to end it.

        Raises:
            ClusterError: the environment has a patience that is none, or the certificate cannot be made.
        """
        self._patience = beats.patience()
        self._on_report = on_report
        self._on_ended = on_ended
        self._on_silent = on_silent
        self._network = not address.startswith(SCHEME)
        self._keys = KeyPair.new(network=self._network)
        self._bulk = BulkKeys.new(network=True) if elsewhere else None
        self._links = ends.below(address, self._keys, self._take, on_silent, self._patience)
        self._routes = Routes()
        self._incarnations: dict[Node, int] = {}
        self._above: dict[Node, Node | None] = {}
        self._relays: dict[Node, _Relay] = {}
        self._numbers: Final = itertools.count(1)
        self._unsettled: dict[int, Node] = {}
        """What relays were told and have not done, by number, and the relay that it went through."""
        self._settled = asyncio.Event()
        self._settled.set()
        self._commands_sent = self._bytes_sent = self._reports_read = self._bytes_read = 0

    @property
    def bulk(self) -> BulkKeys:
        """What the cluster's processes know each other by, once a worker is expected."""
        assert self._bulk is not None, "nobody is expected"
        return self._bulk

    # --- Who is below -------------------------------------------------------------------------

    def link(self, host: HostId, incarnation: int, listen: str, relay: Node | None = None) -> WorkerLink:
        """Expect a worker (again), directly or below a relay that serves: a new key, and what it must be told.

        It may connect once `settled`.
        """
        link = self._link(host, incarnation, listen, relay)
        self._routes.add(host, self._path(host)[0])
        return link

    def link_relay(self, relay: Node, incarnation: int, listen: str, above: Node | None = None) -> WorkerLink:
        """Expect a relay (again), directly or below another that serves. It may connect once `settled`."""
        link = self._link(relay, incarnation, listen, above)
        self._relays[relay] = _Relay(link.keys.public)
        return link

    async def serving(self, relay: Node) -> None:
        """Wait until a relay takes those below it.

        Raises:
            CancelledError: it was dropped before that.
        """
        await asyncio.shield(self._relays[relay].address)

    async def settled(self) -> None:
        """Wait until every relay knows whom it is to expect."""
        await self._settled.wait()

    def drop(self, node: Node) -> None:
        """Forget a worker or a relay: what was sent and not yet taken is lost, its key is worth nothing."""
        if node not in self._incarnations:
            return
        path = self._path(node)
        if len(path) > 1:
            self._tell(path, frames.DROP, Expect(path[1:-1], node, 0, ""))
        else:
            self._links.drop(node)
        self._routes.remove(node)
        if (relay := self._relays.pop(node, None)) is not None:
            relay.address.cancel()
            self._routes.remove_child(node)
            self._settle([number for number, first in self._unsettled.items() if first == node])
        del self._incarnations[node], self._above[node]

    def _link(self, node: Node, incarnation: int, listen: str, above: Node | None) -> WorkerLink:
        self.drop(node)
        keys = KeyPair.new(network=self._network)
        self._incarnations[node], self._above[node] = incarnation, above
        if above is None:
            self._links.expect(node, incarnation, keys.public)
            address, key = self._links.address, self._keys.public
        else:
            path = self._path(node)
            number = self._tell(path, frames.EXPECT, Expect(path[1:-1], node, incarnation, keys.public))
            self._unsettled[number] = path[0]
            self._settled.clear()
            address, key = self._relays[above].address.result(), self._relays[above].key
        return WorkerLink(node, incarnation, address, key, keys, self._bulk_keys(listen), listen, self._patience)

    def _bulk_keys(self, listen: str) -> BulkKeys:
        if self._bulk is None:
            self._bulk = BulkKeys.new(network=listen.startswith(TCP))
        return self._bulk

    def _tell(self, path: tuple[Node, ...], kind: int, told: Expect) -> int:
        number = next(self._numbers)
        self._links.send(path[:1], 0, Down(kind, number, EVERY, msgspec.msgpack.encode(told)).pack())
        return number

    def _path(self, node: Node) -> tuple[Node, ...]:
        """From the child that leads to a node, to the node."""
        path = [node]
        while (above := self._above.get(path[0])) is not None:
            path.insert(0, above)
        return tuple(path)

    def _settle(self, numbers: list[int]) -> None:
        for number in numbers:
            self._unsettled.pop(number, None)
        if not self._unsettled:
            self._settled.set()

    # --- Messages -----------------------------------------------------------------------------

    def send(self, hosts: tuple[HostId, ...], sequence: int, command: Command) -> None:
        """Send `command` to each of `hosts`, after all that was sent before. Never blocks.

        A host whose worker is gone is passed over: the controller is told of it by the launcher.
        """
        data, tail = encode_apart(command)
        routed = self._routes.split(hosts)
        sent = self._links.send(routed.hosts, sequence, data, tail)
        if routed.relays:
            question = question_of(command)
            for route, relays in routed.relays:
                sent += self._links.send(relays, sequence, Down(frames.COMMAND, question, route, data).pack(), tail)
        self._commands_sent += sent
        self._bytes_sent += sent * (len(data) + len(tail))

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

    def _take(self, node: Node, kind: int, payload: frames.Buffer) -> None:
        while kind == frames.FROM:
            node, incarnation, kind, payload = frames.unpack_from(payload)
            if self._incarnations.get(node) != incarnation:
                return  # The last words of a worker that was replaced.
        relay = self._relays.get(node)
        if kind == frames.ENDED:
            self._on_ended(node, bytes(payload))
        elif kind == frames.SILENT:
            self._on_silent(node, frames.unpack_silent(bytes(payload)))
        elif relay is not None and kind == frames.SERVING:
            if not relay.address.done():
                relay.address.set_result(bytes(payload).decode("utf-8", "replace"))
        elif relay is not None and kind == frames.EXPECTED:
            self._settle([frames.unpack_exception(payload)[0]])
        elif relay is not None and kind != frames.ANSWER:
            raise ProtocolError(f"A relay says something of kind {kind}.")
        else:
            self._reports_read += 1
            self._bytes_read += len(payload)
            self._on_report(unpack_report(kind, payload))
