"""When workers hear of what a client freed: at once, in the client's order, whatever its size."""

from __future__ import annotations

import pytest

from polypath import messages
from polypath.controller import events
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, HostId, Sharding

SMALL, LARGE = (2,), (1 << 21,)


class Freeing:
    """Two hosts of one device each, and session 1 with a program over both."""

    def __init__(self) -> None:
        self.cluster = SimulatedCluster(2, 1)
        self.cluster.up()
        self.cluster.handle(events.Open(1, "test"))
        op = self.cluster.op()
        self.cluster.handle(events.Compile(1, op, b"", b"", (0, 1)))
        self.cluster.settle()
        loaded = self.cluster.replies[1, op]
        assert isinstance(loaded, events.Loaded)
        self.program = loaded.executable

    def put(self, handle: events.Handle, *devices: int, shape: tuple[int, ...] = SMALL) -> None:
        spec = ArraySpec("float32", shape, Sharding(devices, fully_replicated=True))
        buffer = messages.HostBuffer(shape, None, devices, b"")
        self.cluster.handle(
            events.Put(1, self.cluster.op(), (events.HostArray(handle, spec, None, (buffer,)),)),
        )
        while any(self.cluster.deliver(host) for host in (0, 1)):
            pass

    def free(self, *handles: events.Handle) -> None:
        self.cluster.handle(events.Destruct(1, self.cluster.op(), handles))

    def run(self, result: events.Handle) -> None:
        self.cluster.handle(events.Execute(1, self.cluster.op(), self.program, (), (result,), 0, False, (), 9))

    def waiting(self, host: HostId) -> list[str]:
        return [type(command).__name__ for command in self.cluster.workers[host].commands]


@pytest.mark.parametrize("shape", [SMALL, LARGE])
def test_memory_is_free_before_the_next_program(shape: tuple[int, ...]) -> None:
    at = Freeing()
    at.put(10, 0, 1, shape=shape)
    at.put(11, 1, shape=shape)
    at.free(10)
    at.free(11)
    at.run(20)
    assert at.waiting(0) == ["Forget", "Execute"]
    assert at.waiting(1) == ["Forget", "Forget", "Execute"]
    at.cluster.settle()
    assert [len(worker.values) for worker in at.cluster.workers.values()] == [1, 1]


def test_arrays_freed_together_are_one_command_for_each_set_of_hosts() -> None:
    at = Freeing()
    for handle, devices in ((10, (0, 1)), (11, (0, 1)), (12, (1,))):
        at.put(handle, *devices)
    at.free(10, 11, 12)
    assert [[len(command.values) for command in worker.commands] for worker in at.cluster.workers.values()] == [
        [2],
        [2, 1],
    ]


@pytest.mark.parametrize("lost", [0, 1])
def test_a_host_that_comes_back_has_nothing_of_them(lost: HostId) -> None:
    at = Freeing()
    at.put(10, 0, 1)
    at.free(10)
    at.cluster.kill(lost)
    at.cluster.up()
    assert [worker.values for worker in at.cluster.workers.values()] == [set(), set()]


def test_what_was_put_and_freed_while_its_host_was_away() -> None:
    at = Freeing()
    at.cluster.kill(0)
    at.cluster.settle()
    spec = ArraySpec("float32", SMALL, Sharding((0,), fully_replicated=True))
    buffer = messages.HostBuffer(SMALL, None, (0,), b"")
    at.cluster.handle(events.Put(1, at.cluster.op(), (events.HostArray(10, spec, None, (buffer,)),)))
    at.free(10)
    at.cluster.up()
    assert at.cluster.workers[0].values == set()


def test_shards_that_arrays_share_end_together() -> None:
    at = Freeing()
    at.put(10, 0, 1)
    at.put(11, 0, 1)

    def is_deleted(handle: events.Handle) -> bool:
        op = at.cluster.op()
        at.cluster.handle(events.IsDeleted(1, op, handle))
        answer = at.cluster.replies[1, op]
        assert isinstance(answer, bool)
        return answer

    for array, parts, again in ((10, (20, 21), 30), (11, (22, 23), 31)):
        at.cluster.handle(events.Disassemble(1, at.cluster.op(), array, parts))
        spec = ArraySpec("float32", SMALL, Sharding((1, 0), fully_replicated=True))
        at.cluster.handle(events.Assemble(1, at.cluster.op(), spec, parts[::-1], again))
    at.cluster.handle(events.Delete(1, at.cluster.op(), (20,)))
    assert [handle for handle in (10, 11, 20, 21, 22, 23, 30, 31) if is_deleted(handle)] == [10, 20, 30]
    at.cluster.handle(events.Delete(1, at.cluster.op(), (31,)))
    assert [handle for handle in (10, 11, 20, 21, 22, 23, 30, 31) if is_deleted(handle)] == [10, 11, 20, 22, 23, 30, 31]
    at.free(10, 11, 20, 21, 22, 23, 30, 31)
    at.cluster.settle()
    assert [worker.values for worker in at.cluster.workers.values()] == [set(), set()]
