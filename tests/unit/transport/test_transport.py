"""The transport over real sockets, on one machine and over networks: order, keys, shards between peers, bad frames."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import socket
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from polypath.messages import (
    AnyReport,
    Await,
    Command,
    Fetched,
    Forget,
    HostBuffer,
    Memory,
    Put,
    Ready,
    Snapshot,
)
from polypath.transport import HeadChannel, KeyPair, WorkerChannel, frames
from polypath.transport.keys import secure_client

Shard = tuple[str, bytes, bytes]


class Pair:
    """A head and its workers in one process."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.address = address
        self.loop = asyncio.new_event_loop()
        self.reports: list[AnyReport] = []
        self.silent: list[tuple[int, float]] = []
        self.head: HeadChannel = self.loop.run_until_complete(self._open())
        self.workers: list[WorkerChannel] = []
        self.shards: queue.SimpleQueue[Shard] = queue.SimpleQueue()
        self.lost: queue.SimpleQueue[tuple[int, int, str]] = queue.SimpleQueue()

    async def _open(self) -> HeadChannel:
        return HeadChannel(self.address, self.reports.append, on_silent=lambda *told: self.silent.append(told))

    def listen(self, host: int) -> str:
        """Where a worker does."""
        return "tcp://127.0.0.1" if self.address.startswith("tcp:") else f"ipc://{self.folder}/w{host}"

    def worker(self, host: int, on_silent: Callable[[str], None] = pytest.fail) -> WorkerChannel:
        link = self.head.link(host, 1, self.listen(host))
        channel = WorkerChannel(link, on_silent)
        channel.peers.listen(
            lambda tag, header, data: self.shards.put((tag, header, bytes(data))),
            lambda peer, reason: self.lost.put((host, peer.host, reason)),
        )
        self.workers.append(channel)
        channel.send(Ready((host,), 0, None))
        self.until(lambda: any(isinstance(r, Ready) and r.hosts == (host,) for r in self.reports))
        return channel

    def send(self, *commands: tuple[tuple[int, ...], int, Command]) -> None:
        """Send (hosts, sequence, command) in one turn of the loop, and have it written."""
        for hosts, sequence, command in commands:
            self.head.send(hosts, sequence, command)
        self.loop.run_until_complete(self.step())

    def until(self, condition: Callable[[], bool]) -> None:
        """Run the head's loop until `condition` holds."""

        async def wait() -> None:
            async with asyncio.timeout(30):
                while not condition():
                    await self.step()

        self.loop.run_until_complete(wait())

    async def step(self) -> None:
        """Let the loop look at its sockets once."""
        await asyncio.sleep(0)

    def close(self) -> None:
        for worker in self.workers:
            worker.close(linger=0)
        self.head.close()
        self.loop.run_until_complete(self.step())  # What was closed is let go of in the loop's next turn.
        self.loop.close()


@pytest.fixture(params=["unix", "tcp"])
def pair(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(tmp_path, f"unix:{tmp_path}/workers" if request.param == "unix" else "tcp://127.0.0.1:*")
    yield pair
    pair.close()


def test_commands_arrive_in_order(pair: Pair) -> None:
    worker = pair.worker(0)
    pair.send(*(((0,), number, Forget((number,))) for number in range(1000)))
    assert [worker.receive() for _ in range(1000)] == [Forget((n,)) for n in range(1000)]


@pytest.mark.parametrize("size", [1 << 16, 300_001, 5 << 20])
def test_large_buffers_arrive_whole_and_in_order(pair: Pair, size: int) -> None:
    data = memoryview(os.urandom(size))
    put = Put(1, "uint8", (size,), "", None, (HostBuffer((size,), None, (0,), data),))
    fetched = Fetched(0, 7, Memory(data))
    worker = pair.worker(0)
    found: list[Command] = []

    def answer() -> None:
        found.extend(worker.receive() for _ in range(5))
        for report in (Ready((0,), 1, None), fetched, Ready((0,), 2, None), fetched):
            worker.send(report)

    answering = threading.Thread(target=answer)
    answering.start()
    commands: list[Command] = [Forget((1,)), put, Forget((2,)), put, put]
    pair.send(*(((0,), number, command) for number, command in enumerate(commands)))
    pair.until(lambda: len(pair.reports) == 5)
    answering.join()
    assert found == commands
    assert pair.reports[1:] == [Ready((0,), 1, None), fetched, Ready((0,), 2, None), fetched]


def test_a_command_goes_only_to_its_hosts(pair: Pair) -> None:
    first, second = pair.worker(0), pair.worker(1)
    pair.send(((1,), 1, Forget((1,))), ((0, 1), 2, Forget((2,))))
    assert first.receive() == Forget((2,))
    assert [second.receive(), second.receive()] == [Forget((1,)), Forget((2,))]


def test_reports_arrive_in_order(pair: Pair) -> None:
    worker = pair.worker(0)

    def send() -> None:
        for number in range(1, 500):
            worker.send(Ready((0,), number, None))

    sender = threading.Thread(target=send)
    sender.start()
    pair.until(lambda: len(pair.reports) == 500)
    sender.join()
    assert [r.request for r in pair.reports if isinstance(r, Ready)] == list(range(500))


def test_a_replaced_worker_is_not_heard(pair: Pair) -> None:
    old = pair.worker(0)
    link = pair.head.link(0, 2, f"ipc://{pair.folder}/again")
    old.send(Ready((0,), 7, None))
    new = WorkerChannel(link)
    pair.workers.append(new)
    new.send(Ready((0,), 8, None))
    pair.until(lambda: len(pair.reports) > 1)
    assert [r.request for r in pair.reports if isinstance(r, Ready)] == [0, 8]


def test_shards_go_from_worker_to_worker(pair: Pair) -> None:
    first, second = pair.worker(0), pair.worker(1)
    for worker in (first, second):
        worker.peers.connect([first.peers.me, second.peers.me])
    data = os.urandom(1 << 20)
    first.peers.send(1, "7:0:0", b"header", memoryview(data))
    assert pair.shards.get(timeout=30) == ("7:0:0", b"header", data)


def test_a_shard_may_come_before_its_taker_knows_the_sender(pair: Pair) -> None:
    first, second = pair.worker(0), pair.worker(1)
    first.peers.connect([second.peers.me])
    first.peers.send(1, "tag", b"header", b"data")
    assert pair.shards.get(timeout=30) == ("tag", b"header", b"data")


def test_a_shard_for_a_host_that_is_away_waits(pair: Pair) -> None:
    first, second = pair.worker(0), pair.worker(1)
    first.peers.send(1, "tag", b"header", b"data")
    first.peers.connect([second.peers.me])
    assert pair.shards.get(timeout=30) == ("tag", b"header", b"data")


def test_a_peer_that_cannot_be_reached_is_told_of_and_tried_again(pair: Pair) -> None:
    first, second, third = (pair.worker(host) for host in range(3))
    first.peers.connect([second.peers.me])
    second.peers.close(0)
    first.peers.send(1, "tag", b"header", b"data")
    assert pair.lost.get(timeout=30)[:2] == (0, 1)
    first.peers.connect([msgspec.structs.replace(third.peers.me, host=1)])
    first.peers.send(1, "again", b"header", b"data")
    assert pair.shards.get(timeout=30) == ("again", b"header", b"data")


def test_waiting_ends_when_the_descriptor_is_readable(pair: Pair) -> None:
    worker = pair.worker(0)
    readable, writable = os.pipe()
    try:
        os.write(writable, b"x")
        assert worker.wait(readable)
    finally:
        os.close(readable)
        os.close(writable)


def test_waiting_ends_when_the_worker_is_told_to(pair: Pair) -> None:
    worker = pair.worker(0)
    readable, writable = os.pipe()
    try:
        pair.send(((0,), 1, Await(1, (1,))), ((0,), 2, Snapshot("/s", 1.0)))
        assert not worker.wait(readable)
        assert [worker.receive(), worker.receive()] == [Await(1, (1,)), Snapshot("/s", 1.0)]
    finally:
        os.close(readable)
        os.close(writable)


def test_a_key_of_another_cluster_is_refused(pair: Pair) -> None:
    link = pair.head.link(0, 1, f"ipc://{pair.folder}/w0")
    stranger = msgspec.structs.replace(link, keys=KeyPair.new(network=not pair.address.startswith("unix:")))
    channel = WorkerChannel(stranger)
    pair.workers.append(channel)
    channel.send(Ready((0,), 0, None))
    pair.until(lambda: pair.head.statistics().refused_keys > 0)
    assert pair.reports == []


def test_a_worker_that_lost_its_head_is_told(tmp_path: Path) -> None:
    pair = Pair(tmp_path, f"unix:{tmp_path}/workers")
    worker = pair.worker(0)
    pair.head.drop(0)
    pair.loop.run_until_complete(pair.step())
    with pytest.raises(ConnectionError, match="closed the link"):
        worker.receive()
    pair.close()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_HEARTBEAT", "2")


def stop_beating(worker: WorkerChannel) -> None:
    """As if its process were stopped: its thread sends nothing by itself any more."""
    worker._end._pulse.stop()


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("pair", ["unix", "tcp"], indirect=True)
def test_a_worker_that_stands_still_is_told_of_and_a_busy_one_is_not(pair: Pair) -> None:
    """The busy one takes no command for the whole time, though some come."""
    told: list[str] = []
    stopped, busy = pair.worker(0, told.append), pair.worker(1, told.append)
    pair.send(((1,), 1, Forget((1,))), ((1,), 2, Forget((2,))))
    stop_beating(stopped)
    pair.until(lambda: bool(pair.silent))
    assert (pair.silent, told) == ([(0, 2)], [])
    assert [busy.receive(), busy.receive()] == [Forget((1,)), Forget((2,))]


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("pair", ["unix", "tcp"], indirect=True)
def test_a_worker_whose_link_broke_is_told_of(pair: Pair) -> None:
    worker = pair.worker(0)
    worker.close(linger=0)
    pair.until(lambda: bool(pair.silent))
    assert pair.silent == [(0, 2)]


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("pair", ["unix", "tcp"], indirect=True)
def test_a_worker_that_never_connects_is_told_of(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polypath.transport.pulse.START_PATIENCE", 3.0)
    pair.head.link(0, 1, pair.listen(0))
    pair.until(lambda: bool(pair.silent))
    assert pair.silent == [(0, 3)]


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("pair", ["unix", "tcp"], indirect=True)
def test_a_worker_whose_head_stands_still_is_told(pair: Pair) -> None:
    told: queue.SimpleQueue[str] = queue.SimpleQueue()
    pair.worker(0, told.put)  # Nobody runs the head's loop from here on.
    assert told.get(timeout=60) == "The head, or the relay above, did not answer for 2 s."


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.integers(0, 255), data=st.binary(max_size=40))
def test_malformed_reports_are_dropped(pair: Pair, kind: int, data: bytes) -> None:
    """Whatever a worker sends as a report, the head counts it and goes on."""
    worker = pair.workers[0] if pair.workers else pair.worker(0)
    before, count = pair.head.statistics(), len(pair.reports)
    worker._end.send(kind, data)
    worker._end.send(frames.REPORT, b"\xc1")
    worker.send(Ready((0,), 1, None))
    pair.until(lambda: len(pair.reports) > count)
    assert pair.head.statistics().refused_frames > before.refused_frames


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=40))
def test_what_is_no_worker_is_closed(tmp_path: Path, data: bytes) -> None:
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        pair = Pair(Path(folder), f"unix:{folder}/workers")
        with socket.socket(socket.AF_UNIX) as stranger:
            stranger.connect(f"{folder}/workers")
            stranger.sendall(struct.pack("<IB", len(data), frames.HELLO) + data)
            stranger.sendall(struct.pack("<IB", 2**31 + 1, frames.HELLO))
            stranger.setblocking(False)
            pair.until(lambda: pair.head.statistics().refused_frames + pair.head.statistics().refused_keys > 0)
            pair.loop.run_until_complete(pair.step())
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""
        pair.worker(0)
        pair.close()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=st.lists(st.binary(max_size=40), min_size=1, max_size=4), as_worker=st.booleans())
def test_malformed_frames_are_dropped(tmp_path: Path, parts: list[bytes], as_worker: bool) -> None:
    """Whatever a holder of a good key sends over a network, the head counts it and goes on."""
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        pair = Pair(Path(folder), "tcp://127.0.0.1:*")
        link = pair.head.link(0, 1, f"ipc://{folder}/w0")
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        push = context.socket(zmq.PUSH)
        secure_client(push, link.keys, link.head_key)
        push.connect(link.reports)
        push.send_multipart([frames.pack_sender(0, 1, frames.REPORT), *parts[1:]] if as_worker else parts)
        push.send_multipart([frames.pack_sender(0, 1, frames.REPORT), b"\xc1"])
        pair.until(lambda: pair.head.statistics().reports > 0)
        assert pair.head.statistics().refused_frames > 0
        context.destroy(linger=0)
        pair.close()
