"""The workers' end: takes the links of clients, sends what they ask for, and keeps what they push until it is claimed.

One server serves all hosts of a process. What clients ask for comes as commands of the controller's, by the name of the
session and the number of the request; what is sent to a client that is gone is dropped.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Collection
from typing import Any, Final

import numpy.typing as npt

from polypath.link import elements, protocol
from polypath.link.connection import Connection, Incoming
from polypath.link.protocol import Box, Head, Hello, Kind, Welcome
from polypath.link.state import LinkState
from polypath.link.streams import Listener, Stream
from polypath.transport.bulk import room
from polypath.transport.keys import BulkKeys
from polypath.types import Code, DeviceId, Failure, HostId

_log = logging.getLogger(__name__)

Pushed = memoryview | Failure
"""The bytes of a shard, or why they do not come."""


class LinkServer:
    """Takes links for the hosts of this process.

    Args:
        listen: `unix:PATH`, or `tcp://HOST` for TLS.
        patience: seconds of silence after which a client is given up.

    Raises:
        OSError: nobody can listen there.
    """

    def __init__(self, listen: str, keys: BulkKeys, patience: float) -> None:
        self._listener = Listener(listen, keys)
        self._secret = keys.secret
        self._patience = patience
        self._lock = threading.Lock()
        self._hosts: dict[HostId, ClientLinks] = {}
        self._closed = threading.Event()
        threading.Thread(target=self._accept, name="polypath-links", daemon=True).start()
        threading.Thread(target=self._watch, name="polypath-links-beat", daemon=True).start()

    @property
    def address(self) -> str:
        """Where clients connect."""
        return self._listener.address

    def serve(self, host: HostId) -> ClientLinks:
        """Take links for a host from now on."""
        with self._lock:
            links = self._hosts[host] = ClientLinks()
            return links

    def leave(self, host: HostId) -> None:
        """End the links of a host, which is at its end."""
        with self._lock:
            links = self._hosts.pop(host, None)
        if links is not None:
            links.close()

    def close(self) -> None:
        """End all."""
        self._closed.set()
        self._listener.close()
        for host in list(self._hosts):
            self.leave(host)

    # --- On threads

    def _accept(self) -> None:
        while True:
            try:
                make = self._listener.accept()
            except OSError:
                return  # It was closed.
            threading.Thread(target=self._greet, args=(make,), name="polypath-link-in", daemon=True).start()

    def _greet(self, make: Callable[[], Stream]) -> None:
        try:
            stream = make()
        except OSError as error:
            _log.info("A client's link was not made: %s", error)
            return
        try:
            stream.settimeout(self._patience)
            incoming = Incoming(stream)
            hello, links = self._admit(incoming)
            stream.settimeout(None)
        except (OSError, ValueError) as error:
            _log.info("Refused a link: %s", error)
            stream.close()
            return
        links.run(hello.session, incoming, LinkState(self._patience))

    def _admit(self, incoming: Incoming) -> tuple[Hello, ClientLinks]:
        head = incoming.head()
        if head is None or head.kind is not Kind.HELLO or head.size:
            raise ValueError("it did not begin with a hello")
        hello = protocol.hellos.decode(incoming.bytes(head.note))
        if not hmac.compare_digest(hello.token, protocol.token(self._secret, hello.session)):
            raise ValueError(f"who connected is not the client of session {hello.session}")
        with self._lock:
            links = self._hosts.get(hello.host)
        if links is None:
            raise ValueError(f"host {hello.host} is not here")
        return hello, links

    def _watch(self) -> None:
        while not self._closed.wait(self._patience / 4):
            with self._lock:
                hosts = list(self._hosts.values())
            for links in hosts:
                links.tick()


class ClientLinks:
    """One host's links, by session."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._links: dict[str, _Link] = {}
        self._closed = False

    def done(self, session: str, number: int, of: int, answer: bytes = b"") -> None:
        """This host has done its part of a request, as `of` hosts are to. Does not wait."""
        self._post(session, protocol.pack(Kind.DONE, number, of=of, size=len(answer)) + answer)

    def failed(self, session: str, number: int) -> None:
        """It will not. Does not wait."""
        self._post(session, protocol.pack(Kind.FAILED, number))

    def send(self, session: str, number: int, start: tuple[int, ...], array: npt.NDArray[Any]) -> None:
        """Send a part of an array, which must stay as it is; waits while much else is on its way."""
        link = self._links.get(session)
        if link is not None:
            link.connection.wait_for_room()
            note = protocol.encode(Box(start, array.shape))
            link.connection.post(protocol.pack(Kind.PIECE, number, note=note, size=array.nbytes), elements.plain(array))

    def claim(self, session: str, number: int, devices: Collection[DeviceId], take: Callable[[Pushed], None]) -> None:
        """Have `take` given the shard that the client pushes for one of these devices, here or on a thread."""
        link = self._links.get(session)
        if link is None:
            take(_gone("it has no link to this host"))
        else:
            link.claim(number, devices, take)

    def tick(self) -> None:
        """Look at the clock for all links."""
        for link in list(self._links.values()):
            link.connection.tick()

    def close(self) -> None:
        """End all links."""
        with self._lock:
            self._closed = True
            links = list(self._links.values())
        for link in links:
            link.connection.close("the host is at its end")
            link.ended("the host is at its end")

    def run(self, session: str, incoming: Incoming, state: LinkState) -> None:
        """Serve a client's link until it is over. In the place of an earlier one, which the client has given up."""
        link = _Link(incoming, state)
        with self._lock:
            if self._closed:
                incoming.stream.close()
                return
            before, self._links[session] = self._links.get(session), link
        if before is not None:
            before.connection.end("the client connected again")
        try:
            link.connection.send(protocol.pack(Kind.WELCOME, note=protocol.encode(Welcome(()))))
            link.connection.read()
        except OSError as error:
            _log.info("A client was not welcomed: %s", error)
        finally:
            with self._lock:
                if self._links.get(session) is link:
                    del self._links[session]

    def _post(self, session: str, frame: bytes) -> None:
        link = self._links.get(session)
        if link is not None:
            link.connection.post(frame)


class _Link:
    """One client's: its connection, what it has pushed, and who waits for what it will push."""

    def __init__(self, incoming: Incoming, state: LinkState) -> None:
        self._state = state
        state.connect()
        state.opened(time.monotonic())
        self.connection: Final = Connection(incoming, state, self._take, self.ended)
        self._changed = threading.Condition()
        self._pushed: dict[tuple[int, DeviceId], memoryview] = {}
        self._claims: dict[tuple[int, DeviceId], Callable[[Pushed], None]] = {}
        self._over = ""

    def claim(self, number: int, devices: Collection[DeviceId], take: Callable[[Pushed], None]) -> None:
        with self._changed:
            key = next(((number, device) for device in devices if (number, device) in self._pushed), None)
            if key is None and not self._over:
                self._claims.update(dict.fromkeys([(number, device) for device in devices], take))
                return
            data: Pushed = _gone(self._over) if key is None else self._pushed.pop(key)
            if not isinstance(data, Failure):
                self._state.holds(-len(data))
                self._changed.notify_all()
        take(data)

    def ended(self, reason: str) -> None:
        """Nothing more comes."""
        with self._changed:
            self._over = reason or "the link is closed"
            claims, self._claims = self._claims, {}
            self._pushed.clear()
            self._changed.notify_all()
        for take in dict.fromkeys(claims.values()):
            take(_gone(reason))

    def _take(self, head: Head, incoming: Incoming) -> None:
        if head.kind is Kind.FAILED:
            self._drop(head.number)
            return
        if head.kind is not Kind.PUSH:
            raise ValueError(f"the client sent a frame of kind {head.kind.name}")
        device = int(incoming.bytes(head.note))
        data = memoryview(room(head.size))[: head.size]
        incoming.fill(data)
        with self._changed:
            take = self._claims.get((head.number, device))
            if take is None:
                self._pushed[head.number, device] = data
                self._state.holds(head.size)
                self._changed.wait_for(lambda: self._state.reads or bool(self._over))
                return
            self._claims = {key: each for key, each in self._claims.items() if each is not take}
        take(data)

    def _drop(self, number: int) -> None:
        """The client pushes no more for a request, as nobody asks for it or it was interrupted."""
        with self._changed:
            for key in [key for key in self._pushed if key[0] == number]:
                self._state.holds(-len(self._pushed.pop(key)))
            claims = [key for key in self._claims if key[0] == number]
            takes = dict.fromkeys(self._claims.pop(key) for key in claims)
        for take in takes:
            take(_gone("it was given up"))


def _gone(reason: str) -> Failure:
    return Failure(
        Code.CANCELLED, f"The link to the client ended before the array had come ({reason}); put the array again."
    )
