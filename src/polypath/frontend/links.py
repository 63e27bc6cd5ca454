"""The head's end of clients' links: tells each client where hosts are, what nobody answers, and of its session's end.

A client connects here before it opens its session, and names that session there. Where it cannot reach a host itself,
the head passes the link on, byte by byte, without looking into it. The folder of the socket decides who may connect.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Final

from polypath.aio import TaskSet
from polypath.frontend.lean_server import bind
from polypath.link import protocol
from polypath.link.protocol import HEAD_BYTES, HEAD_HOST, MOST_NOTE, Head, Hello, HostAddress, Kind, Welcome
from polypath.link.state import Due, LinkState
from polypath.transport.bulk import TCP, UNIX
from polypath.transport.keys import BulkKeys
from polypath.transport.sending import client_context
from polypath.types import HostId

_log = logging.getLogger(__name__)

_PASSED: Final = 1 << 18
"""Bytes that are passed on at a time; about twice that is held where the other side does not read."""

_MOST_ENDED: Final = 1024
_MOST_UNREAD: Final = 16 << 20
"""Bytes that a client may leave unread."""

_Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class HeadLinks:
    """All clients' links to the head. Lives on one asyncio loop.

    Args:
        keys: the cluster's; asked for with the first client.
        patience: seconds of silence after which a client's link is given up, but not its session.
    """

    def __init__(self, keys: Callable[[], BulkKeys], patience: float) -> None:
        self._keys = keys
        self._patience = patience
        self._hosts: dict[HostId, HostAddress] = {}
        self._links: dict[str, _Link] = {}
        self._ended: dict[str, str] = {}
        """Sessions that ended while their clients had no link, which they may try to make again; and why."""
        self._tasks = TaskSet(lambda error: _log.error("A client's link failed.", exc_info=error))
        self._server: asyncio.Server | None = None
        self._path: Path | None = None

    async def serve(self, path: Path) -> None:
        """Take links on a socket of that name.

        Raises:
            OSError: nobody can listen there.
        """
        self._server = await asyncio.start_unix_server(self._connected, sock=bind(path), limit=_PASSED)
        self._path = path
        self._tasks.start(self._watch())

    async def stop(self) -> None:
        """End all links in order, and leave no socket behind."""
        if self._server is not None:
            self._server.close()
        for session in list(self._links):
            self.end(session, "")
        await self._tasks.cancel()
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    # --- What clients are told

    def locate(self, host: HostAddress) -> None:
        """A host takes links there from now on."""
        self._hosts[host.host] = host
        frame = protocol.pack(Kind.WELCOME, note=protocol.encode(Welcome((host,))))
        for link in self._links.values():
            link.send(frame)

    def fail(self, session: str, number: int) -> None:
        """No worker will answer this request."""
        if (link := self._links.get(session)) is not None:
            link.send(protocol.pack(Kind.FAILED, number))

    def end(self, session: str, reason: str) -> None:
        """The session is over; for a reason if one is known."""
        if (link := self._links.pop(session, None)) is not None:
            link.close(reason)
        elif session:
            self._ended[session] = reason
            if len(self._ended) > _MOST_ENDED:
                del self._ended[next(iter(self._ended))]

    # --- Who connects

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.start(self._serve(reader, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = await _hello(reader, self._patience)
            if hello.tunnel:
                await self._pass_on(hello.host, (reader, writer))
            elif (reason := self._ended.get(hello.session)) is not None:
                writer.write(protocol.pack(Kind.BYE, note=reason.encode()[:MOST_NOTE]))
            elif hello.host == HEAD_HOST and hello.session:
                await self._converse(hello.session, reader, writer)
            else:
                raise ValueError("it named neither the head nor a tunnel to a host")
        except EOFError:
            pass  # The client closed it.
        except (OSError, ValueError) as error:
            _log.info("A client's link ended: %s", error)
        finally:
            writer.close()

    async def _converse(self, session: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = _Link(writer, LinkState(self._patience))
        if (before := self._links.get(session)) is not None:
            before.abort()  # The client has given it up.
        for welcome in self._welcomes(session):
            link.send(protocol.pack(Kind.WELCOME, note=protocol.encode(welcome)))
        self._links[session] = link
        try:
            while (head := await _head(reader)).kind is not Kind.BYE:
                link.state.heard(time.monotonic())
                if head.kind is not Kind.BEAT:
                    raise ValueError(f"the client sent the head a frame of kind {head.kind.name}")
        finally:
            if self._links.get(session) is link:
                del self._links[session]

    def _welcomes(self, session: str) -> Iterator[Welcome]:
        """All hosts, as many at a time as a note has room for; the first says all else that the client must know."""
        keys = self._keys()
        token, certificate = protocol.token(keys.secret, session), keys.certificate
        hosts: list[HostAddress] = []
        patience = self._patience
        size = room = MOST_NOTE - len(token) - len(certificate) - 64
        for host in self._hosts.values():
            size -= len(protocol.encode(host))
            if size < 0:
                yield Welcome(tuple(hosts), token, certificate, patience)
                hosts, size, token, certificate, patience = [], room, "", "", 0.0
            hosts.append(host)
        yield Welcome(tuple(hosts), token, certificate, patience)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._patience / 4)
            now = time.monotonic()
            for session, link in list(self._links.items()):
                match link.state.due(now):
                    case Due.BREAK:
                        _log.warning("The client of session %s did not answer for %g s.", session, self._patience)
                        del self._links[session]
                        link.abort()
                    case Due.BEAT:
                        link.send(protocol.pack(Kind.BEAT))
                    case None:
                        pass

    # --- Tunnels

    async def _pass_on(self, host: HostId, client: _Ends) -> None:
        try:
            async with _timeout(self._patience):
                worker = await self._reach(host)
        except OSError as error:
            note = f"The head does not reach host {host}: {error}".encode()[:MOST_NOTE]
            client[1].write(protocol.pack(Kind.BYE, note=note))
            raise
        ways = [self._tasks.start(_copy(client[0], worker[1])), self._tasks.start(_copy(worker[0], client[1]))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            worker[1].close()

    async def _reach(self, host: HostId) -> _Ends:
        known = self._hosts.get(host)
        if known is None or not known.address:
            raise ConnectionError("it is away")
        if not known.address.startswith(TCP):
            return await asyncio.open_unix_connection(known.address.removeprefix(UNIX), limit=_PASSED)
        name, _, port = known.address.removeprefix(TCP).rpartition(":")
        tls = client_context(self._keys().certificate)
        return await asyncio.open_connection(name.strip("[]"), int(port), ssl=tls, limit=_PASSED)


class _Link:
    """One client's."""

    def __init__(self, writer: asyncio.StreamWriter, state: LinkState) -> None:
        self._writer = writer
        self.state = state
        state.connect()
        state.opened(time.monotonic())

    def send(self, frame: bytes) -> None:
        """Never waits; a client that does not read loses its link."""
        if self._writer.transport.get_write_buffer_size() > _MOST_UNREAD:
            self.abort()
            return
        self._writer.write(frame)
        self.state.sent(time.monotonic())

    def close(self, reason: str) -> None:
        self._writer.write(protocol.pack(Kind.BYE, note=reason.encode()[:MOST_NOTE]))
        self.state.close(reason)
        self._writer.close()

    def abort(self) -> None:
        self.state.broke("it does not read, or is silent")
        self._writer.transport.abort()


@contextlib.asynccontextmanager
async def _timeout(seconds: float) -> AsyncGenerator[None]:
    """As asyncio's, with a message.

    Raises:
        TimeoutError: it took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise TimeoutError(f"nobody answered for {seconds:g} s") from None


async def _hello(reader: asyncio.StreamReader, patience: float) -> Hello:
    async with _timeout(patience):
        head = await _head(reader)
        if head.kind is not Kind.HELLO:
            raise ValueError("it did not begin with a hello")
        return protocol.hellos.decode(await reader.readexactly(head.note))


async def _head(reader: asyncio.StreamReader) -> Head:
    return protocol.unpack(await reader.readexactly(HEAD_BYTES))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_PASSED):
            sink.write(data)
            await sink.drain()
