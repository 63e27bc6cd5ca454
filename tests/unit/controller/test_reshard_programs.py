"""Programs that cut arrays anew: compiled by nobody, run by the controller."""

from __future__ import annotations

from polypath.controller import events
from polypath.messages import HostBuffer
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Code, Failure, Sharding

_HALVES = bytes((8, 3, 26, 1, 2, 34, 2, 0, 1))
OLD = Sharding((0, 1), op_sharding=_HALVES)
NEW = Sharding((3, 2), op_sharding=_HALVES)


def cluster() -> SimulatedCluster:
    """Two hosts of two devices, session 1, and array 10 on the first host."""
    found = SimulatedCluster(2, 2)
    found.up()
    found.handle(events.Open(1, "test"))
    buffers = tuple(HostBuffer((1,), None, (device,), b"1234") for device in (0, 1))
    spec = ArraySpec("float32", (2,), OLD)
    found.handle(events.Put(1, found.op(), (events.HostArray(10, spec, None, buffers),)))
    return found


def compile_(at: SimulatedCluster, donate: bool) -> int:
    op = at.op()
    at.handle(events.CompileReshard(1, op, (1, 0), (NEW,), donate))
    loaded = at.replies[1, op]
    assert isinstance(loaded, events.Loaded)
    assert loaded.info.outputs == ()
    return loaded.executable


def execute(at: SimulatedCluster, program: int, *results: int, args: tuple[int, ...] = (10,)) -> events.Result:
    op = at.op()
    at.handle(events.Execute(1, op, program, args, results, 0, True, (), 0))
    at.settle()
    at.controller.check()
    return at.replies[1, op]


def test_the_results_are_named_by_whoever_knows_them() -> None:
    at = cluster()
    program = compile_(at, donate=False)
    first = execute(at, program)
    assert isinstance(first, events.Executed)
    (output,) = first.outputs
    assert output.spec == ArraySpec("float32", (2,), NEW)
    second = execute(at, program, 11)
    assert isinstance(second, events.Executed)
    assert not second.outputs
    for future in (first.status, second.status):
        op = at.op()
        at.handle(events.ExecuteStatus(1, op, future))
        at.settle()
        assert at.replies[1, op] is None
    at.handle(events.Destruct(1, at.op(), (10, 11, output.handle)))
    at.handle(events.Unload(1, at.op(), program))
    at.settle()
    at.controller.check()
    assert not any(worker.values for worker in at.workers.values())


def test_what_is_donated_is_gone() -> None:
    at = cluster()
    program = compile_(at, donate=True)
    assert isinstance(execute(at, program, 11), events.Executed)
    again = execute(at, program, 12)
    assert isinstance(again, Failure)
    assert "was deleted or donated" in again.message


def test_arguments_must_be_as_many_and_on_its_devices() -> None:
    at = cluster()
    program = compile_(at, donate=False)
    refused = execute(at, program, 11, args=(10, 10))
    assert isinstance(refused, Failure)
    assert refused.code is Code.INVALID_ARGUMENT
    assert isinstance(execute(at, program, 12), events.Executed)
    elsewhere = execute(at, program, 13, args=(12,))
    assert isinstance(elsewhere, Failure)
    assert "but the program runs on [1, 0]" in elsewhere.message
