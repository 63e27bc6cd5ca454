"""The head's end of clients' links, over real sockets, with the client's real end in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import frontend_fakes as fakes
import grpc
import numpy as np
import pytest
from test_frontend_service import SERVICE, _version, session_metadata

from polypath.controller import events
from polypath.frontend import Frontend, HeadLinks
from polypath.link import protocol, streams
from polypath.link.client import Links
from polypath.link.connection import Incoming
from polypath.link.protocol import HEAD_HOST, Hello, HostAddress, Kind
from polypath.link.streams import Stream
from polypath.link.worker import LinkServer, Pushed
from polypath.transport.keys import BulkKeys

PATIENCE = 60.0
SESSION = "a-session"


class Head:
    """With clients that connect to it, and workers that take links."""

    def __init__(self, folder: Path, network: bool = False, patience: float = PATIENCE) -> None:
        self.keys = BulkKeys.new(network=network)
        self.links = HeadLinks(lambda: self.keys, patience)
        self.path = folder / "link"
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.listen = "tcp://127.0.0.1" if network else f"unix:{folder}/w"
        self.clients: list[Links] = []
        self.workers: list[LinkServer] = []

    async def client(self, session: str = SESSION) -> Links:
        loop = asyncio.get_running_loop()

        def ended(reason: str, *, told: bool) -> None:
            assert told
            loop.call_soon_threadsafe(self.ended.put_nowait, reason)

        self.clients.append(await asyncio.to_thread(Links, f"unix:{self.path}", session, ended))
        return self.clients[-1]

    def worker(self, host: int, *devices: int) -> LinkServer:
        server = LinkServer(self.listen, self.keys, PATIENCE)
        self.workers.append(server)
        self.links.locate(HostAddress(host, server.address, devices))
        return server

    def stranger(self) -> socket.socket:
        found = socket.socket(socket.AF_UNIX)
        found.connect(str(self.path))
        return found


@asynccontextmanager
async def serving(folder: Path, network: bool = False, patience: float = PATIENCE) -> AsyncIterator[Head]:
    head = Head(folder, network, patience)
    await head.links.serve(head.path)
    assert head.path.stat().st_mode & 0o777 == 0o600
    try:
        yield head
    finally:
        for client in head.clients:
            await asyncio.to_thread(client.close)
        for worker in head.workers:
            await asyncio.to_thread(worker.close)
        await head.links.stop()
        assert not head.path.exists()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(120):
            await main()

    asyncio.run(bounded())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  (what changes does so on another thread)
        await asyncio.sleep(0)


def test_a_client_hears_where_hosts_are_and_of_changes(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as head:
            server = head.worker(0, 0, 1)
            client = await head.client()
            assert client.hosts_of([0, 1]) == {0}
            assert client.hosts_of([2]) is None
            ends = server.serve(0)
            request = await asyncio.to_thread(client.ask, frozenset({0}))
            assert request is not None
            ends.done(SESSION, request.number, 1, b"here")
            assert await asyncio.to_thread(client.wait, request) == b"here"
            head.links.locate(HostAddress(1, "unix:/nowhere", (2,)))
            await until(lambda: client.hosts_of([2]) == {1})
            head.links.locate(HostAddress(1, "", (2,)))
            assert await asyncio.to_thread(client.ask, frozenset({1})) is None

    run(main)


def test_more_hosts_than_one_frame_can_name(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder, network=True) as head:
            for host in range(3000):
                head.links.locate(HostAddress(host, f"unix:{folder}/{host}", tuple(range(4 * host, 4 * host + 4))))
            client = await head.client()
            await until(lambda: client.hosts_of(range(12_000)) == frozenset(range(3000)))

    run(main)


def test_a_request_that_nobody_answers(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as head:
            head.worker(0, 0).serve(0)
            client = await head.client()
            request = await asyncio.to_thread(client.ask, frozenset({0}))
            assert request is not None
            head.links.fail("another", request.number)
            head.links.fail(SESSION, request.number + 1)
            assert request.open
            head.links.fail(SESSION, request.number)
            assert await asyncio.to_thread(client.wait, request) is None

    run(main)


@pytest.mark.parametrize("network", [False, True], ids=["unix", "tls"])
def test_a_tunnel_through_the_head(folder: Path, network: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a client that no worker's address leads anywhere from; what one has pushed comes through, too."""
    near = streams.connect

    def connect(address: str, certificate: str, *more: float) -> streams.Stream:
        if not address.endswith("/link"):
            raise ConnectionRefusedError("no way leads there from here")
        return near(address, certificate, *more)

    monkeypatch.setattr(streams, "connect", connect)

    async def main() -> None:
        async with serving(folder, network) as head:
            ends = head.worker(0, 0).serve(0)
            client = await head.client()
            place = np.zeros((2000, 3000), np.float32)
            whole = np.arange(place.size, dtype=np.float32).reshape(place.shape)
            request = await asyncio.to_thread(client.ask, frozenset({0}), place)
            assert request is not None

            def converse() -> None:
                ends.send(SESSION, request.number, (0, 0), whole)
                client.push(request, {0: whole})
                came = queue.SimpleQueue[Pushed]()
                ends.claim(SESSION, request.number, (0,), came.put)
                np.testing.assert_array_equal(np.frombuffer(came.get(timeout=60), np.float32), whole.reshape(-1))
                ends.done(SESSION, request.number, 1)
                assert client.wait(request) == b""

            await asyncio.to_thread(converse)
            np.testing.assert_array_equal(place, whole)
            head.links.locate(HostAddress(1, "", (1,)))
            head.links.locate(HostAddress(2, f"unix:{folder}/nobody", (2,)))
            await until(lambda: client.hosts_of([2]) is not None)
            for host in (1, 2, 3):
                assert await asyncio.to_thread(client.ask, frozenset({host})) is None
            again = await asyncio.to_thread(client.ask, frozenset({0}))
            assert again is not None
            head.workers[0].leave(0)
            assert await asyncio.to_thread(client.wait, again) is None
            assert await asyncio.to_thread(client.ask, frozenset({0})) is None

    run(main)


def test_why_a_tunnel_leads_nowhere(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as head:
            with head.stranger() as stranger:
                stranger.sendall(hello(Hello(SESSION, 7, "", tunnel=True)))
                assert await asyncio.to_thread(words, stranger) == (
                    Kind.BYE,
                    b"The head does not reach host 7: it is away",
                )

    run(main)


def test_what_a_client_does_not_read_waits_at_its_sender(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as head:
            listener = socket.create_server((f"{folder}/w"), family=socket.AF_UNIX)
            head.links.locate(HostAddress(0, f"unix:{folder}/w", (0,)))
            with head.stranger() as client, listener:
                client.sendall(hello(Hello(SESSION, 0, "", tunnel=True)))
                worker, _ = await asyncio.to_thread(listener.accept)
                worker.setblocking(False)
                sent = turns = 0
                while turns < 1000:  # Of the loop, in which nothing goes.
                    try:
                        sent += worker.send(bytes(1 << 20))
                        turns = 0
                    except BlockingIOError:
                        turns += 1
                        await asyncio.sleep(0)
                    assert sent < 32 << 20, "nothing holds the sender up"
                assert await asyncio.to_thread(client.recv, sent, socket.MSG_WAITALL) == bytes(sent)
                worker.close()
                assert await asyncio.to_thread(client.recv, 1) == b""

    run(main)


def test_a_silent_client_loses_its_link(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder, patience=0.4) as head:
            with head.stranger() as stranger:
                stranger.sendall(hello(Hello("silent", HEAD_HOST, "")))
                incoming = Incoming(Stream(stranger))

                def listen() -> list[Kind]:
                    found: list[Kind] = []
                    with contextlib.suppress(ConnectionResetError):
                        while (told := incoming.head()) is not None:
                            incoming.bytes(told.note)
                            found.append(told.kind)
                    return found

                first, *beats = await asyncio.to_thread(listen)
            assert first is Kind.WELCOME
            assert set(beats) == {Kind.BEAT}

    run(main)


def test_the_head_says_that_it_ends(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as head:
            await head.client()
            await head.links.stop()
            assert await head.ended.get() == ""

    run(main)


def test_strangers_are_refused_and_harm_nobody(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as head:
            client = await head.client()
            for data in (
                b"GET / HTTP/1.1\r\n\r\n",
                protocol.pack(Kind.BEAT),
                protocol.pack(Kind.HELLO, note=b"nonsense"),
                hello(Hello("", HEAD_HOST, "")),
                hello(Hello("other", 5, "")),
                hello(Hello("other", HEAD_HOST, "")) + protocol.pack(Kind.DONE, 1),
            ):
                with head.stranger() as stranger:
                    stranger.sendall(data)
                    while await asyncio.to_thread(stranger.recv, 1 << 16):
                        pass
            assert client.hosts_of([]) == frozenset()
            assert head.ended.empty()

    run(main)


def test_a_session_takes_its_link_along(folder: Path) -> None:
    """With the reason where there is one, which jaxlib does not tell its user."""

    async def main() -> None:
        async with serving(folder) as head:
            controller = fakes.FakeController()
            frontend = Frontend(controller.submit, lambda: fakes.view(1), links=head.links)
            await frontend.serve(f"unix:{folder}/stock.sock")
            async with grpc.aio.insecure_channel(f"unix:{folder}/stock.sock") as channel:
                open_session = channel.stream_stream(SERVICE + "IfrtSession")
                for session, data, words in (
                    ("one", b"\xff\xff", "The client sent bytes that are no IFRT request; the session ends"),
                    ("two", b"", "the connection of its JAX client to the head ended"),
                ):
                    await head.client(session)
                    call = open_session(metadata=session_metadata(_version(25, 3), link=session.encode()))
                    await call.write(data)
                    await call.done_writing()
                    assert (await head.ended.get()).startswith(words)
            assert [event.link for event in controller.of(events.Open)] == ["one", "two"]
            await frontend.stop()

    run(main)


def test_a_session_that_ended_while_its_client_had_no_link(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as head:
            head.links.end("gone", "it rained")
            with pytest.raises(ConnectionRefusedError, match="it rained"):
                await head.client("gone")

    run(main)


def test_a_client_that_gave_its_link_up_connects_again(folder: Path) -> None:
    async def main() -> None:
        async with serving(folder) as head:
            with head.stranger() as before:
                before.sendall(hello(Hello(SESSION, HEAD_HOST, "")))
                assert (await asyncio.to_thread(words, before))[0] is Kind.WELCOME
                client = await head.client()
                with contextlib.suppress(ConnectionResetError):
                    assert await asyncio.to_thread(before.recv, 1) == b""
            head.links.locate(HostAddress(0, f"unix:{folder}/w", (0,)))
            await until(lambda: client.hosts_of([0]) == {0})

    run(main)


def hello(note: Hello) -> bytes:
    return protocol.pack(Kind.HELLO, note=protocol.encode(note))


def words(stranger: socket.socket) -> tuple[Kind, bytes]:
    incoming = Incoming(Stream(stranger))
    head = incoming.head()
    assert head is not None
    return head.kind, incoming.bytes(head.note)
