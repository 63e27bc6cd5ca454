"""Arrays that workers and clients hand over to each other: who is sent what, and what is left of it."""

from __future__ import annotations

from polypath import messages
from polypath.controller import events
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Code, Failure, Sharding

_HALVES = bytes((8, 3, 26, 1, 2, 34, 2, 0, 1))
"""An `OpSharding` of two tiles."""
_PAIRS = bytes((8, 3, 26, 2, 2, 2, 34, 4, 0, 1, 2, 3, 48, 1))
"""One of two tiles, each on two devices."""


def cluster() -> SimulatedCluster:
    """Two hosts of two devices, and session 1."""
    found = SimulatedCluster(2, 2)
    found.up()
    found.handle(events.Open(1, "test"))
    return found


def compile_import(at: SimulatedCluster, spec: ArraySpec) -> int:
    op = at.op()
    at.handle(events.CompileImport(1, op, spec, "/client"))
    loaded = at.replies[1, op]
    assert isinstance(loaded, events.Loaded)
    return loaded.executable


def execute(
    at: SimulatedCluster, program: int, *results: int, args: tuple[int, ...] = (), status: int = 0, question: int = 0
) -> int:
    op = at.op()
    at.handle(events.Execute(1, op, program, args, results, status, bool(status), (), 7, question=question))
    return op


def sent(at: SimulatedCluster) -> dict[int, list[messages.Command]]:
    return {host: list(worker.commands) for host, worker in at.workers.items()}


def test_each_host_takes_its_shards_and_sends_them_back() -> None:
    at = cluster()
    spec = ArraySpec("float32", (4,), Sharding((0, 1, 2, 3), op_sharding=_PAIRS))
    program = compile_import(at, spec)
    executed = at.replies[1, execute(at, program)]
    assert isinstance(executed, events.Executed)
    (output,) = executed.outputs
    assert output.spec == spec
    for commands in sent(at).values():
        (command,) = commands
        assert isinstance(command, messages.Import)
        assert command.shards == (((0, 1), (2,)), ((2, 3), (2,)))
        assert (command.address, command.number) == ("/client", 7)
    at.settle()
    assert at.replies[1, execute(at, program, 11)] == events.Executed(0, ())
    op = at.op()
    at.handle(events.CompileExport(1, op, (0, 1), "/client"))
    loaded = at.replies[1, op]
    assert isinstance(loaded, events.Loaded)
    at.settle()
    assert at.replies[1, execute(at, loaded.executable, args=(11,), status=20)] == events.Executed(20, ())
    (export,) = sent(at)[1]
    assert isinstance(export, messages.Export)
    assert export.boxes == ((0, (0,)), (2, (2,)))
    at.settle()
    at.handle(events.Destruct(1, at.op(), (output.handle, 11)))
    at.handle(events.ExecuteStatus(1, at.op(), 20))
    at.handle(events.Unload(1, at.op(), program))
    assert [isinstance(commands[-1], messages.Unload) for commands in sent(at).values()] == [True, True]
    at.settle()
    assert not any(worker.values for worker in at.workers.values())


def test_several_arrays_are_handed_over_together() -> None:
    """Each shard once, host by host, counted by array and by where it begins in it; whoever fails, fails all."""
    at = cluster()
    for handle, sharding in ((11, Sharding((3, 0), op_sharding=_HALVES)), (12, Sharding((1,)))):
        execute(at, compile_import(at, ArraySpec("float32", (4,), sharding)), handle)
    at.handle(events.CompileExport(1, op := at.op(), (0, 1), "/client"))
    loaded = at.replies[1, op]
    assert isinstance(loaded, events.Loaded)
    at.settle()
    assert at.replies[1, execute(at, loaded.executable, args=(11, 12), status=20)] == events.Executed(20, ())
    (first,), (second,) = (commands for commands in sent(at).values())
    assert isinstance(first, messages.ExportTogether)
    assert first is second
    values = [part.value for part in first.parts]
    assert [(part.index, part.device, part.size) for part in first.parts] == [(1, 0, 2), (2, 1, 4), (0, 3, 2)]
    assert values[0] == values[2] != values[1]
    at.handle(events.ExecuteStatus(1, op := at.op(), 20))
    at.settle()
    assert at.replies[1, op] is None
    failure = at.replies[1, execute(at, loaded.executable, args=(11, 99), status=21)]
    assert isinstance(failure, Failure)


def test_who_asks_with_an_exchange_is_told_of_its_end() -> None:
    """By the hosts that hand over or take; a number goes with one execution, and no status is left."""
    at = cluster()
    spec = ArraySpec("float32", (4,), Sharding((0, 1, 2, 3), op_sharding=_PAIRS))
    program = compile_import(at, spec)
    execute(at, program, 11, question=1)
    assert at.unanswerable == [(1, 1)]
    op = at.op()
    at.handle(events.CompileNotify(1, op, (0,), "/pipe", False))
    execute(at, program, 12, question=2)
    at.handle(events.CompileExport(1, op := at.op(), (0, 1), "/client"))
    loaded = at.replies[1, op]
    assert isinstance(loaded, events.Loaded)
    at.settle()
    for question, args in ((3, (12,)), (3, (12,)), (4, (99,)), (0, (12,))):
        reply = at.replies[1, execute(at, loaded.executable, args=args, question=question)]
        assert isinstance(reply, events.Executed if question == 3 else Failure)
    at.settle()
    assert sorted(at.told) == [(0, 2, 2), (0, 3, 2), (1, 2, 2), (1, 3, 2)]
    assert at.unanswerable == [(1, 1), (1, 4)]
    at.handle(events.Destruct(1, at.op(), (11, 12)))
    at.settle()
    assert not any(worker.values for worker in at.workers.values())
    assert at.controller.statistics().values == 0


def test_a_host_that_is_lost_fails_what_it_was_taking() -> None:
    at = cluster()
    spec = ArraySpec("float32", (4,), Sharding((1, 2), op_sharding=_HALVES))
    program = compile_import(at, spec)
    execute(at, program, 11)
    at.kill(1)
    op = at.op()
    at.handle(events.CheckReady(1, op, (11,)))
    failure = at.replies[1, op]
    assert isinstance(failure, Failure)
    at.up()
    assert at.replies[1, execute(at, program, 12)] == events.Executed(0, ())


def test_what_does_not_fit_is_refused() -> None:
    at = cluster()
    op = at.op()
    untold = Sharding((0, 1), shard_shapes=((2,),))
    at.handle(events.CompileImport(1, op, ArraySpec("float32", (4,), untold), "/client"))
    refused = at.replies[1, op]
    assert isinstance(refused, Failure)
    assert refused.code is Code.UNIMPLEMENTED
    program = compile_import(at, ArraySpec("float32", (4,), Sharding((0, 1), op_sharding=_HALVES)))
    execute(at, program, 11)
    refused = at.replies[1, execute(at, program, 12, args=(11,))]
    assert isinstance(refused, Failure)
    assert "takes no array" in refused.message
