"""Both ends of links, over real sockets in one process."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from polypath.link import connection, protocol
from polypath.link.client import Links
from polypath.link.connection import Connection, Incoming
from polypath.link.protocol import HostAddress, Kind, Welcome
from polypath.link.state import LinkState
from polypath.link.streams import Listener, Stream, connect
from polypath.link.worker import ClientLinks, LinkServer, Pushed
from polypath.transport.keys import BulkKeys
from polypath.types import Failure

PATIENCE = 60.0
SESSION = "a-session"


class Head:
    """The head's end: tells where hosts are, passes tunnels on, and can say what else a test wants."""

    def __init__(self, path: str, keys: BulkKeys, servers: dict[int, LinkServer], reach: bool) -> None:
        self.keys, self.servers, self.reach = keys, servers, reach
        self.listener = Listener(path, keys)
        self.stream: Any = None
        self.refuses = ""
        self.tunnels = 0
        self.streams: list[Any] = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                stream = self.listener.accept()()
            except OSError:
                return
            self.streams.append(stream)
            threading.Thread(target=self.serve, args=(stream,), daemon=True).start()

    def close(self) -> None:
        self.listener.close()
        for stream in self.streams:
            stream.shutdown()
            stream.close()

    def serve(self, stream: Any) -> None:
        incoming = Incoming(stream)
        head = incoming.head()
        assert head is not None
        hello = protocol.hellos.decode(incoming.bytes(head.note))
        if hello.tunnel:
            self.tunnels += 1
            self.streams.append(connect(self.servers[hello.host].address, self.keys.certificate))
            self.pass_on(incoming, stream, self.streams[-1])
            return
        if self.refuses:
            stream.sendall(protocol.pack(Kind.BYE, note=self.refuses.encode()))
            return
        self.stream = stream
        hosts = [
            HostAddress(host, server.address if self.reach else "unix:/nowhere", (10 * host, 10 * host + 1))
            for host, server in self.servers.items()
        ]
        self.tell(Welcome(tuple(hosts), protocol.token(self.keys.secret, SESSION), self.keys.certificate, PATIENCE))

    def pass_on(self, incoming: Incoming, near: Any, far: Any) -> None:
        def copy(read: Callable[[memoryview], int], write: Any) -> None:
            buffer = memoryview(bytearray(1 << 16))
            with contextlib.suppress(OSError):
                while count := read(buffer):
                    write.sendall(buffer[:count])
            write.shutdown()

        threading.Thread(target=copy, args=(far.recv_into, near), daemon=True).start()
        copy(incoming.recv_into, far)

    def tell(self, welcome: Welcome) -> None:
        self.stream.sendall(protocol.pack(Kind.WELCOME, note=protocol.encode(welcome)))


class Cluster:
    def __init__(self, folder: Path, network: bool, reach: bool = True, hosts: int = 2) -> None:
        self.keys = BulkKeys.new(network=network)
        listen = "tcp://127.0.0.1" if network else f"unix:{folder}/l"
        self.servers = {
            host: LinkServer(listen if network else f"{listen}{host}", self.keys, PATIENCE) for host in range(hosts)
        }
        self.ends: dict[int, ClientLinks] = {host: server.serve(host) for host, server in self.servers.items()}
        self.head = Head(f"unix:{folder}/head", self.keys, self.servers, reach)
        self.ended: list[tuple[str, bool]] = []
        self.links = Links(f"unix:{folder}/head", SESSION, self.end)

    def end(self, reason: str, *, told: bool) -> None:
        self.ended.append((reason, told))

    def close(self) -> None:
        self.links.close()
        for server in self.servers.values():
            server.close()
        self.head.close()


@pytest.fixture(params=["unix", "tls", "tunnel"])
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, network=request.param == "tls", reach=request.param != "tunnel")
    yield made
    assert made.head.tunnels == 0 or request.param == "tunnel"
    made.close()


def test_completions_and_elements(cluster: Cluster) -> None:
    links = cluster.links
    assert links.hosts_of([0, 11]) == {0, 1}
    assert links.hosts_of([99]) is None
    request = links.ask(links.hosts_of([0, 11]))
    assert request is not None
    cluster.ends[1].done(SESSION, request.number, 2, b"elements")
    assert request.open
    cluster.ends[0].done(SESSION, request.number, 2)
    assert links.wait(request) == b"elements"
    assert links.wait(request) == b"elements"
    refused = links.ask(frozenset({0}))
    assert refused is not None
    cluster.ends[0].failed(SESSION, refused.number)
    assert links.wait(refused) is None


def test_arrays_down(cluster: Cluster) -> None:
    links = cluster.links
    whole = np.arange(6_000_000, dtype=np.float32).reshape(2000, 3000)
    place = np.zeros((2000, 3000), np.float32)
    request = links.ask(frozenset({0, 1}), place)
    assert request is not None
    for host, rows in enumerate((slice(0, 1200), slice(1200, 2000))):
        end = cluster.ends[host]
        end.send(SESSION, request.number + 1, (0,), np.ones(300_000))  # Nobody wants it.
        end.send(SESSION, request.number, (rows.start, 0), whole[rows, :1000])
        end.send(SESSION, request.number, (rows.start, 1000), whole[rows, 1000:])
        end.done(SESSION, request.number, 2)
    assert links.wait(request) == b""
    np.testing.assert_array_equal(place, whole)


class Taken:
    def __init__(self) -> None:
        self.came = threading.Event()
        self.found: Pushed | None = None

    def __call__(self, pushed: Pushed) -> None:
        self.found = pushed
        self.came.set()

    def array(self, dtype: Any) -> np.ndarray[Any, Any]:
        assert self.came.wait(60)
        assert isinstance(self.found, memoryview), self.found
        return np.frombuffer(self.found, dtype)


@pytest.mark.parametrize("size", [1, 5_000, 3_000_000])
def test_arrays_up(cluster: Cluster, size: int) -> None:
    links = cluster.links
    early, late = np.arange(size, dtype=np.int32), np.arange(size, dtype=np.int32)[::-1]
    request = links.ask(frozenset({0, 1}))
    assert request is not None
    waits, finds = Taken(), Taken()
    cluster.ends[0].claim(SESSION, request.number, (1, 0), waits)
    links.push(request, {0: early, 11: late})
    np.testing.assert_array_equal(waits.array(np.int32), early)
    cluster.ends[1].claim(SESSION, request.number, (10, 11), finds)
    np.testing.assert_array_equal(finds.array(np.int32), late)


def test_a_request_ends_with_a_link_of_its_hosts(cluster: Cluster) -> None:
    links = cluster.links
    both, one, other, unknown = (
        links.ask(hosts) for hosts in (frozenset({0, 1}), frozenset({0}), frozenset({1}), None)
    )
    assert both is not None
    assert one is not None
    assert other is not None
    assert unknown is not None
    claimed = Taken()
    cluster.ends[0].claim(SESSION, one.number, (0,), claimed)
    cluster.servers[0].leave(0)
    assert [links.wait(request) for request in (both, one, unknown)] == [None, None, None]
    assert claimed.came.wait(60)
    assert isinstance(claimed.found, Failure)
    assert claimed.found.message == (
        "The link to the client ended before the array had come (the host is at its end); put the array again."
    )
    assert other.open
    assert links.ask(frozenset({0})) is None
    cluster.ends[0] = cluster.servers[0].serve(0)
    cluster.head.tell(Welcome((HostAddress(0, cluster.servers[0].address, (0, 1)),)))
    cluster.ends[1].done(SESSION, other.number, 1)
    assert links.wait(other) == b""


def test_the_head_ends_requests_and_the_session(cluster: Cluster) -> None:
    links = cluster.links
    request = links.ask(frozenset({0}))
    assert request is not None
    cluster.head.stream.sendall(protocol.pack(Kind.FAILED, request.number))
    assert links.wait(request) is None
    left = links.ask(frozenset({1}))
    assert left is not None
    cluster.head.stream.sendall(protocol.pack(Kind.BYE, note=b"the cluster goes down"))
    assert links.wait(left) is None
    assert links.ask(frozenset({1})) is None
    assert cluster.ended == [("the cluster goes down", True)]


def test_strangers_are_refused(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, network=False)
    for note in (protocol.encode(protocol.Hello(SESSION, 0, "guessed")), b"nonsense"):
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(cluster.servers[0].address.removeprefix("unix:"))
            stranger.sendall(protocol.pack(Kind.HELLO, note=note))
            assert Incoming(Stream(stranger)).head() is None
    cluster.head.refuses = "The session is unknown."
    with pytest.raises(ConnectionRefusedError, match="The session is unknown"):
        Links(f"unix:{tmp_path}/head", SESSION, cluster.end)
    cluster.close()


def test_what_is_left_of_a_link_does_not_end_the_next(cluster: Cluster) -> None:
    links = cluster.links
    assert links.ask(frozenset({0})) is not None
    link = links._links[0]
    before = link.connection
    assert before is not None
    before.end("its cable was pulled")
    link.retry = 0.0
    while (request := links.ask(frozenset({0}))) is None:  # No request waits until the link is made again.
        pass
    assert link.connection is not before
    before.end("its cable was pulled")
    with pytest.raises(OSError, match=r"is over|cable was pulled"):
        before.send(protocol.pack(Kind.BEAT))
    assert request.open
    cluster.ends[0].done(SESSION, request.number, 1)
    assert links.wait(request) == b""


def test_a_host_that_takes_links_and_says_nothing(tmp_path: Path) -> None:
    """It is given up as one that cannot be reached."""
    cluster = Cluster(tmp_path, network=False, hosts=1)
    silent = Listener(f"unix:{tmp_path}/silent", cluster.keys)
    cluster.head.tell(Welcome((HostAddress(7, silent.address, (70,)),)))
    while cluster.links.hosts_of([70]) is None:
        pass
    cluster.links._patience = 0.1
    cluster.head.servers[7] = cluster.servers[0]
    cluster.head.reach = False
    assert cluster.links.ask(frozenset({7})) is None
    silent.close()
    cluster.close()


def test_a_frame_that_comes_slowly_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    now, chunk, chunks = 100.0, bytes(1 << 16), 20
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: now))
    near, far = socket.socketpair()
    state = LinkState(4.0)
    state.connect()
    state.opened(now)
    incoming = Incoming(Stream(near))
    ended: list[str] = []
    link = Connection(incoming, state, lambda head, rest: rest.skip(head.size), ended.append)
    reader = threading.Thread(target=link.read)
    reader.start()
    with far:
        far.sendall(protocol.pack(Kind.PIECE, 1, size=2 * chunks * len(chunk)))
        for sent in range(1, chunks + 1):
            far.sendall(chunk)
            while incoming.received < protocol.HEAD_BYTES + sent * len(chunk):
                pass
            now += 1
            link.tick()
        assert not ended
        for _ in range(5):
            now += 1
            link.tick()
        assert ended == ["it did not answer for 4 s: is it stopped, or the network between cut?"]
        reader.join()
