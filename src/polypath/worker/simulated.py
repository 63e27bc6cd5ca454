"""`python -m polypath.worker.simulated`: many simulated hosts in one process, below a relay that is part of it.

Each host is a `Worker` of its own over a `NullExecutor`, with its own store, programs and place in the log.
What they share is the process: one link to the node above, where this process is a relay; one socket for
shards, one for clients' links; one thread that applies commands, host after host, or once for all that are in step
(`lockstep`). A command is read once for all of them.

That thread may wait for shards that hosts of this process send each other: it applies a command to all of
its hosts before the next, so what it waits for was started before. It may also wait for shards from other
processes, and so hears meanwhile of those that will not come.

Standard input has a `WorkerLink` on its first line, then orders to start and to end hosts; its end is the process's.
"""

from __future__ import annotations

import collections
import gc
import logging
import os
import resource
import sys
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import msgspec

from polypath import messages as m
from polypath.errors import ProtocolError
from polypath.transport import ends, frames
from polypath.transport.answers import Answers, Joined
from polypath.transport.frames import Down
from polypath.transport.keys import WorkerLink
from polypath.transport.relay import decode_expect
from polypath.transport.reports import pack_report
from polypath.transport.routes import Routes
from polypath.transport.worker import PeerChannel
from polypath.types import DeviceId, HostId
from polypath.worker.__main__ import die_with_parent, end_alone, take_links
from polypath.worker.config import END, HostEnded, HostOrder, WorkerConfig, decode_config
from polypath.worker.executors.null import NullExecutor
from polypath.worker.lockstep import Lockstep
from polypath.worker.peers import OnLost, OnPeer, device_of
from polypath.worker.questions import Handler
from polypath.worker.server import Worker
from polypath.worker.waits import Waits

_log = logging.getLogger(__name__)

_KILLED: Final = -9


class SimulatedHosts:
    """The hosts of this process, and its links."""

    def __init__(self, link: WorkerLink) -> None:
        self._above = ends.above(link, end_alone)
        self._routes = Routes()
        self._answers = Answers()
        self._lock = threading.Lock()
        self._compilers = ThreadPoolExecutor(1, "compile")
        self._waits = Waits()
        self._waits.watch_with(self._watch)
        self._held: collections.deque[Down] = collections.deque()
        """Messages that came while the thread waited, which it takes next."""
        self._hosts: dict[HostId, _Host] = {}
        self._workers: dict[HostId, Worker] = {}
        self._lockstep = Lockstep(self._workers, self._apply_to_each, self._answer)
        self._handlers: dict[type[m.Command], dict[HostId, Handler]] = defaultdict(dict)
        """Of the hosts' workers."""
        self._shards = Shards(PeerChannel(link))
        self._links = take_links(link)
        self._above.send(frames.SERVING, b"")

    def run(self, orders: int) -> None:
        """Apply commands, and orders from a descriptor, until that or the link ends."""
        rest = b""
        while True:
            if self._held:
                self._take(self._held.popleft())
                continue
            if self._above.poll(orders):
                if (down := self._read()) is not None:
                    self._take(down)
                continue
            data = os.read(orders, 1 << 16)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._obey(msgspec.json.decode(line, type=HostOrder))
            gc.freeze()  # Hosts stay: looking through them for garbage would be most of the work.

    # --- Hosts --------------------------------------------------------------------------------

    def _obey(self, order: HostOrder) -> None:
        if order.config == END:
            host = self._hosts.get(order.host)
            if host is not None and host.number == order.number:
                self._end(host, _KILLED, "killed by SIGKILL")
            return
        config = decode_config(order.config)
        link = msgspec.json.decode(config.control, type=WorkerLink)
        host = _Host(self, self._shards, order.number, link, config)
        self._hosts[order.host] = host
        self._shards.take_for(order.host, (device.id for device in host.executor.devices))
        worker = self._workers[host.id] = Worker(config, host, host.executor, self._waits, self._links, self._compilers)
        for kind, handler in worker.handlers.items():
            self._handlers[kind][host.id] = handler
        worker.join()

    def _end(self, host: _Host, status: int, cause: str) -> None:
        self._lockstep.end()
        del self._hosts[host.id], self._workers[host.id]
        for handlers in self._handlers.values():
            handlers.pop(host.id, None)
        self._shards.leave(host.id)
        self._links.leave(host.id)
        host.gone = True
        words = msgspec.json.encode(HostEnded(host.number, status, cause))
        self._above.send(frames.FROM, frames.pack_from(host.id, host.incarnation, frames.ENDED, words))

    # --- Commands -----------------------------------------------------------------------------

    def _read(self) -> Down | None:
        try:
            _, data = self._above.receive()
            return Down.unpack(data)
        except ProtocolError as error:
            _log.warning("Dropped a malformed command: %s", error)
            return None

    def _watch(self, descriptor: int) -> bool:
        """Wait until a descriptor is readable, and take meanwhile what a wait may be for."""
        while self._above.poll(descriptor):
            if (down := self._read()) is None:
                continue
            command = m.decode_command(down.body) if down.kind == frames.COMMAND else None
            if isinstance(command, m.OutOfTurn):
                self._apply_to_each(self._routes.hosts(down.route), command)
            else:
                self._held.append(down)
        return True

    def _take(self, down: Down) -> None:
        try:
            self._do(down)
        except (ProtocolError, msgspec.MsgspecError) as error:
            _log.warning("Dropped a malformed command: %s", error)

    def _do(self, down: Down) -> None:
        if down.kind == frames.COMMAND:
            hosts = self._routes.hosts(down.route)
            if down.question:
                with self._lock:
                    self._answers.ask(down.question, hosts)
            command = m.decode_command(down.body)
            if isinstance(command, m.Snapshot):
                self._end_by(hosts, command)
            else:
                self._lockstep.apply(hosts, command)
            return
        told = decode_expect(down.body)
        if down.kind == frames.EXPECT:
            self._routes.add(told.node, told.node)
            self._above.send(frames.EXPECTED, frames.pack_exception(down.question, b""))
        else:
            self._routes.remove(told.node)
            with self._lock:
                self._tell(self._answers.drop((told.node,)))

    def _apply_to_each(self, hosts: Iterable[HostId], command: m.AnyCommand) -> None:
        """Host after host, but what all of them answer alike is counted and handed up once."""
        handlers = self._handlers[type(command)]
        alike: list[HostId] = []
        ready: m.Ready | None = None
        for number in hosts:
            handle = handlers.get(number)
            if handle is None:
                continue
            try:
                answer = handle(command)
            except Exception as error:
                self._fail(number, error)
                continue
            if answer is None:
                continue
            if answer.failure is None:
                ready = answer
                alike.append(number)
            else:
                self._hosts[number].send(answer)
        if ready is not None:
            self._answer(alike, ready)

    def _answer(self, hosts: Iterable[HostId], answer: m.Ready) -> None:
        _, question, body = pack_report(answer)
        with self._lock:
            self._tell(self._answers.take(question, hosts, body))

    def _end_by(self, hosts: Iterable[HostId], command: m.Snapshot) -> None:
        self._lockstep.end()
        for number in hosts:
            if (host := self._hosts.get(number)) is None:
                continue
            try:
                self._workers[number].take(command)
            except Exception as error:
                self._fail(number, error)
            else:
                self._end(host, 0, "exited with status 0")

    def _fail(self, number: HostId, error: Exception) -> None:
        """What would end a worker's process ends the host."""
        _log.error("Host %d failed.", number, exc_info=error)
        self._end(self._hosts[number], 1, f"exited with status 1; its last words: {error}")

    # --- Reports, from any thread -------------------------------------------------------------

    def report(self, host: _Host, report: m.Report) -> None:
        """Hand a host's report up, or keep it until it goes with those of the others."""
        kind, question, body = pack_report(report)
        with self._lock:
            if kind == frames.ANSWER:
                self._tell(self._answers.take(question, (host.id,), body))
                return
            if kind == frames.EXCEPTION:
                body = frames.pack_exception(question, body)
            self._above.send(frames.FROM, frames.pack_from(host.id, host.incarnation, kind, body))
            if question:
                self._tell(self._answers.count(question, (host.id,)))

    def _tell(self, answers: Iterable[Joined]) -> None:
        for question, hosts, body in answers:
            self._above.send(frames.ANSWER, frames.pack_answer(question, frames.pack_hosts(hosts), body))


class _Host:
    """The channel that one host's worker has to the process's links."""

    def __init__(
        self, hosts: SimulatedHosts, shards: Shards, number: int, link: WorkerLink, config: WorkerConfig
    ) -> None:
        self._hosts = hosts
        self.id = link.host
        self.number = number
        self.incarnation = link.incarnation
        self.executor = NullExecutor(config)
        self.peers = _Peers(self.id, shards)
        self.gone = False

    def receive(self) -> m.Command:
        raise NotImplementedError("Commands are handed to the workers of this process.")

    def send(self, report: m.Report) -> None:
        if not self.gone:
            self._hosts.report(self, report)


class Shards:
    """Shards between the hosts of this process, and to and from those elsewhere."""

    def __init__(self, channel: PeerChannel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._hosts: dict[DeviceId, HostId] = {}
        self._here: dict[HostId, OnPeer | None] = {}
        self._on_lost: dict[HostId, OnLost] = {}
        self._waiting: dict[HostId, list[tuple[str, bytes, bytes | memoryview]]] = {}
        channel.listen(self._arrived, self._lost)

    def take_for(self, host: HostId, devices: Iterable[DeviceId]) -> None:
        """Take what comes for these devices: a host with them starts here."""
        with self._lock:
            self._here[host] = None
            self._hosts.update(dict.fromkeys(devices, host))

    def leave(self, host: HostId) -> None:
        """A host ended. What comes for it waits for its next start."""
        with self._lock:
            self._here[host] = None
            self._on_lost.pop(host, None)

    def me(self, host: HostId) -> m.Peer:
        return msgspec.structs.replace(self._channel.me, host=host)

    def listen(self, host: HostId, on_shard: OnPeer, on_lost: OnLost) -> None:
        with self._lock:
            self._here[host] = on_shard
            self._on_lost[host] = on_lost
            waiting = self._waiting.pop(host, [])
        for tag, header, data in waiting:
            on_shard(tag, header, memoryview(data))

    def connect(self, peers: Iterable[m.Peer]) -> None:
        self._channel.connect(peer for peer in peers if peer.host not in self._here)

    def send(self, host: HostId, tag: str, header: bytes, data: bytes | memoryview) -> None:
        if host in self._here:
            self._arrived(tag, header, data)
        else:
            self._channel.send(host, tag, header, data)

    def drain(self, host: HostId, then: Callable[[], None]) -> None:
        """A stream is that of all hosts of a process, so it is not ended for one of them."""
        self._channel.drain(host, then)

    def _lost(self, peer: m.Peer, reason: str) -> None:
        for on_lost in list(self._on_lost.values()):
            on_lost(peer, reason)

    def _arrived(self, tag: str, header: bytes, data: bytes | memoryview) -> None:
        host = self._hosts[device_of(tag)]
        with self._lock:
            on_shard = self._here[host]
            if on_shard is None:
                self._waiting.setdefault(host, []).append((tag, header, data))
                return
        on_shard(tag, header, memoryview(data))


class _Peers:
    """One host's link to its peers."""

    def __init__(self, host: HostId, shards: Shards) -> None:
        self._host = host
        self._shards = shards
        self.me = shards.me(host)

    def listen(self, on_shard: OnPeer, on_lost: OnLost, /) -> None:
        self._shards.listen(self._host, on_shard, on_lost)

    def drain(self, host: HostId, then: Callable[[], None], /) -> None:
        self._shards.drain(host, then)

    def connect(self, peers: tuple[m.Peer, ...]) -> None:
        self._shards.connect(peers)

    def send(self, host: HostId, tag: str, header: bytes, data: bytes | memoryview) -> None:
        self._shards.send(host, tag, header, data)


def main() -> None:
    """The process."""
    die_with_parent()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    stdin, line = sys.stdin.fileno(), b""
    while not line.endswith(b"\n"):  # No further: `run` reads the rest.
        line += os.read(stdin, 1)
    SimulatedHosts(msgspec.json.decode(line, type=WorkerLink)).run(stdin)
    os._exit(0)  # Threads of hosts may wait for what will never come.


if __name__ == "__main__":
    main()
