"""Shards on their way between workers.

Owns the tags of pieces and what arrives before it is expected. Sending never blocks the apply
loop, and a piece is waited for only where a later command needs it: as all workers apply
one order, such waits cannot form a circle, as long as no worker runs ahead of what it owes
(`Transfers`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import msgspec

from polypath.messages import Peer, decode
from polypath.types import DeviceId, Failure, HostId, ValueId

OnPeer = Callable[[str, bytes, memoryview], None]


class PeerLink(Protocol):
    """What the transport offers for messages between workers."""

    @property
    def me(self) -> Peer:
        """Where this worker takes shards."""
        ...

    def listen(self, on_shard: OnPeer, /) -> None:
        """Call `on_shard(tag, header, data)` for each message, from a thread of the transport."""
        ...

    def connect(self, peers: tuple[Peer, ...]) -> None:
        """These are the workers to send to from now on."""
        ...

    def send(self, host: HostId, tag: str, header: bytes, data: bytes | memoryview) -> None:
        """Send without waiting, from any thread."""
        ...


class Header(msgspec.Struct, frozen=True, array_like=True):
    """What comes before a piece's bytes (row-major), or instead of them."""

    dtype: str
    shape: tuple[int, ...]
    failure: Failure | None = None


Receive = Callable[[Header, bytes | memoryview], None]

_encode = msgspec.msgpack.Encoder().encode
_headers = msgspec.msgpack.Decoder(Header)


def tag_of(out: ValueId, device: DeviceId, piece: int) -> str:
    """The name of one piece of one shard of `out`."""
    return f"{out}:{device}:{piece}"


def device_of(tag: str) -> DeviceId:
    """The device that a piece is for."""
    return int(tag.split(":")[1])


class PeerPost:
    """Sends pieces to other workers' devices and hands out those that come."""

    def __init__(self, link: PeerLink) -> None:
        self._link = link
        self._hosts: dict[DeviceId, HostId] = {}
        self._lock = threading.Lock()
        self._early: dict[str, tuple[Header, bytes | memoryview]] = {}
        self._expected: dict[str, Receive] = {}
        link.listen(self._on_peer)

    def connect(self, peers: tuple[Peer, ...]) -> None:
        for peer in peers:
            self._hosts.update(dict.fromkeys(peer.devices, peer.host))
        self._link.connect(peers)

    def send(self, device: DeviceId, tag: str, header: Header, data: bytes | memoryview = b"") -> None:
        """Send a piece to the worker of `device`.

        Raises:
            LookupError: no worker is known to have it.
        """
        if device not in self._hosts:
            raise LookupError(f"No other worker is known to have device {device}.")
        self._link.send(self._hosts[device], tag, _encode(header), data)

    def expect(self, tag: str, receive: Receive) -> None:
        """Call `receive` once with the piece of that tag, now or from the transport's thread."""
        with self._lock:
            early = self._early.pop(tag, None)
            if early is None:
                self._expected[tag] = receive
        if early is not None:
            receive(*early)

    def _on_peer(self, tag: str, header: bytes, data: bytes | memoryview) -> None:
        decoded = decode(_headers, header)
        with self._lock:
            receive = self._expected.pop(tag, None)
            if receive is None:
                self._early[tag] = (decoded, data)
        if receive is not None:
            receive(decoded, data)
