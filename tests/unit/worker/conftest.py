"""Workers in processes of their own, and programs lowered in another."""

from __future__ import annotations

import itertools
import os
import queue
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import msgspec
import numpy as np
import pytest

from polypath import messages as m
from polypath.transport.keys import BulkKeys, KeyPair, WorkerLink
from polypath.types import Failure
from polypath.worker.config import WorkerConfig

HERE = Path(__file__).parent
HEAD = struct.Struct("<cI")


class WorkerProcess:
    """A worker that is told commands and asked for reports. Device ids: 4 per host."""

    def __init__(self, others: dict[int, WorkerProcess], **config) -> None:
        self.keys = BulkKeys.new(network=False)
        self._folder = tempfile.TemporaryDirectory(prefix="polypath-", dir="/tmp")
        listen = f"ipc://{self._folder.name}/w"
        link = WorkerLink(0, 1, "", "", KeyPair.new(network=False), self.keys, listen, 60.0)
        control = msgspec.Raw(msgspec.json.encode(link))
        self.config = WorkerConfig(**{"island": 0, "devices": 4, "platform": "cpu", "control": control, **config})
        self.joined: m.Joined
        self._others = others
        self._reports: queue.Queue[m.Report | None] = queue.Queue()
        self._kept: list[m.Report] = []
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        env = {**os.environ, "JAX_PLATFORMS": ""}
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "child.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env
        )
        self.process.stdin.write(msgspec.json.encode(self.config) + b"\n")
        self.process.stdin.flush()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        out = self.process.stdout
        while head := out.read(HEAD.size):
            kind, size = HEAD.unpack(head)
            body = out.read(size)
            if kind == b"P":
                host, *rest = msgspec.msgpack.decode(body)
                self._others[host].write(b"P", msgspec.msgpack.encode(rest))
            else:
                self._reports.put(m.decode_report(body))
        self._reports.put(None)

    def write(self, kind: bytes, body: bytes) -> None:
        with self._lock:
            self.process.stdin.write(HEAD.pack(kind, len(body)) + body)
            self.process.stdin.flush()

    def tell(self, *commands: m.Command) -> None:
        for command in commands:
            self.write(b"C", m.encode(command))

    def report(self, kind: type, **wanted):
        """The next report of this kind with these fields."""
        for report in self._kept:
            if isinstance(report, kind) and all(getattr(report, k) == v for k, v in wanted.items()):
                self._kept.remove(report)
                return report
        while True:
            report = self._reports.get(timeout=60)
            assert report is not None, f"the worker ended with {self.process.wait()}"
            if isinstance(report, kind) and all(getattr(report, k) == v for k, v in wanted.items()):
                return report
            self._kept.append(report)

    def start_fetch(self, value: int, device: int, strides=None) -> int:
        request = next(self._numbers)
        self.tell(m.Fetch(request, value, device, strides))
        return request

    def fetch(self, value: int, device: int, dtype="float32", shape=(), strides=None):
        """A shard as numpy, or its failure."""
        request = self.start_fetch(value, device, strides)
        result = self.report(m.Fetched, request=request).result
        if isinstance(result, Failure):
            return result
        data = result.data
        if dtype == "string":
            return bytes(data)
        return np.ndarray(shape, np.dtype(getattr(ml_dtypes, dtype, dtype)), data, 0, strides)

    def wait(self, *values: int) -> Failure | None:
        request = next(self._numbers)
        self.tell(m.Await(request, values))
        return self.report(m.Ready, request=request).failure

    def start_compile(self, executable: int, program, devices) -> None:
        self.tell(m.Compile(executable, *program, tuple(devices)))

    def compile(self, executable: int, program, devices) -> m.Compiled:
        self.start_compile(executable, program, devices)
        return self.report(m.Compiled, executable=executable)

    def put(self, out: int, *shards, devices=(0,), **more) -> None:
        """One dense shard per device."""
        buffers = tuple(
            m.HostBuffer(shard.shape, None, (device,), shard.tobytes())
            for shard, device in zip(shards, devices, strict=True)
        )
        self.tell(m.Put(out, str(shards[0].dtype), shards[0].shape, more.get("memory_kind", ""), None, buffers))

    def end(self) -> int:
        """Its exit status, once it has applied what it was told."""
        with self._lock:
            self.process.stdin.close()
        return self.finish()

    def finish(self) -> int:
        try:
            return self.process.wait(timeout=20)
        finally:
            self.close()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdin.close()
        self.process.stdout.close()
        self._folder.cleanup()


@pytest.fixture(scope="session")
def programs() -> dict[str, tuple[bytes, bytes]]:
    """Lowered programs by name; see `lower.py`."""
    done = subprocess.run([sys.executable, str(HERE / "lower.py")], stdout=subprocess.PIPE, check=True, timeout=90)
    return msgspec.msgpack.decode(done.stdout, type=dict[str, tuple[bytes, bytes]])


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def group_dir() -> Iterator[str]:
    """Where a group's service listens; pytest's own folders are too deep for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="polypath-", dir="/tmp") as folder:
        yield folder


@pytest.fixture
def start(cache_dir, group_dir):
    """Starts workers of one island and waits until they have joined."""
    started: dict[int, WorkerProcess] = {}
    services: list[subprocess.Popen] = []

    def starter(hosts: int = 1, cache_dirs: list[str] | None = None, **config) -> list[WorkerProcess]:
        address = f"unix:{group_dir}/g"
        if hosts > 1:
            service = subprocess.Popen([sys.executable, "-m", "polypath.worker.rendezvous"], stdin=subprocess.PIPE)
            service.stdin.write(msgspec.json.encode({"address": address, "nodes": hosts}) + b"\n")
            service.stdin.flush()
            services.append(service)
        for host in range(hosts):
            more = {"cache_dir": cache_dirs[host] if cache_dirs else cache_dir, **config}
            started[host] = WorkerProcess(
                started, host=host, node=host, nodes=hosts, first_device=4 * host, group_address=address, **more
            )
        workers = list(started.values())
        for worker in workers:
            worker.joined = worker.report(m.Joined)
        for worker in workers:
            worker.tell(m.Peers(tuple(each.joined.peer for each in workers)))
        return workers

    yield starter
    for worker in started.values():
        worker.close()
    for service in services:
        service.stdin.close()
        service.wait(timeout=10)


@pytest.fixture(scope="module")
def _shared(cache_dir):
    workers: dict[str, WorkerProcess] = {}
    yield workers
    for worker in workers.values():
        assert worker.end() == 0


@pytest.fixture
def ids(request) -> itertools.count:
    """Fresh ids: workers outlive tests."""
    return request.session.__dict__.setdefault("_polypath_ids", itertools.count(1))


@pytest.fixture
def worker(_shared, cache_dir) -> WorkerProcess:
    """A worker with 4 CPU devices."""
    return _start("cpu", _shared, cache_dir)


@pytest.fixture(params=["cpu", "null"])
def any_worker(request, _shared, cache_dir) -> WorkerProcess:
    """A worker of each kind."""
    return _start(request.param, _shared, cache_dir)


def _start(platform, shared, cache_dir) -> WorkerProcess:
    if platform not in shared:
        shared[platform] = WorkerProcess(
            {}, host=0, node=0, nodes=1, first_device=0, platform=platform, cache_dir=cache_dir
        )
        shared[platform].joined = shared[platform].report(m.Joined)
    return shared[platform]
