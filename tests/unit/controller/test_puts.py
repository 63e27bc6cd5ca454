"""Which commands bring host buffers to the workers."""

from __future__ import annotations

from polypath import messages
from polypath.controller import events
from polypath.messages import HostBuffer
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Sharding

SHARED = Sharding((0, 1, 2, 3), fully_replicated=True)


def put(sizes: list[int], *, devices: list[tuple[int, ...]]) -> dict[int, list[list[HostBuffer]]]:
    """The buffers of each command for each of two hosts with two devices each."""
    at = SimulatedCluster(2, 2)
    at.up()
    at.handle(events.Open(1, "test"))
    buffers = tuple(
        HostBuffer((size,), None, placed, memoryview(bytes(size))) for size, placed in zip(sizes, devices, strict=True)
    )
    spec = ArraySpec("uint8", (sizes[0],), SHARED)
    effects = at.controller.handle(events.Put(1, at.op(), (events.HostArray(10, spec, None, buffers),)))
    found: dict[int, list[list[HostBuffer]]] = {0: [], 1: []}
    for effect in effects:
        if isinstance(effect, events.Send):
            assert isinstance(effect.command, messages.Put)
            (host,) = effect.hosts
            found[host].append(list(effect.command.buffers))
    return found


def test_small_buffers_for_a_host_go_together() -> None:
    for size in (0, 4, 1 << 19):
        found = put([size] * 4, devices=[(0,), (1,), (2,), (3,)])
        assert [[len(command) for command in commands] for commands in found.values()] == [[2], [2]]


def test_large_buffers_go_one_by_one() -> None:
    found = put([1 << 20] * 4, devices=[(0,), (1,), (2,), (3,)])
    assert [[len(command) for command in commands] for commands in found.values()] == [[1, 1], [1, 1]]


def test_hosts_that_get_the_same_get_it_from_the_same_memory() -> None:
    found = put([1 << 20], devices=[(0, 1, 2, 3)])
    ((first,),), ((second,),) = found[0], found[1]
    assert (first.devices, second.devices) == ((0, 1), (2, 3))
    assert first.data is second.data
