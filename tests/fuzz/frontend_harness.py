"""Drives the frontend's real sessions over the real controller with requests made of bytes.

Nothing of gRPC and no process: the workers are simulated. `one_input` fails if an exception
escapes, if a request is not answered exactly once, if a worker is sent what it cannot do, or
if anything is left once the clients are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Callable
from typing import Final

from choices import Choices
from google.protobuf.message import DecodeError
from wire_requests import DEVICES, Known, Requests

from polypath import messages
from polypath.controller import events
from polypath.controller.events import Effect
from polypath.frontend.host_buffers import HostBuffers
from polypath.frontend.refused import Refused
from polypath.frontend.session import Session
from polypath.frontend.view import ClusterView
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.testing import SimulatedCluster
from polypath.types import Code, Failure, Platform

_MOST_STEPS: Final = 64
_HOSTS: Final = 2
_SIZES: Final = (8, 16, 32, 4, 0, 1)


class Cluster(SimulatedCluster):
    """A simulated cluster whose clients are sessions of the frontend, to which `answer` takes each reply."""

    def __init__(self, islands: int) -> None:
        self.sessions: dict[int, Session] = {}
        self.asked = asyncio.Event()
        """A worker was sent a question for an array's bytes."""
        self.answer: Callable[[events.Reply], None] = lambda reply: self.sessions[reply.session].deliver(
            reply.op, reply.result
        )
        super().__init__(_HOSTS, DEVICES // _HOSTS, islands)

    def view(self) -> ClusterView:
        return ClusterView("fuzz", Platform("cpu", "simulated", "0", {}), self.controller.devices)

    def _do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case events.Reply():
                    self.answer(effect)
                case _:
                    if isinstance(effect, events.Send):
                        assert messages.decode_command(messages.encode(effect.command)) == effect.command
                        if isinstance(effect.command, messages.Fetch):
                            self.asked.set()
                    super()._do([effect])


class Client:
    """One session and what was asked in it."""

    def __init__(self, number: int, cluster: Cluster) -> None:
        self._cluster = cluster
        self._asked: Counter[int] = Counter()
        self.buffers = HostBuffers()
        self._responses: list[bytes] = []
        self.session = Session(number, cluster.view(), self.buffers, cluster.handle, self._responses.append)
        cluster.sessions[number] = self.session
        cluster.handle(events.Open(number, "fuzz"))
        self.alive = True

    @property
    def known(self) -> Known:
        """What the controller knows of this session."""
        return self._cluster.controller._core.sessions[self.session.id]

    def send(self, data: bytes, choices: Choices, size: int = 8) -> None:
        """Let the session read a request; where it waits for a host buffer, upload `size` bytes or die."""
        with contextlib.suppress(DecodeError):
            self._asked[pb.IfrtRequest.FromString(data).request_metadata.op_id] += 1
        try:
            wait = self.session.receive(data)
        except Refused:
            self.close()
            return
        if wait is None:
            return
        reading = wait()
        try:
            while True:
                reading.send(None)
                (expected,) = self.buffers._expected
                if choices.one_in(16):
                    with contextlib.suppress(asyncio.CancelledError):
                        reading.throw(asyncio.CancelledError)
                    self.upload(expected, choices, size)  # the other stream does not know yet
                    self.close()
                    return
                self.upload(expected, choices, size)
        except StopIteration:
            pass

    def upload(self, handle: int, choices: Choices, size: int = 8) -> None:
        """Store a host buffer, or refuse it, mostly of `size` bytes."""
        if choices.one_in(8):
            size = choices.of(_SIZES)
        if choices.one_in(8):
            self.buffers.refuse(handle, Refused(Code.DATA_LOSS, "It did not come."))
            return
        with contextlib.suppress(Refused):
            self.buffers.store(handle, bytes(size))

    def forget(self, handle: int) -> None:
        with contextlib.suppress(Refused):
            self.buffers.delete(handle)

    def check_answers(self) -> None:
        """End the stream: each request was answered once."""
        self.session.acknowledge()
        answers = Counter(pb.IfrtResponse.FromString(data).response_metadata.op_id for data in self._responses)
        missing, extra = self._asked - answers, answers - self._asked
        assert not missing, f"operations {list(missing)} have no answer"
        assert not extra, f"operations {list(extra)} were answered more than once"

    def close(self) -> None:
        self.alive = False
        self.session.close()


def one_input(data: bytes) -> None:
    """One life of a cluster, made of `data`."""
    asyncio.run(_life(Choices(data)))


async def _life(choices: Choices) -> None:
    cluster = Cluster(1 + choices.below(2))
    cluster.up()
    numbers = itertools.count(1)
    clients = [Client(next(numbers), cluster) for _ in range(1 + choices.below(2))]
    requests = Requests(choices)
    for step in range(_MOST_STEPS):
        if choices.exhausted:
            break
        client = choices.of(clients)
        if not client.alive:
            clients.remove(client)
            client = Client(next(numbers), cluster)
            clients.append(client)
        op = choices.of((0, 1, 2**64 - 1)) if choices.one_in(8) else step + 10
        match choices.below(32):
            case 0:
                client.close()
            case 1:
                client.send(choices.take(60), choices)
            case 2:
                client.send(choices.mutated(requests.make(op, client.known).SerializeToString()), choices)
            case 3 | 4 | 5:
                client.upload(choices.below(9), choices)
            case 6:
                client.forget(choices.below(9))
            case 7:
                cluster.outputs = choices.below(4)
            case 8:
                _fail(cluster, choices)
            case 9:
                if choices.one_in(8):
                    cluster.kill(choices.below(_HOSTS))
            case 10 if cluster.starting:
                cluster.join()
            case 10 | 11 | 12 | 13 | 14 | 15 | 16:
                for _ in range(choices.below(16)):
                    cluster.deliver(choices.below(_HOSTS))
            case _:
                request = requests.make(op, client.known)
                client.send(request.SerializeToString(), choices, requests.size)
    cluster.up()
    for client in clients:
        if client.alive:
            client.check_answers()
            client.close()
        assert len(client.buffers) == 0
    cluster.up()
    _nothing_left(cluster)


def _fail(cluster: Cluster, choices: Choices) -> None:
    """A worker says that it could not compute some of its values."""
    worker = cluster.workers.get(choices.below(_HOSTS))
    if worker is not None:
        values = tuple(value for value in sorted(worker.values) if choices.one_in(2))
        cluster.handle(messages.Failed(worker.host, values, Failure(Code.INTERNAL, "it broke"), choices.one_in(8)))


def _nothing_left(cluster: Cluster) -> None:
    statistics = cluster.controller.statistics()
    left = (len(statistics.sessions), statistics.values, statistics.executables, statistics.pending)
    assert left == (0, 0, 0, 0), f"(sessions, values, executables, pending) = {left}"
    for worker in cluster.workers.values():
        assert not worker.values, f"host {worker.host} still has values {worker.values}"
        assert not worker.executables, f"host {worker.host} still has programs {worker.executables}"
