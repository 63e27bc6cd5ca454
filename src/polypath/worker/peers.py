"""Shards on their way between workers.

Owns the tags of pieces and what arrives before it is expected. Sending never blocks the apply
loop, and a piece is waited for only where a later command needs it: as all workers apply
one order, such waits cannot form a circle, as long as no worker runs ahead of what it owes
(`Transfers`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

import msgspec

from polypath.messages import Peer, Unsent, decode
from polypath.types import DeviceId, Failure, HostId, ValueId
from polypath.worker.failures import failure_of

OnPeer = Callable[[str, bytes, memoryview], None]
OnLost = Callable[[Peer, str], None]


class PeerLink(Protocol):
    """What the transport offers for messages between workers."""

    @property
    def me(self) -> Peer:
        """Where this worker takes shards."""
        ...

    def listen(self, on_shard: OnPeer, on_lost: OnLost, /) -> None:
        """Call `on_shard(tag, header, data)` for each message, from a thread of the transport.

        `on_lost(peer, reason)` is called, likewise, when what was queued for a peer is dropped.
        """
        ...

    def drain(self, host: HostId, then: Callable[[], None], /) -> None:
        """Call `then` once what has come from a host is read; what comes on its present streams after that is not."""
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


def value_of(tag: str) -> ValueId:
    """The value that a piece is a part of."""
    return int(tag.split(":", maxsplit=1)[0])


class PeerPost:
    """Sends pieces to other workers' devices and hands out those that come."""

    def __init__(self, link: PeerLink, on_lost: OnLost) -> None:
        """`on_lost(peer, reason)` is called, from any thread, when pieces for a peer could not be sent."""
        self._link = link
        self._hosts: dict[DeviceId, HostId] = {}
        self._lock = threading.Lock()
        self._early: dict[str, tuple[Header, bytes | memoryview]] = {}
        self._expected: dict[str, tuple[DeviceId, Receive]] = {}
        """The device that a piece comes from, and who takes it."""
        self._unsent: dict[DeviceId, Unsent] = {}
        """The last that was told of a device: pieces that it has not sent, and that are expected later, fail by it."""
        self._given_up: set[str] = set()
        """Pieces that failed, and are not taken should they come after all."""
        link.listen(self._on_peer, on_lost)

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

    def expect(self, tag: str, source: DeviceId, receive: Receive) -> None:
        """Call `receive` once with the piece of that tag, which comes from `source`, now or from another thread."""
        with self._lock:
            early = self._early.pop(tag, None)
            if early is None:
                unsent = self._unsent.get(source)
                if unsent is not None and value_of(tag) < unsent.before:
                    self._given_up.add(tag)
                    early = _failed(unsent)
                else:
                    self._expected[tag] = (source, receive)
        if early is not None:
            _hand_over(receive, *early)

    def give_up(self, unsent: Unsent) -> None:
        """Fail the pieces that a host has not sent, once those are read that it has."""
        self._link.drain(unsent.host, partial(self._give_up, unsent))

    def _give_up(self, unsent: Unsent) -> None:
        with self._lock:
            self._unsent.update(dict.fromkeys(unsent.devices, unsent))
            tags = [
                tag
                for tag, (source, _) in self._expected.items()
                if source in unsent.devices and value_of(tag) < unsent.before
            ]
            self._given_up.update(tags)
            takers = [self._expected.pop(tag)[1] for tag in tags]
        for receive in takers:
            _hand_over(receive, *_failed(unsent))

    def _on_peer(self, tag: str, header: bytes, data: bytes | memoryview) -> None:
        decoded = decode(_headers, header)
        with self._lock:
            if tag in self._given_up:
                self._given_up.remove(tag)
                return
            expected = self._expected.pop(tag, None)
            if expected is None:
                self._early[tag] = (decoded, data)
        if expected is not None:
            _hand_over(expected[1], decoded, data)


def _hand_over(receive: Receive, header: Header, data: bytes | memoryview) -> None:
    """Hand a piece to its receiver. A piece that makes no sense fails what waits for it."""
    try:
        receive(header, data)
    except Exception as error:
        receive(Header("", (), failure_of(error)), b"")


def _failed(unsent: Unsent) -> tuple[Header, bytes]:
    return Header("", (), unsent.failure), b""
