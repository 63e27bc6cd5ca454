"""Hosts that share a process: what they answer alike goes up once, and each answers for itself where it differs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from polypath import messages as m
from polypath.transport import HeadChannel
from polypath.transport.frames import FIRST_RELAY
from polypath.types import Failure
from polypath.worker.config import HostEnded, HostOrder, WorkerConfig

HOSTS = (0, 1, 2, 3)


class Hosts:
    """Four hosts of one device each in one process, told and heard by a head."""

    def __init__(self, folder: Path) -> None:
        self.reports: asyncio.Queue[m.AnyReport] = asyncio.Queue()
        self.ended: asyncio.Queue[tuple[int, HostEnded]] = asyncio.Queue()
        self._folder = folder
        self._head = HeadChannel(f"unix:{folder}/head", self.reports.put_nowait, self._on_ended)
        self._sequence = 0

    async def __aenter__(self) -> Hosts:
        link = self._head.link_relay(FIRST_RELAY, 1, f"ipc://{self._folder}/r")
        await self._head.settled()
        self._process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-m", "polypath.worker.simulated"],
            stdin=subprocess.PIPE,
            bufsize=0,
        )
        self._write(msgspec.json.encode(link))
        await self._head.serving(FIRST_RELAY)
        for host in HOSTS:
            link = self._head.link(host, 1, f"ipc://{self._folder}/w{host}", FIRST_RELAY)
            await self._head.settled()
            config = WorkerConfig(
                host=host,
                island=0,
                node=host,
                nodes=len(HOSTS),
                first_device=host,
                platform="null",
                control=msgspec.Raw(msgspec.json.encode(link)),
            )
            self._write(msgspec.json.encode(HostOrder(host, host, msgspec.Raw(msgspec.json.encode(config)))))
            joined = await self.reports.get()
            assert isinstance(joined, m.Joined)
            assert joined.host == host
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.stdin.close()
        await asyncio.to_thread(self._process.wait)
        self._head.close()
        await asyncio.sleep(0)

    def tell(self, command: m.Command, *hosts: int) -> None:
        self._sequence += 1
        self._head.send(hosts or HOSTS, self._sequence, command)

    def put(self, value: int, *hosts: int) -> None:
        data = np.ones(1, np.float32).tobytes()
        buffers = tuple(m.HostBuffer((1,), None, (host,), data) for host in hosts)
        self.tell(m.Put(value, "float32", (1,), "", None, buffers), *hosts)

    def kill(self, host: int) -> None:
        self._write(msgspec.json.encode(HostOrder(host, host)))

    def _on_ended(self, host: int, words: bytes) -> None:
        self.ended.put_nowait((host, msgspec.json.decode(words, type=HostEnded)))

    def _write(self, line: bytes) -> None:
        self._process.stdin.write(line + b"\n")


@pytest.fixture
def run(tmp_path):
    def limited(test) -> None:
        async def limit() -> None:
            async with asyncio.timeout(60), Hosts(tmp_path) as hosts:
                await test(hosts)

        asyncio.run(limit())

    return limited


def test_what_hosts_answer_alike_goes_up_once(run) -> None:
    async def test(hosts: Hosts) -> None:
        hosts.put(1, *HOSTS)
        for request in (10, 11):
            hosts.tell(m.Await(request, (1,)))
            assert await hosts.reports.get() == m.Ready(HOSTS, request, None)

    run(test)


def test_each_host_keeps_its_own_books(run) -> None:
    async def test(hosts: Hosts) -> None:
        hosts.put(1, *HOSTS)
        hosts.tell(m.Delete((1,)), 2)
        hosts.tell(m.Await(10, (1,)))
        told = await hosts.reports.get()
        assert isinstance(told, m.Ready)
        assert told.hosts == (2,)
        assert isinstance(told.failure, Failure)
        assert await hosts.reports.get() == m.Ready((0, 1, 3), 10, None)

    run(test)


def test_a_host_that_leaves_ends_and_leaves_the_others(run, tmp_path) -> None:
    async def test(hosts: Hosts) -> None:
        hosts.put(1, *HOSTS)
        hosts.tell(m.Snapshot(str(tmp_path / "s"), 60.0), 1)
        assert await hosts.reports.get() == m.Left(1, (1,))
        host, told = await hosts.ended.get()
        assert (host, told.status) == (1, 0)
        hosts.tell(m.Await(10, (1,)), 0, 2, 3)
        assert await hosts.reports.get() == m.Ready((0, 2, 3), 10, None)

    run(test)


def test_hosts_in_step_have_their_own_books_when_one_is_killed(run, programs) -> None:
    async def test(hosts: Hosts) -> None:
        hosts.tell(m.Compile(1, *programs["step4"], HOSTS))
        compiled = await hosts.reports.get()
        assert isinstance(compiled, m.Compiled)
        assert compiled.hosts == HOSTS
        hosts.tell(m.Put(10, "float32", (8,), "", None, (m.HostBuffer((2,), None, HOSTS, bytes(8)),)))
        for step in range(10, 20):
            hosts.tell(m.Execute(1, (step,), (step + 1,), (), step))
            hosts.tell(m.Forget((step,)))
        hosts.tell(m.Await(1, (20,)))
        assert await hosts.reports.get() == m.Ready(HOSTS, 1, None)
        hosts.kill(1)
        host, told = await hosts.ended.get()
        assert (host, told.status) == (1, -9)
        hosts.tell(m.Fetch(2, 20, 3, None), 3)
        assert await hosts.reports.get() == m.Fetched(3, 2, m.Memory(memoryview(bytes(8))))
        for value, known in ((20, True), (19, False)):
            hosts.tell(m.Execute(1, (value,), (100 + value,), (), 99), 0, 2, 3)
            for _ in () if known else (0, 2, 3):
                assert isinstance(await hosts.reports.get(), m.Failed)
        hosts.tell(m.Await(3, (120,)), 0, 2, 3)
        assert await hosts.reports.get() == m.Ready((0, 2, 3), 3, None)

    run(test)
