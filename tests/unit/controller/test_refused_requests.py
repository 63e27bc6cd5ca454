"""What a refused request leaves: errors in its results, and nothing else."""

from __future__ import annotations

from polypath.controller import events
from polypath.messages import HostBuffer
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Code, Failure, Sharding

SPEC = ArraySpec("float32", (2,), Sharding((0,), fully_replicated=True))


def cluster() -> SimulatedCluster:
    """One host of two devices, session 1, and arrays 10 and 11 on the first device."""
    found = SimulatedCluster(1, 2)
    found.up()
    found.handle(events.Open(1, "test"))
    found.handle(put(found, 10, 11))
    found.settle()
    return found


def put(at: SimulatedCluster, *handles: int) -> events.Put:
    buffer = HostBuffer((2,), None, (0,), memoryview(b"12345678"))
    return events.Put(1, at.op(), tuple(events.HostArray(h, SPEC, None, (buffer,)) for h in handles))


def failure_of(at: SimulatedCluster, handle: int) -> Code | None:
    op = at.op()
    at.handle(events.CheckReady(1, op, (handle,)))
    at.settle()
    reply = at.replies[1, op]
    assert reply is None or isinstance(reply, Failure)
    return reply.code if reply else None


def test_a_handle_in_use_keeps_its_array_and_the_others_become_errors() -> None:
    at = cluster()
    op = at.op()
    at.handle(events.Copy(1, op, (10, 10), (12, 11), (1,), None, False, False))
    reply = at.replies[1, op]
    assert isinstance(reply, Failure)
    assert reply.code is Code.ALREADY_EXISTS
    assert [failure_of(at, handle) for handle in (10, 11, 12)] == [None, None, Code.ALREADY_EXISTS]
    # Nothing of array 12 reaches a worker any more: it would not know it.
    at.handle(events.Delete(1, at.op(), (12,)))
    at.handle(events.Destruct(1, at.op(), (10, 11, 12)))
    at.settle()
    assert not at.workers[0].values


def test_what_was_donated_before_the_refusal_is_gone() -> None:
    at = cluster()
    at.handle(events.Bitcast(1, at.op(), (10, 11), (SPEC, SPEC), (12, 11), True))
    op = at.op()
    at.handle(events.IsDeleted(1, op, 10))
    at.handle(events.IsDeleted(1, op + 1, 11))
    assert (at.replies[1, op], at.replies[1, op + 1]) == (True, False)


def test_a_refused_put_sends_nothing() -> None:
    at = cluster()
    effects = at.controller.handle(put(at, 12, 11))
    assert not [effect for effect in effects if isinstance(effect, events.Send) and "Put" in str(effect.command)]


def test_a_remap_plan_beyond_the_shards_is_refused_at_once() -> None:
    at = cluster()
    for end in (2, 2**62):
        every = (events.Interval(0, end, 1),)
        op = at.op()
        at.handle(events.Remap(1, op, (10,), (SPEC,), (events.Mapping(0, 0, every, every),), (20 + op,), False))
        reply = at.replies[1, op]
        assert isinstance(reply, Failure)
        assert reply.message == "A remap plan names arrays or shards that do not exist."


def test_the_status_of_a_program_whose_results_were_freed() -> None:
    at = cluster()
    compile_ = at.op()
    at.handle(events.Compile(1, compile_, b"", b"", (0,)))
    at.settle()
    loaded = at.replies[1, compile_]
    assert isinstance(loaded, events.Loaded)
    at.handle(events.Execute(1, at.op(), loaded.executable, (10,), (20,), 7, True, (), 0))
    at.handle(events.Destruct(1, at.op(), (20,)))
    status = at.op()
    at.handle(events.ExecuteStatus(1, status, 7))
    at.settle()
    assert at.replies[1, status] is None
