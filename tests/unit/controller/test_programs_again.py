"""Programs after a loss: loaded again when they are next needed, under the same handle."""

from __future__ import annotations

from polypath import messages
from polypath.controller import events
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Code, DeviceId, Failure, HostId, ProgramKind, Sharding

NEVER_DOWN = "put the data there again and run the program again, which waits until the host is back."


class Losing:
    """Two hosts of one device each, and session 1 with a program over both."""

    def __init__(self, kind: ProgramKind = "xla", *, islands: int = 1) -> None:
        self.cluster = SimulatedCluster(2, 1, islands=islands)
        self.cluster.up()
        self.cluster.handle(events.Open(1, "test"))
        self.handles = iter(range(10, 1000))
        self.op = self.compile(kind)
        self.cluster.settle()

    def compile(self, kind: ProgramKind = "xla") -> int:
        op = self.cluster.op()
        self.cluster.handle(events.Compile(1, op, b"program", b"options", (0, 1), kind=kind))
        return op

    @property
    def program(self) -> events.Handle:
        loaded = self.cluster.replies[1, self.op]
        assert isinstance(loaded, events.Loaded)
        return loaded.executable

    def put(self, *devices: DeviceId) -> events.Handle:
        handle = next(self.handles)
        spec = ArraySpec("float32", (2,), Sharding(devices, fully_replicated=True))
        array = events.HostArray(handle, spec, None, (messages.HostBuffer((2,), None, devices, b""),))
        self.cluster.handle(events.Put(1, self.cluster.op(), (array,)))
        return handle

    def run(self, *args: events.Handle) -> events.Handle:
        out = next(self.handles)
        op = self.cluster.op()
        self.cluster.handle(events.Execute(1, op, self.program, args, (out,), 0, False, (), 9, None))
        return out

    def wait(self, array: events.Handle) -> int:
        op = self.cluster.op()
        self.cluster.handle(events.CheckReady(1, op, (array,)))
        return op

    def outcome(self, op: int) -> object:
        return self.cluster.replies.get((1, op), "pending")

    def told(self, host: HostId) -> list[str]:
        return [type(command).__name__ for command in self.cluster.workers[host].commands]


def left_alone(at: Losing, text: str) -> None:
    """Host 1 answers the one question that it has by what it saw as another host left a program."""
    commands = at.cluster.workers[1].commands
    (question,) = [each for each in commands if isinstance(each, messages.Await)]
    commands.remove(question)
    seen = Failure(Code.ABORTED, text)
    at.cluster.handle(messages.Failed(1, (), seen, stranded=True))
    at.cluster.handle(messages.Ready((1,), question.request, seen))


def failure_in(outcome: object) -> Failure:
    assert isinstance(outcome, Failure), outcome
    return outcome


def test_the_next_execution_has_it_loaded_and_waits() -> None:
    at = Losing()
    before = at.run(at.put(0, 1))
    at.cluster.settle()
    at.cluster.kill(0)
    lost = failure_in(at.outcome(at.wait(before)))
    assert lost.code is Code.DATA_LOSS
    assert lost.message.endswith(NEVER_DOWN)
    after = at.wait(at.run(at.put(0, 1)))
    assert at.outcome(after) == "pending"
    at.cluster.settle()
    at.cluster.join()
    assert at.told(at.cluster.starting[0].host ^ 1) == []  # Nothing before all of the island is up.
    at.cluster.join()
    assert at.told(0) == at.told(1) == ["Put", "Compile", "Execute", "Await"]
    at.cluster.settle()
    assert at.outcome(after) is None
    at.run(at.put(0, 1))
    assert at.told(0) == ["Put", "Execute"]


def test_it_is_not_loaded_before_it_is_needed() -> None:
    at = Losing()
    at.cluster.kill(1)
    at.cluster.up()
    assert [worker.executables for worker in at.cluster.workers.values()] == [set(), set()]
    op = at.cluster.op()
    at.cluster.handle(events.ProgramText(1, op, at.program))
    assert at.told(0) == ["Compile", "ProgramText"]
    assert at.told(1) == ["Compile"]
    at.cluster.settle()
    assert at.outcome(op) == b"HloModule simulated"


def test_a_program_is_dropped_while_its_host_is_away() -> None:
    at = Losing()
    at.cluster.kill(1)
    at.cluster.handle(events.Unload(1, at.cluster.op(), at.program))
    at.cluster.up()
    assert at.cluster.controller.statistics().executables == 0
    assert [worker.executables for worker in at.cluster.workers.values()] == [set(), set()]


def test_a_compilation_goes_on_where_it_cannot_be_what_ended_the_host() -> None:
    at = Losing()
    op = at.compile()
    at.cluster.deliver(0)  # One has answered, the other never will.
    at.cluster.kill(1)
    assert failure_in(at.outcome(op)).code is Code.DATA_LOSS
    held = at.compile()
    at.cluster.kill(0)
    at.cluster.up()
    assert isinstance(at.outcome(held), events.Loaded)


def test_what_two_hosts_were_to_do_is_not_done_by_one() -> None:
    """The second host is lost after an execution on both was held: none gets it, and it runs when tried again."""
    at = Losing()
    at.cluster.kill(0)
    half_done = at.wait(at.run(at.put(0, 1)))
    at.cluster.kill(1)
    assert failure_in(at.outcome(half_done)).message.startswith("Host 1 of island 0 was lost")
    at.cluster.up()
    assert [worker.executables for worker in at.cluster.workers.values()] == [set(), set()]
    again = at.wait(at.run(at.put(0, 1)))
    at.cluster.up()
    assert at.outcome(again) is None


def test_a_host_that_was_left_alone_is_heard_before_the_loss_is_known() -> None:
    """Whoever waits hears of the loss, not of what the other host saw of it."""
    at = Losing()
    out = at.run(at.put(0, 1))
    waits = at.wait(out)
    left_alone(at, "Gloo all-reduce failed: Connection reset by peer")
    assert at.outcome(waits) == "pending"
    at.cluster.kill(0)
    at.cluster.settle()
    assert failure_in(at.outcome(waits)).message.startswith("Host 0 of island 0 was lost")
    at.cluster.up()
    assert failure_in(at.outcome(at.wait(out))).message.startswith("Host 0 of island 0 was lost")
    assert at.outcome(at.wait(at.run(at.put(0, 1)))) == "pending"


def test_an_island_whose_group_broke_is_formed_anew_though_no_host_is_lost() -> None:
    at = Losing()
    waits = at.wait(at.run(at.put(0, 1)))
    left_alone(at, "Gloo all-reduce failed: Timed out")
    at.cluster.up()
    assert failure_in(at.outcome(waits)).code is Code.ABORTED
    again = at.wait(at.run(at.put(0, 1)))
    at.cluster.settle()
    assert at.outcome(again) is None


def test_a_worker_that_cannot_load_it_again_is_asked_once_more() -> None:
    at = Losing()
    at.cluster.kill(0)
    at.cluster.up()
    at.run(at.put(0, 1))
    (command,) = [c for c in at.cluster.workers[0].commands if isinstance(c, messages.Compile)]
    at.cluster.settle()
    at.cluster.handle(messages.Compiled((0,), command.executable, Failure(Code.INTERNAL, "no room")))
    at.run(at.put(0, 1))
    assert at.told(0) == ["Put", "Compile", "Execute"]


def test_python_ends_with_its_process_and_says_so() -> None:
    at = Losing("python", islands=2)
    at.cluster.kill(0)
    failure = failure_in(at.outcome(at.wait(at.run(at.put(0, 1)))))
    assert failure.code is Code.DATA_LOSS
    assert failure.message == (
        "The colocated function simulated ended, with what it kept, when island 0 was started again (Host 0 of "
        "island 0 was lost (killed by SIGKILL), and with it the values that needed its devices); call "
        "jax.clear_caches() and make its objects anew."
    )
    at.cluster.up()
    assert not at.cluster.workers[1].executables


def test_a_host_that_was_given_up() -> None:
    at = Losing()
    for _ in range(4):
        at.cluster.kill(0)
        at.cluster.settle()
    compiling = at.compile()
    assert failure_in(at.outcome(compiling)).code is Code.UNAVAILABLE
    failure = failure_in(at.outcome(at.wait(at.run())))
    assert failure.code is Code.UNAVAILABLE
    assert "was given up after 3 starts" in failure.message
