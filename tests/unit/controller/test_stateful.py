"""Generated sequences of events: whatever happens, every question is answered once and nothing leaks."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule

from polypath.controller import events
from polypath.messages import HostBuffer
from polypath.plugins import Wanted
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Code, Failure, ProgramKind, Sharding

HOSTS = 4
DEVICES = 2
Array = tuple[int, int]


class Machine(RuleBasedStateMachine):
    """Clients, arrays, programs; hosts that die at any moment."""

    sessions = Bundle("sessions")
    arrays = Bundle("arrays")
    programs = Bundle("programs")

    def __init__(self) -> None:
        super().__init__()
        self.cluster = SimulatedCluster(HOSTS, DEVICES, islands=2)
        self.asked: dict[tuple[int, int], bool] = {}
        self.handles = iter(range(1, 1 << 60))
        self.numbers = iter(range(1, 1 << 30))
        self.requests: list[tuple[int, int, dict[int, int]]] = []
        """Session and number of what was asked for over links; and its hosts, with how often their links had ended."""
        self.open: set[int] = set()
        self.on: dict[Array, tuple[int, ...]] = {}
        self.compiled: list[tuple[int, int, tuple[int, ...]]] = []
        """Session, op and devices of programs that come back after a loss."""

    @initialize()
    def start(self) -> None:
        self.cluster.up()

    def ask(self, session: int, request: type, **fields: object) -> int:
        op = self.cluster.op()
        self.asked[session, op] = True
        self.cluster.handle(request(session, op, **fields))
        return op

    @rule(target=sessions)
    def connect(self) -> int:
        session = next(self.handles)
        self.cluster.handle(events.Open(session, "test", str(session)))
        self.open.add(session)
        return session

    @rule(session=consumes(sessions))
    def disconnect(self, session: int) -> None:
        self.open.discard(session)
        self.cluster.handle(events.Close(session))

    @rule(target=arrays, session=sessions, first=st.integers(0, 7), count=st.sampled_from((1, 2, 4)))
    def put(self, session: int, first: int, count: int) -> Array:
        devices = tuple((first + i) % 8 for i in range(count))
        handle = next(self.handles)
        spec = ArraySpec("float32", (8,), Sharding(devices, fully_replicated=True))
        array = events.HostArray(handle, spec, None, (HostBuffer((8,), None, devices, b"0" * 32),))
        self.ask(session, events.Put, arrays=(array,))
        self.on[session, handle] = devices
        return session, handle

    @rule(target=arrays, array=arrays)
    def disassemble(self, array: Array) -> Array:
        session, handle = array
        results = tuple(next(self.handles) for _ in self.on[array])
        self.ask(session, events.Disassemble, array=handle, results=results)
        for result, device in zip(results, self.on[array], strict=True):
            self.on[session, result] = (device,)
        return multiple(*[(session, result) for result in results])

    @rule(target=arrays, array=arrays, shift=st.integers(0, 7), donate=st.booleans())
    def copy(self, array: Array, shift: int, donate: bool) -> Array:
        session, handle = array
        result = next(self.handles)
        devices = tuple((d + shift) % 8 for d in self.on[array])
        self.ask(
            session,
            events.Copy,
            arrays=(handle,),
            results=(result,),
            devices=devices,
            memory_kind=None,
            always=False,
            donate=donate,
        )
        self.on[session, result] = devices
        return session, result

    @rule(target=programs, array=arrays, kind=st.sampled_from(("xla", "python")))
    def compile(self, array: Array, kind: ProgramKind) -> tuple[Array, int]:
        op = self.ask(array[0], events.Compile, program=b"", options=b"", devices=self.on[array], kind=kind)
        if kind == "xla":
            self.compiled.append((array[0], op, self.on[array]))
        return array, op

    @rule(program=programs)
    def look_at(self, program: tuple[Array, int]) -> None:
        """Ask about a program, which may have to be loaded again for that."""
        (session, _), op = program
        loaded = self.cluster.replies.get((session, op))
        if isinstance(loaded, events.Loaded):
            self.ask(session, events.ProgramText, executable=loaded.executable)

    @rule(target=arrays, program=programs)
    def execute(self, program: tuple[Array, int]) -> Array:
        array, op = program
        session, handle = array
        loaded = self.cluster.replies.get((session, op))
        if not isinstance(loaded, events.Loaded):
            return multiple()
        result = next(self.handles)
        self.ask(
            session,
            events.Execute,
            executable=loaded.executable,
            args=(handle,),
            results=(result,),
            status=0,
            fill_status=False,
            kept=(),
            launch=0,
        )
        self.on[session, result] = self.on[array]
        return session, result

    @rule(array=arrays)
    def wait(self, array: Array) -> None:
        self.ask(array[0], events.CheckReady, arrays=(array[1],))

    @rule(array=arrays, what=st.sampled_from(("ready", "elements", "address", "arrays")))
    def attach(self, array: Array, what: Wanted) -> None:
        """Ask for something over the client's links; by another program each time, as hosts come and go."""
        self.run_attached(array[0], what, self.on[array], (array[1],), ())

    @rule(target=arrays, session=sessions, first=st.integers(0, 7), count=st.sampled_from((1, 2, 4)))
    def give(self, session: int, first: int, count: int) -> Array:
        """Send an array over them."""
        result, devices = next(self.handles), tuple((first + i) % 8 for i in range(count))
        spec = ArraySpec("float32", (8,), Sharding(devices, fully_replicated=True))
        self.run_attached(session, spec, devices, (), (result,))
        self.on[session, result] = devices
        return session, result

    def run_attached(
        self,
        session: int,
        what: Wanted | ArraySpec,
        on: tuple[int, ...],
        args: tuple[int, ...],
        results: tuple[int, ...],
    ) -> None:
        compiled = self.ask(session, events.CompileAttach, devices=on, what=what)
        loaded = self.cluster.replies[session, compiled]
        if not isinstance(loaded, events.Loaded):
            assert session not in self.open
            return
        number = next(self.numbers)
        hosts = {device // DEVICES for device in on}
        if all(map(self.cluster.located.get, hosts)):
            self.requests.append((session, number, {host: self.cluster.ended[host] for host in hosts}))
        self.ask(
            session,
            events.Execute,
            executable=loaded.executable,
            args=args,
            results=results,
            status=0,
            fill_status=False,
            kept=(),
            launch=number,
        )

    @rule(array=arrays)
    def fetch(self, array: Array) -> None:
        self.ask(array[0], events.Fetch, array=array[1], strides=None)

    @rule(array=arrays)
    def delete(self, array: Array) -> None:
        self.ask(array[0], events.Delete, arrays=(array[1],))

    @rule(array=consumes(arrays))
    def destruct(self, array: Array) -> None:
        self.ask(array[0], events.Destruct, arrays=(array[1],))

    @rule(host=st.integers(0, HOSTS - 1), commands=st.integers(1, 8))
    def deliver(self, host: int, commands: int) -> None:
        for _ in range(commands):
            self.cluster.deliver(host)

    @rule(host=st.integers(0, HOSTS - 1))
    def kill(self, host: int) -> None:
        """Also one that is starting; one that is lost so too often is given up, with its island."""
        if host in self.cluster.workers or any(worker.host == host for worker in self.cluster.starting):
            self.cluster.kill(host)

    @rule()
    def join(self) -> None:
        if self.cluster.starting:
            self.cluster.join()

    @invariant()
    def a_lost_host_has_no_values(self) -> None:
        """Nothing is said to be on a worker that was lost without a snapshot."""
        self.cluster.controller.check()

    def teardown(self) -> None:
        """Once all is quiet, every question of a client that is still there has its answer; then nothing is left."""
        self.cluster.up()
        for session, op in self.asked:
            if session in self.open:
                assert (session, op) in self.cluster.replies, f"op {op} was never answered"
        for session, number, hosts in self.requests:
            told = [(host, of) for host, answered, of in self.cluster.told if answered == number]
            all_told = bool(told) and len({host for host, _ in told}) == told[0][1]
            link_ended = any(self.cluster.ended[host] != before for host, before in hosts.items())
            unanswerable = (str(session), number) in self.cluster.unanswerable
            assert all_told or unanswerable or link_ended or session not in self.open
        self.run_all_again()
        for session in list(self.open):
            self.cluster.handle(events.Close(session))
        self.cluster.up()
        statistics = self.cluster.controller.statistics()
        assert (statistics.values, statistics.executables, statistics.pending) == (0, 0, 0)
        for worker in self.cluster.workers.values():
            assert not worker.values, f"host {worker.host} still has values {worker.values}"
            assert not worker.executables

    def run_all_again(self) -> None:
        """Each program that its client still has runs, on fresh data."""
        results: list[Array] = []
        for session, op, devices in self.compiled:
            loaded = self.cluster.replies.get((session, op))
            if session not in self.open or not isinstance(loaded, events.Loaded):
                continue
            handle, result = next(self.handles), next(self.handles)
            spec = ArraySpec("float32", (8,), Sharding(devices, fully_replicated=True))
            buffers = (HostBuffer((8,), None, devices, b"0" * 32),)
            self.ask(session, events.Put, arrays=(events.HostArray(handle, spec, None, buffers),))
            self.ask(
                session,
                events.Execute,
                executable=loaded.executable,
                args=(handle,),
                results=(result,),
                status=0,
                fill_status=False,
                kept=(),
                launch=0,
            )
            results.append((session, self.ask(session, events.CheckReady, arrays=(result,))))
        self.cluster.up()
        for result in results:
            reply = self.cluster.replies[result]
            if self.cluster.controller.given_up:
                assert reply is None or (isinstance(reply, Failure) and reply.code is Code.UNAVAILABLE), reply
            else:
                assert reply is None, reply


Machine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMachine = Machine.TestCase


def test_failures_flow() -> None:
    """An array that failed makes everything computed from it fail, with the same words."""
    cluster = SimulatedCluster(1, 1)
    cluster.up()
    cluster.handle(events.Open(1, "test"))
    spec = ArraySpec("float32", (), Sharding((0,), fully_replicated=True))
    failure = Failure(Code.INTERNAL, "it broke")
    cluster.handle(events.MakeErrors(1, 1, failure, (spec,), (10,)))
    cluster.handle(events.Copy(1, 2, (10,), (11,), (0,), None, True, False))
    cluster.handle(events.CheckReady(1, 3, (11,)))
    assert cluster.replies[1, 3] == failure
