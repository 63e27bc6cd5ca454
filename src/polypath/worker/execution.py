"""Applies `Execute`: starts a program at once, or in a lane beside the log where it could wait.

Owns the decision which of both, and what the results are until they are there. Programs over
several devices start in the log's order either way: where one waits in the lane, the next ones do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from polypath import messages as m
from polypath.types import Code, DeviceId, Failure, ProgramKind, ValueId
from polypath.worker.executors.base import Launched, Program, Runner
from polypath.worker.failures import WorkerFailure, failure_of
from polypath.worker.lanes import Lane, Lanes
from polypath.worker.programs import Programs
from polypath.worker.store import Shard, Store, Value
from polypath.worker.waits import Pending, Waits

Fail = Callable[[Iterable[ValueId], Failure, bool], None]
"""Reports values that will never be; the flag is `Failed.stranded`."""


class Executions:
    """Runs the programs of one worker."""

    __slots__ = ("_fail", "_in_order", "_lanes", "_programs", "_runners", "_store", "_waits", "_xla")

    def __init__(
        self,
        runners: Mapping[ProgramKind, Runner],
        programs: Programs,
        store: Store,
        lanes: Lanes,
        waits: Waits,
        fail: Fail,
        *,
        in_order: bool,
    ) -> None:
        """`in_order` tells of devices that run one program after another: nothing may overtake there."""
        self._runners = runners
        self._xla = runners["xla"]
        self._programs = programs
        self._store = store
        self._lanes = lanes
        self._waits = waits
        self._fail = fail
        self._in_order = in_order

    def execute(self, command: m.Execute) -> None:
        """Start a program; whatever goes wrong becomes its results."""
        store = self._store
        try:
            program = self._programs.get(command.executable)
            args = store.get_all(command.args)
            if self._goes_beside(program, args, command):
                self._beside(program, args, command)
                return
            launched = _launch(self._xla, program, args, command)
        except Exception as error:
            failure = failure_of(error)
            named = command.outs + ((command.status,) if command.status else ())
            store.fail(named, failure)
            self._fail(named, failure, self._programs.spans(command.executable))
            return
        if program.info.donated:
            self._mark_donated(program, command)
        store.add(zip(command.outs, launched.outs, strict=True))
        if command.status:
            store.set(command.status, Value(None, launched.end, program.place))

    def _goes_beside(self, program: Program, args: list[Value], command: m.Execute) -> bool:
        if program.kind != "xla" or program.calls_back:
            return True
        for arg in args:
            if arg.whole is None and arg.is_pending():
                return True
        if not self._lanes.busy:
            return False
        if _donates(program, command):
            return True
        return self._lanes["xla"].busy and (self._in_order or len(program.place.devices) > 1)

    def _lane_of(self, program: Program, command: m.Execute) -> Lane:
        """Side by side with the programs of the client's other threads, unless all hosts or devices need one order.

        A function that a program calls may run programs itself, from threads of its own.
        """
        alone = len(program.place.devices) == 1 and not self._in_order
        if program.kind == "python" or (program.kind == "xla" and alone):
            return self._lanes.stream(program.kind, command.stream)
        return self._lanes[program.kind]

    def _mark_donated(self, program: Program, command: m.Execute) -> None:
        for index in program.info.donated:
            if index not in command.kept:
                self._store.mark_deleted(command.args[index])

    # --- In a lane

    def _beside(self, program: Program, args: list[Value], command: m.Execute) -> None:
        local = program.place.local
        outs = [{device: Pending(self._waits) for device in program.local_of(i)} for i in range(len(command.outs))]
        for name, pending in zip(command.outs, outs, strict=True):
            if pending:
                self._store.set(name, Value(dict[DeviceId, Shard | Pending](pending)))
        end = Pending(self._waits)
        if command.status:
            self._store.set(command.status, Value({local[0]: end}))
        # Values of the lane's own, as their forms change while they are used.
        held = [Value(dict(arg.shards), arg.whole, arg.place, arg.shard_type) for arg in args]
        self._mark_donated(program, command)
        lane = self._lane_of(program, command)
        # What was started before and has not come to it may still read what is donated.
        wait_for_others = self._lanes.others(lane) if _donates(program, command) else None
        spans = self._programs.spans(command.executable)

        def run() -> None:
            if wait_for_others is not None:
                wait_for_others()
            try:
                launched = _launch(self._runners[program.kind], program, held, command)
            except Exception as error:
                failure = failure_of(error)
                for pending in outs:
                    _resolve(pending, dict.fromkeys(pending, failure))
                end.resolve(failure)
                self._fail(command.outs, failure, spans)
                return
            for pending, out in zip(outs, launched.outs, strict=True):
                _resolve(pending, out.shards)
            end.resolve(launched.end if launched.end is not None else _NOTHING)

        lane.submit(run)


def _launch(runner: Runner, program: Program, args: list[Value], command: m.Execute) -> Launched:
    launched = runner.execute(program, args, command.kept, command.launch, bool(command.status))
    if len(launched.outs) != len(command.outs):
        raise WorkerFailure(
            Code.INTERNAL, f"The program gave {len(launched.outs)} results where {len(command.outs)} are named."
        )
    return launched


_NOTHING = b""
"""A shard that is there and has no elements."""


def _resolve(pending: dict[DeviceId, Pending], shards: Mapping[DeviceId, Shard | Failure]) -> None:
    for device, each in pending.items():
        each.resolve(shards[device])


def _donates(program: Program, command: m.Execute) -> bool:
    return any(index not in command.kept for index in program.info.donated)
