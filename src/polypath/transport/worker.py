"""A worker's end: commands in, reports out, shards to and from its peers."""

from __future__ import annotations

import collections
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable

import msgspec

from polypath.errors import ProtocolError
from polypath.messages import AnyCommand, Fetched, OutOfTurn, Peer, Report, Snapshot, decode_command, encode_apart
from polypath.transport import ends, frames
from polypath.transport.bulk import Listener, Take
from polypath.transport.keys import WorkerLink
from polypath.transport.reports import pack_report
from polypath.transport.sending import Sender
from polypath.types import HostId

log = logging.getLogger(__name__)

OnLost = Callable[[Peer, str], None]
"""Takes (peer, reason): what was queued for the peer was dropped."""


class WorkerChannel:
    """One worker's links.

    `receive` and `wait` belong to the thread that applies commands; `send` and all of `peers`
    may be called from any.
    """

    def __init__(self, link: WorkerLink, on_silent: Callable[[str], None] = log.error) -> None:
        """`on_silent` is called once, with a sentence, if the head was silent for the link's patience.

        It is called on a thread of the channel's.
        """
        self._last_sequence = -1
        self._backlog: collections.deque[AnyCommand] = collections.deque()
        self._on_out_of_turn: Callable[[OutOfTurn], None] | None = None
        self.peers = PeerChannel(link)
        self._me = frames.pack_hosts((link.host,))
        self._end = ends.above(link, on_silent)

    def receive(self) -> AnyCommand:
        """The next command, waiting for it.

        Raises:
            ConnectionError: the head has closed the link.
        """
        if self._backlog:
            return self._backlog.popleft()
        while True:
            command = self._read()
            if command is not None:
                return command

    def wait(self, descriptor: int) -> bool:
        """Wait until `descriptor` is readable: True; or until a command came that ends this worker: False.

        Other commands that come meanwhile are kept for `receive`, in order, but for what `on_out_of_turn` takes.
        """
        while True:
            if any(isinstance(command, Snapshot) for command in self._backlog):
                return False
            if not self._end.poll(descriptor):
                return True
            command = self._read()
            if isinstance(command, OutOfTurn) and self._on_out_of_turn is not None:
                self._on_out_of_turn(command)
            elif command is not None:
                self._backlog.append(command)

    def on_out_of_turn(self, take: Callable[[OutOfTurn], None]) -> None:
        """Give commands of these kinds that come during `wait` to `take`: a wait may be for just that."""
        self._on_out_of_turn = take

    def send(self, report: Report) -> None:
        """Send a report to the head."""
        if isinstance(report, Fetched):
            self._end.send(frames.REPORT, *encode_apart(report))
            return
        kind, question, body = pack_report(report)
        if kind == frames.ANSWER:
            body = frames.pack_answer(question, self._me, body)
        elif kind == frames.EXCEPTION:
            body = frames.pack_exception(question, body)
        self._end.send(kind, body)

    def close(self, linger: float = 2.0) -> None:
        """End all links; reports and shards still queued have `linger` seconds to leave."""
        self._end.close(linger)
        self.peers.close(linger)

    def _read(self) -> AnyCommand | None:
        try:
            sequence, data = self._end.receive()
            if sequence <= self._last_sequence:
                raise ProtocolError(f"Command {sequence} came after {self._last_sequence}.")
            command = decode_command(data)
        except (ProtocolError, msgspec.MsgspecError) as error:
            log.warning("Dropped a malformed command: %s", error)
            return None
        self._last_sequence = sequence
        return command


class PeerChannel:
    """Shards to and from the other workers."""

    def __init__(self, link: WorkerLink) -> None:
        self._keys = link.bulk
        self._patience = link.patience
        self._on_lost: OnLost = lambda _, __: None
        self._lock = threading.Lock()
        self._peers: dict[HostId, Peer] = {}
        self._senders: dict[HostId, Sender] = {}
        self._waiting: dict[HostId, list[tuple[str, bytes, bytes | memoryview]]] = {}
        self._listener = Listener(
            f"{link.listen}.shards" if link.listen.startswith("ipc://") else link.listen, self._keys, link.patience
        )
        self.me = Peer(link.host, self._listener.address, ())

    def listen(self, on_shard: Take, on_lost: OnLost) -> None:
        """Call `on_shard(tag, header, data)` for each shard that comes, from a thread of its sender's. Once.

        `on_lost(peer, reason)` is called, from a thread too, when what was queued for a peer cannot be sent and is
        dropped. Shards that are queued later are tried again.
        """
        self._on_lost = on_lost
        self._listener.start(on_shard)

    def drain(self, host: HostId, then: Callable[[], None]) -> None:
        """Call `then`, from any thread, once all is read that has come from a host on its present streams."""
        self._listener.drain(host, then)

    def connect(self, peers: Iterable[Peer]) -> None:
        """Where to send shards for these from now on; what has no address is away."""
        with self._lock:
            for peer in peers:
                host = peer.host
                if self._peers.get(host) == peer:
                    continue
                if (sender := self._senders.pop(host, None)) is not None:
                    sender.close(0)
                if not peer.address:
                    self._peers.pop(host, None)
                    continue
                self._peers[host] = peer
                for shard in self._waiting.pop(host, ()):
                    self._sender(host).send(*shard)

    def send(self, host: HostId, tag: str, header: bytes, data: bytes | memoryview) -> None:
        """Queue a shard for a peer; one that is not there now gets it once it is. Never blocks."""
        with self._lock:
            if host in self._peers:
                self._sender(host).send(tag, header, data)
            else:
                self._waiting.setdefault(host, []).append((tag, header, data))

    def _sender(self, host: HostId) -> Sender:
        sender = self._senders.get(host)
        if sender is None or sender.closed:
            peer = self._peers[host]
            lost = functools.partial(self._on_lost, peer)
            sender = self._senders[host] = Sender(peer.address, self._keys, self.me.host, self._patience, lost)
        return sender

    def close(self, linger: float) -> None:
        """End the streams; what is queued has `linger` seconds to leave."""
        with self._lock:
            senders, self._senders = list(self._senders.values()), {}
        end = time.monotonic() + linger
        for sender in senders:
            sender.close(max(0.0, end - time.monotonic()))
        self._listener.close()
