"""The client's end: a link to each worker that it deals with and one to the head, and the requests on them.

A request is asked for by a program that it runs with the arrays in question (`polypath.plugins.Attach`); its number is
that of the launch. The workers then send what they have for it. Whoever waits for a request always hears of its end:
from the workers, from the head where none of them will answer, or as a link breaks.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec
import numpy.typing as npt

from polypath.link import elements, protocol, streams
from polypath.link.connection import Connection, Incoming
from polypath.link.protocol import HEAD_HOST, MOST_NUMBER, Box, Head, Hello, HostAddress, Kind, Welcome
from polypath.link.state import LinkState, State
from polypath.link.streams import CONNECT_TIMEOUT, Stream
from polypath.types import DeviceId, HostId

_log = logging.getLogger(__name__)

_RETRY: Final = 1.0
"""Seconds after which a host that could not be reached is tried again."""

_LOOK: Final = 1.0
"""Seconds after which a thread that waits looks again: one that was interrupted as it woke may not have woken it."""

_boxes = msgspec.msgpack.Decoder(Box)
_welcomes = msgspec.msgpack.Decoder(Welcome)


class Request:
    """What this process waits for: that arrays are there, elements of a small one, or a whole array."""

    __slots__ = ("_came", "_told", "answer", "done", "hosts", "number", "open", "place")

    def __init__(self, number: int, hosts: frozenset[HostId] | None, place: npt.NDArray[Any] | None) -> None:
        self.number = number
        self.hosts = hosts
        """Who answers; None where that is not known."""
        self.place = place
        """Where the pieces of an array go."""
        self.open = True
        self.answer: bytes | None = None
        """What came with the end; None where nobody will answer."""
        self.done = threading.Lock()
        """Held until the request has ended."""
        self.done.acquire()
        self._told = 0
        self._came = b""

    def tell(self, of: int, answer: bytes) -> bool:
        """One of `of` workers has done its part; whether all have."""
        self._told += 1
        self._came = self._came or answer
        if self._told < of:
            return False
        self.answer = self._came
        return True


class Links:
    """All links of one session.

    Args:
        address: the head's socket for links, `unix:PATH`.
        session: the name by which the head knows the session.
        ended: is called, once and on a thread, when the head's link is over: with why, and whether the head told it.
    """

    def __init__(self, address: str, session: str, ended: Callable[..., None]) -> None:
        """Connects to the head, which says how long a silence means that an end is given up.

        Raises:
            OSError: it does not answer.
        """
        self._address = address
        self._session = session
        self._patience = CONNECT_TIMEOUT
        self._ended = ended
        self._lock = threading.RLock()  # Freeing an array calls `drop`, wherever that happens.
        self._numbers = itertools.count(1)
        self._requests: dict[int, Request] = {}
        self._links: dict[HostId, _Link] = {}
        self._hosts: dict[HostId, HostAddress] = {}
        self._host_of: dict[DeviceId, HostId] = {}
        self._token = self._certificate = ""
        self._closed = threading.Event()
        self._head = _Link(HEAD_HOST, LinkState(self._patience))
        self._connect(self._head, lambda: streams.connect(address, ""), HEAD_HOST, "")
        threading.Thread(target=self._watch, name="polypath-links", daemon=True).start()

    # --- Requests

    def hosts_of(self, devices: Iterable[DeviceId]) -> frozenset[HostId] | None:
        """The hosts that devices are on; None where one is unknown."""
        found = [self._host_of.get(device) for device in devices]
        return None if None in found else frozenset(host for host in found if host is not None)

    def ask(self, hosts: frozenset[HostId] | None, place: npt.NDArray[Any] | None = None) -> Request | None:
        """A new request, whose number is to be asked with then; None where it has to be asked for another way.

        Args:
            hosts: those that answer; None where they are not known yet, and have links where they answered before.
            place: where the pieces of an array are to go.
        """
        if hosts is not None and not all(map(self._is_linked, hosts)):
            return None
        with self._lock:
            # One that ends from here on ends the request. The head has to be able to tell that nobody will answer.
            links = [self._head, *(self._links[host] for host in hosts or ())]
            if any(link.state.state is not State.OPEN for link in links):
                return None
            while (number := next(self._numbers) % MOST_NUMBER + 1) in self._requests:
                pass
            request = Request(number, hosts, None if place is None else elements.plain(place))
            self._requests[number] = request
            return request

    def wait(self, request: Request) -> bytes | None:
        """What came with the end of the request; None where nobody will answer."""
        while request.open:
            if request.done.acquire(timeout=_LOOK):
                request.done.release()  # For others that wait.
        return request.answer

    def drop(self, request: Request) -> None:
        """Nobody wants it: it was not asked with, or what waited for it is gone."""
        with self._lock:
            self._end(request)

    def take_back(self, request: Request) -> None:
        """Nothing more is pushed for it: what was to be made of it fails."""
        self.drop(request)
        for host in request.hosts or ():
            if (link := self._links.get(host)) is not None and link.connection is not None:
                link.connection.post(protocol.pack(Kind.FAILED, request.number))

    def push(self, request: Request, shards: Mapping[DeviceId, npt.NDArray[Any]]) -> None:
        """Send each device's shard for an array that `request` was asked with; then they are the caller's again.

        Raises:
            OSError: a link is over; what was to be made of the array fails.
        """
        for device, shard in shards.items():
            link = self._links[self._host_of[device]].connection
            assert link is not None, "whoever asks has links"
            note = str(device).encode()
            link.send(protocol.pack(Kind.PUSH, request.number, note=note, size=shard.nbytes), elements.plain(shard))

    def close(self) -> None:
        """End all links, and all requests."""
        self._closed.set()
        with self._lock:
            links = [self._head, *self._links.values()]
        for link in links:
            if link.connection is not None:
                link.connection.close()
            link.state.close()
        self._end_all()

    def abandon(self) -> None:
        """In a forked child: let go of all sockets, and tell nobody. Takes no lock, which a thread may have held."""
        for link in (self._head, *self._links.values()):
            if link.connection is not None:
                link.connection.abandon()

    # --- Links

    def host_of(self, device: DeviceId) -> HostId | None:
        """The host that a device is on."""
        return self._host_of.get(device)

    def _is_linked(self, host: HostId) -> bool:
        """Whether there is a link to a host. It is made here; on another thread where that may take long."""
        link = self._links.get(host)
        if link is not None and link.state.state is State.OPEN:
            return True
        with self._lock:
            link = self._links.setdefault(host, _Link(host, LinkState(self._patience)))
        if not link.is_doubtful:
            with link.making:
                return self._make(link)
        if time.monotonic() >= link.retry and link.making.acquire(blocking=False):
            threading.Thread(target=self._make_aside, args=(link,), name="polypath-link-again", daemon=True).start()
        return False

    def _make_aside(self, link: _Link) -> None:
        try:
            self._make(link)
        finally:
            link.making.release()

    def _make(self, link: _Link) -> bool:
        if link.state.state is State.OPEN:
            return True
        known = self._hosts.get(link.host)
        if known is None or not known.address or time.monotonic() < link.retry or self._closed.is_set():
            return False
        link.is_doubtful = not self._reach(link, known)
        link.retry = time.monotonic() + _RETRY
        return not link.is_doubtful

    def _reach(self, link: _Link, known: HostAddress) -> bool:
        """Connect to a host, or through the head where it cannot be reached."""
        tunnel = Hello(self._session, link.host, "", tunnel=True)
        ways = [lambda: streams.connect(known.address, self._certificate, self._patience)] if link.is_near else []
        for connect in (*ways, lambda: streams.connect_through(self._address, tunnel)):
            try:
                self._connect(link, connect, link.host, self._token)
            except (OSError, ValueError) as error:
                _log.info("Host %d is not reached%s: %s", link.host, "" if link.is_near else " by the head", error)
                link.is_near = False
            else:
                return True
        link.is_near = True  # It may be back.
        return False

    def _connect(self, link: _Link, connect: Callable[[], Stream], host: HostId, token: str) -> None:
        state = link.state
        if not state.connect():
            raise ConnectionAbortedError("the session is closed")
        try:
            stream = connect()
            try:
                stream.settimeout(self._patience)
                stream.sendall(protocol.pack(Kind.HELLO, note=protocol.encode(Hello(self._session, host, token))))
                incoming = Incoming(stream)
                self._welcome(incoming)
                stream.settimeout(None)
            except BaseException:
                stream.close()
                raise
        except (OSError, ValueError) as error:
            state.broke(str(error))
            raise
        if not state.opened(time.monotonic()):
            stream.close()
            raise ConnectionAbortedError("the session was closed meanwhile")
        take, ended = (self._take_head, self._head_ended) if host == HEAD_HOST else (self._take, self._link_ended)
        link.connection = Connection(incoming, state, take, lambda reason: ended(link, reason))
        threading.Thread(
            target=link.connection.read, name=f"polypath-link-{'head' if host == HEAD_HOST else host}", daemon=True
        ).start()

    def _welcome(self, incoming: Incoming) -> None:
        head = incoming.head()
        if head is None:
            raise ConnectionResetError("it closed the link")
        if head.kind is Kind.BYE:
            raise ConnectionRefusedError(incoming.bytes(head.note).decode(errors="replace"))
        if head.kind is not Kind.WELCOME:
            raise ValueError(f"it answered with a frame of kind {head.kind.name}")
        self._learn(_welcomes.decode(incoming.bytes(head.note)))

    def _learn(self, told: Welcome) -> None:
        with self._lock:
            self._token, self._certificate = told.token or self._token, told.certificate or self._certificate
            self._patience = self._head.state.patience = told.patience or self._patience
            for host in told.hosts:
                self._hosts[host.host] = host
                self._host_of.update(dict.fromkeys(host.devices, host.host))
                if (link := self._links.get(host.host)) is not None:
                    link.retry, link.is_doubtful = 0.0, False

    # --- What comes, on the links' threads

    def _take(self, head: Head, incoming: Incoming) -> None:
        if head.kind is Kind.PIECE:
            self._land(head, incoming)
            return
        answer = incoming.bytes(head.size)
        with self._lock:
            request = self._requests.get(head.number)
            if request is not None and (head.kind is not Kind.DONE or request.tell(head.extra, answer)):
                self._end(request)

    def _land(self, head: Head, incoming: Incoming) -> None:
        box = _boxes.decode(incoming.bytes(head.note))
        request = self._requests.get(head.number)
        place = None if request is None else request.place
        if place is None:
            incoming.skip(head.size)
            return
        room = place[elements.slices(box.start, box.shape)]
        if room.nbytes != head.size:
            raise ValueError(f"{head.size} bytes came for a part of {room.nbytes}")
        elements.receive(incoming, room)

    def _take_head(self, head: Head, incoming: Incoming) -> None:
        if head.kind is Kind.WELCOME:
            self._learn(_welcomes.decode(incoming.bytes(head.note)))
        elif head.kind is Kind.FAILED:
            if (request := self._requests.get(head.number)) is not None:
                self.take_back(request)
        else:
            raise ValueError(f"the head sent a frame of kind {head.kind.name}")

    def _link_ended(self, link: _Link, reason: str) -> None:
        _log.info("The link to host %d ended: %s", link.host, reason)
        link.is_doubtful = True
        with self._lock:
            for request in list(self._requests.values()):
                if request.hosts is None or link.host in request.hosts:
                    self._end(request)

    def _head_ended(self, link: _Link, reason: str) -> None:
        told = link.connection is not None and link.connection.told
        if not told and not self._closed.is_set():
            self._end_all()  # The head may have said meanwhile that nobody answers.
            try:
                self._connect(link, lambda: streams.connect(self._address, ""), HEAD_HOST, "")
            except (OSError, ValueError) as error:
                _log.info("The head is not reached again: %s", error)
            else:
                return
        self._closed.set()
        self._end_all()
        self._ended(reason, told=told)

    def _end_all(self) -> None:
        with self._lock:
            for request in list(self._requests.values()):
                self._end(request)

    def _end(self, request: Request) -> None:
        if self._requests.pop(request.number, None) is not None:
            request.place, request.open = None, False
            request.done.release()

    def _watch(self) -> None:
        while not self._closed.wait(self._patience / 4):
            with self._lock:
                links = [self._head, *self._links.values()]
            for link in links:
                if link.connection is not None:
                    link.connection.tick()


class _Link:
    """One of them: its state lasts, its connection is a new one each time."""

    def __init__(self, host: HostId, state: LinkState) -> None:
        self.host = host
        self.state = state
        self.connection: Connection | None = None
        self.making = threading.Lock()
        self.retry = 0.0
        """When it may be tried again."""
        self.is_near = True
        """Whether to try it without the head."""
        self.is_doubtful = False
        """Whether it ended, or could not be made, where the host was last known to be: no request waits for it."""
