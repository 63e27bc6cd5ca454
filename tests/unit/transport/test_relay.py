"""Relays over real sockets, on one machine and over networks: a head, two levels of them, and workers below."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from polypath.messages import AnyReport, Await, Fetched, Forget, HostBuffer, Memory, Put, Ready
from polypath.transport import HeadChannel, WorkerChannel
from polypath.transport.frames import FIRST_RELAY
from polypath.transport.relay import Relay
from polypath.transport.tree import Tree
from polypath.types import Code, Failure

HOSTS = 5
FAILURE = Failure(Code.INTERNAL, "no luck")


class Cluster:
    """Five hosts where nobody has more than two below: the head, 2 relays, 3 relays below these."""

    def __init__(self, folder: Path, scheme: str) -> None:
        self.on_machine = scheme == "unix"
        self.folder = folder
        self.listen = f"ipc://{folder}/" if self.on_machine else "tcp://127.0.0.1"
        self.tree = Tree(HOSTS, 2)
        self.reports: asyncio.Queue[AnyReport] = asyncio.Queue()
        address = f"unix:{folder}/head" if self.on_machine else "tcp://127.0.0.1:*"
        self.silent: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
        self.head = HeadChannel(address, self.reports.put_nowait, on_silent=lambda *told: self.silent.put_nowait(told))
        self.workers: dict[int, WorkerChannel] = {}
        self.relays: dict[int, Relay] = {}
        self.sequence = 0

    async def start(self) -> None:
        for host in range(HOSTS):
            relay = self.tree.relay_of(host)
            assert relay is not None
            for branch in self.tree.above(relay):
                if branch.relay not in self.relays:
                    await self._start_relay(branch.relay, branch.above)
            await self.start_worker(host, 1)

    async def _start_relay(self, relay: int, above: int | None) -> None:
        link = self.head.link_relay(relay, 1, f"{self.listen}r{relay}" if self.on_machine else self.listen, above)
        await self.head.settled()
        self.relays[relay] = Relay(link)
        await self.head.serving(relay)

    async def start_worker(self, host: int, incarnation: int) -> None:
        link = self.head.link(host, incarnation, f"ipc://{self.folder}/w{host}.{incarnation}", self.tree.relay_of(host))
        await self.head.settled()
        worker = self.workers[host] = WorkerChannel(link)
        worker.send(Fetched(host, 0, Memory(memoryview(b"up"))))
        assert await self.reports.get() == Fetched(host, 0, Memory(memoryview(b"up")))

    def send(self, hosts: tuple[int, ...], command: Await | Forget) -> None:
        self.sequence += 1
        self.head.send(hosts, self.sequence, command)

    async def received(self, *hosts: int) -> None:
        """Have these take their next command."""
        for host in hosts:
            await asyncio.to_thread(self.workers[host].receive)

    async def close(self) -> None:
        for worker in self.workers.values():
            worker.close(linger=0)
        for relay in self.relays.values():
            relay.close()
        self.head.close()
        await asyncio.sleep(0)  # What was closed is let go of in the loop's next turn.


@contextlib.asynccontextmanager
async def cluster(folder: Path, scheme: str) -> AsyncIterator[Cluster]:
    made = Cluster(folder, scheme)
    try:
        await made.start()
        yield made
    finally:
        await made.close()


@pytest.fixture(params=["unix", "tcp"])
def scheme(request: pytest.FixtureRequest) -> str:
    return request.param


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(limited())


def test_commands_reach_their_hosts_in_order(tmp_path: Path, scheme: str) -> None:
    async def test() -> None:
        async with cluster(tmp_path, scheme) as it:
            for number in range(300):
                it.send((0, 1, 2, 3, 4), Forget((number,)))
                it.send((1, 4), Forget((1000 + number,)))
            for host, worker in it.workers.items():
                for number in range(300):
                    assert await asyncio.to_thread(worker.receive) == Forget((number,))
                    if host in (1, 4):
                        assert await asyncio.to_thread(worker.receive) == Forget((1000 + number,))
            # The head has two below it, and sends no more than that.
            assert it.head.statistics().commands == 300 * 4

    run(test)


def test_large_buffers_pass_through_relays(tmp_path: Path, scheme: str) -> None:
    data = memoryview(bytes(range(256)) * 2048)
    put = Put(1, "uint8", data.shape, "", None, (HostBuffer(data.shape, None, (4,), data),))

    async def test() -> None:
        async with cluster(tmp_path, scheme) as it:
            it.send((4,), put)
            assert await asyncio.to_thread(it.workers[4].receive) == put
            await asyncio.to_thread(it.workers[4].send, Fetched(4, 9, Memory(data)))
            assert await it.reports.get() == Fetched(4, 9, Memory(data))

    run(test)


def test_equal_answers_come_as_one_from_each_child(tmp_path: Path, scheme: str) -> None:
    async def test() -> None:
        async with cluster(tmp_path, scheme) as it:
            it.send((0, 1, 2, 3, 4), Await(7, (1,)))
            for host, worker in it.workers.items():
                assert await asyncio.to_thread(worker.receive) == Await(7, (1,))
                worker.send(Ready((host,), 7, None))
            answers = [await it.reports.get(), await it.reports.get()]
            assert all(isinstance(answer, Ready) and answer.request == 7 for answer in answers)
            hosts = sorted(sorted(answer.hosts) for answer in answers if isinstance(answer, Ready))
            assert hosts == [[0, 1, 2, 3], [4]]
            assert it.reports.empty()

    run(test)


def test_a_failure_waits_for_nobody(tmp_path: Path, scheme: str) -> None:
    async def test() -> None:
        async with cluster(tmp_path, scheme) as it:
            it.send((0, 1), Await(7, (1,)))
            await it.received(0, 1)
            it.workers[0].send(Ready((0,), 7, FAILURE))
            assert await it.reports.get() == Ready((0,), 7, FAILURE)
            it.workers[1].send(Ready((1,), 7, None))
            assert await it.reports.get() == Ready((1,), 7, None)

    run(test)


def test_a_question_does_not_wait_for_who_is_gone(tmp_path: Path, scheme: str) -> None:
    async def test() -> None:
        async with cluster(tmp_path, scheme) as it:
            it.send((0, 1, 2, 3), Await(7, (1,)))
            await it.received(0, 1, 2, 3)
            for host in (0, 2, 3):
                it.workers[host].send(Ready((host,), 7, None))
            it.head.drop(1)
            answer = await it.reports.get()
            assert isinstance(answer, Ready)
            assert sorted(answer.hosts) == [0, 2, 3]

    run(test)


def test_a_worker_that_was_replaced_is_not_heard(tmp_path: Path, scheme: str) -> None:
    async def test() -> None:
        async with cluster(tmp_path, scheme) as it:
            old = it.workers[3]
            await it.start_worker(3, 2)
            old.send(Ready((3,), 7, None))
            it.workers[3].send(Ready((3,), 8, None))
            assert await it.reports.get() == Ready((3,), 8, None)
            it.send((2, 3), Forget((1,)))
            assert await asyncio.to_thread(it.workers[3].receive) == Forget((1,))
            old.close(linger=0)

    run(test)


def test_a_key_that_no_relay_expects_is_refused(tmp_path: Path, scheme: str) -> None:
    async def test() -> None:
        async with cluster(tmp_path, scheme) as it:
            link = it.head.link(4, 2, f"ipc://{tmp_path}/w4.2", it.tree.relay_of(4))
            stranger = WorkerChannel(msgspec.structs.replace(link, keys=it.head.link(4, 3, link.listen).keys))
            stranger.send(Ready((4,), 7, None))
            it.workers[2].send(Ready((2,), 8, None))
            assert await it.reports.get() == Ready((2,), 8, None)
            stranger.close(linger=0)

    run(test)


def test_who_stands_still_is_told_of(tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker below two relays, and a relay below another. Their threads send no beats by themselves any more."""
    monkeypatch.setenv("POLYPATH_HEARTBEAT", "2")

    async def test() -> None:
        async with cluster(tmp_path, scheme) as it:
            below = it.tree.relay_of(4)
            for stopped in (it.workers[0]._end, it.relays[below]._above):
                await asyncio.to_thread(stopped._pulse.stop)
            assert {await it.silent.get(), await it.silent.get()} == {(0, 2), (below, 2)}
            assert it.silent.empty()

    run(test)


def test_a_relay_that_is_left_alone_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_HEARTBEAT", "2")

    async def test() -> None:
        async with cluster(tmp_path, "unix") as it:
            it.head._links._pulse.stop()
            for number, relay in it.relays.items():
                if it.tree.above(number)[-1].above is None:
                    await relay.over.wait()

    run(test)


def test_no_process_has_more_below_than_the_fanout() -> None:
    for hosts, fanout in ((1, 2), (2, 2), (3, 2), (64, 64), (65, 64), (2500, 64), (10000, 64)):
        tree = Tree(hosts, fanout)
        below: dict[int | None, set[int]] = {}
        for host in range(hosts):
            relay = tree.relay_of(host)
            below.setdefault(relay, set()).add(host)
            for branch in () if relay is None else tree.above(relay):
                below.setdefault(branch.above, set()).add(branch.relay)
        assert max(map(len, below.values())) <= fanout
        assert set().union(*(found for found in below.values())) >= set(range(hosts))


def test_a_relay_knows_the_certificate_of_workers_on_networks(tmp_path: Path) -> None:
    async def main() -> None:
        head = HeadChannel(f"unix:{tmp_path}/head", lambda _: None, elsewhere=True)
        relay = head.link_relay(FIRST_RELAY, 1, f"ipc://{tmp_path}/r")
        worker = head.link(0, 1, "tcp://127.0.0.1")
        head.close()
        assert worker.bulk == relay.bulk
        assert worker.bulk.certificate

    asyncio.run(main())
