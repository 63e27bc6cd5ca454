"""What workers and a client send each other over its links: who is told to, and who hears that nobody is."""

from __future__ import annotations

import pytest

from polypath import messages
from polypath.controller import events
from polypath.link.protocol import MOST_NUMBER
from polypath.messages import ArraysTogether, Computed, ShardAddress, SmallShard, WholeArray
from polypath.plugins import Wanted
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Code, Failure, Sharding

HALVES = bytes((8, 3, 26, 1, 2, 34, 2, 0, 1))
"""An `OpSharding` of two tiles."""
PAIRS = bytes((8, 3, 26, 2, 2, 2, 34, 4, 0, 1, 2, 3, 48, 1))
"""One of two tiles, each on two devices."""
EVERYWHERE, HERE, THERE, HALF = 10, 11, 12, 13
"""Arrays on all devices, on the first host, on the second; and half on each host."""
PLACES = {
    EVERYWHERE: Sharding((0, 1, 2, 3), op_sharding=PAIRS),
    HERE: Sharding((1,)),
    THERE: Sharding((2,)),
    HALF: Sharding((3, 0), op_sharding=HALVES),
}


class Attaching:
    """Two hosts of two devices, islands of their own or not; session 1, whose links are named, and its arrays."""

    def __init__(self, islands: int = 1, link: str = "mine") -> None:
        self.cluster = SimulatedCluster(2, 2, islands)
        self.cluster.up()
        self.cluster.handle(events.Open(1, "test", link))
        if link:
            for handle, sharding in PLACES.items():
                self.execute(self.attach(ArraySpec("float32", (4,), sharding)), handle, number=1)
            self.cluster.settle()
            self.cluster.told.clear()

    def compile(self, what: Wanted | ArraySpec) -> events.Result:
        devices = what.sharding.devices if isinstance(what, ArraySpec) else (0,)
        self.cluster.handle(events.CompileAttach(1, op := self.cluster.op(), devices, what))
        return self.cluster.replies[1, op]

    def attach(self, what: Wanted | ArraySpec) -> events.Handle:
        loaded = self.compile(what)
        assert isinstance(loaded, events.Loaded)
        return loaded.executable

    def execute(
        self, program: events.Handle, *results: int, number: int, args: tuple[int, ...] = (), status: int = 0
    ) -> events.Result:
        op = self.cluster.op()
        self.cluster.handle(events.Execute(1, op, program, args, results, status, bool(status), (), number))
        return self.cluster.replies[1, op]

    def ask(self, what: Wanted, number: int, *args: int, settle: bool = True) -> None:
        assert self.execute(self.attach(what), number=number, args=args) == events.Executed(0, ())
        if settle:
            self.cluster.settle()

    @property
    def told(self) -> dict[int, list[tuple[int, int]]]:
        """By host: which requests it did its part of, and how many hosts do."""
        found: dict[int, list[tuple[int, int]]] = {}
        for host, number, of in self.cluster.told:
            found.setdefault(host, []).append((number, of))
        return found

    def sent(self, host: int) -> list[messages.Command]:
        return list(self.cluster.workers[host].commands)

    def delivery(self, host: int) -> messages.Delivery:
        (command,) = self.sent(host)
        assert isinstance(command, messages.Deliver)
        assert command.session == "mine"
        return command.what

    def value(self, handle: int) -> int:
        return self.cluster.controller._core.sessions[1].arrays[handle].id


def test_the_hosts_of_the_arrays_say_that_they_are_computed() -> None:
    at = Attaching()
    at.ask("ready", 2, EVERYWHERE)
    at.ask("ready", 3, HERE, THERE, settle=False)
    assert at.delivery(0) == at.delivery(1) == Computed((at.value(HERE), at.value(THERE)))
    at.cluster.settle()
    at.ask("ready", 4, HERE)
    assert at.told == {0: [(2, 2), (3, 2), (4, 1)], 1: [(2, 2), (3, 2)]}
    assert at.cluster.unanswerable == []


def test_the_host_of_the_first_device_tells_what_is_in_an_array_or_where_it_is() -> None:
    at = Attaching()
    at.ask("elements", 2, HALF, settle=False)
    assert at.delivery(1) == SmallShard(at.value(HALF), 3)
    at.cluster.settle()
    at.ask("address", 3, EVERYWHERE, settle=False)
    assert at.delivery(0) == ShardAddress(at.value(EVERYWHERE), 0)
    at.cluster.settle()
    assert at.told == {0: [(3, 1)], 1: [(2, 1)]}


def test_an_array_is_sent_with_each_shard_once() -> None:
    at = Attaching()
    at.ask("arrays", 2, EVERYWHERE, settle=False)
    assert at.delivery(0) == at.delivery(1) == WholeArray(at.value(EVERYWHERE), ((0, (0,)), (2, (2,))))
    at.cluster.settle()
    at.ask("arrays", 3, HERE)
    assert at.told == {0: [(2, 2), (3, 1)], 1: [(2, 2)]}


def test_several_arrays_are_sent_together() -> None:
    """Each shard once, host by host, counted by array and by where it begins in it."""
    at = Attaching()
    at.ask("arrays", 2, HALF, HERE, settle=False)
    together = at.delivery(0)
    assert isinstance(together, ArraysTogether)
    assert together == at.delivery(1)
    found = [(part.index, part.value, part.device, part.size) for part in together.parts]
    assert found == [(1, at.value(HALF), 0, 2), (2, at.value(HERE), 1, 4), (0, at.value(HALF), 3, 2)]


def test_each_host_takes_its_shards_of_what_the_client_sends() -> None:
    at = Attaching()
    spec = ArraySpec("float32", (4,), PLACES[EVERYWHERE])
    program = at.attach(spec)
    executed = at.execute(program, number=7)
    assert isinstance(executed, events.Executed)
    (output,) = executed.outputs
    assert output.spec == spec
    for host in (0, 1):
        (command,) = at.sent(host)
        assert isinstance(command, messages.Take)
        assert command.shards == (((0, 1), (2,)), ((2, 3), (2,)))
        assert (command.session, command.number, command.of) == ("mine", 7, 2)
    assert at.execute(program, 20, number=8, status=21) == events.Executed(21, ())
    at.cluster.settle()
    assert at.told == {0: [(7, 2), (8, 2)], 1: [(7, 2), (8, 2)]}
    at.cluster.handle(events.ExecuteStatus(1, op := at.cluster.op(), 21))
    at.cluster.handle(events.Destruct(1, at.cluster.op(), (output.handle, 20, *PLACES)))
    at.cluster.handle(events.Unload(1, at.cluster.op(), program))
    at.cluster.settle()
    assert at.cluster.replies[1, op] is None
    assert not any(worker.values for worker in at.cluster.workers.values())


@pytest.mark.parametrize("number", [0, -1, MOST_NUMBER + 1])
@pytest.mark.parametrize("what", ["ready", ArraySpec("float32", (4,), PLACES[HERE])])
def test_a_number_that_no_request_has_is_refused(number: int, what: Wanted | ArraySpec) -> None:
    at = Attaching()
    refused = at.execute(at.attach(what), number=number, args=(HERE,))
    assert isinstance(refused, Failure)
    assert refused.message == f"A request on links has a number from 1 to {MOST_NUMBER}, not {number}."


@pytest.mark.parametrize(
    ("what", "args"), [("ready", ()), ("arrays", ()), ("elements", (HERE, THERE)), ("address", ()), ("ready", (99,))]
)
def test_a_request_that_makes_no_sense_is_unanswerable(what: Wanted, args: tuple[int, ...]) -> None:
    at = Attaching()
    at.ask(what, 5, *args)
    assert at.cluster.unanswerable == [("mine", 5)]
    assert at.told == {}


@pytest.mark.parametrize("end", [events.Delete, events.Destruct])
@pytest.mark.parametrize("what", ["ready", "elements", "address", "arrays"])
def test_what_is_gone_is_not_sent(what: Wanted, end: type[events.Delete | events.Destruct]) -> None:
    at = Attaching()
    at.cluster.handle(end(1, at.cluster.op(), (HERE,)))
    at.ask(what, 7, HERE)
    assert at.cluster.unanswerable == [("mine", 7)]
    assert at.told == {}


def test_a_lost_host_sends_nothing_and_the_others_go_on() -> None:
    """Nobody says anything of what it was told: the client sees its link end."""
    at = Attaching(islands=2)
    at.ask("ready", 2, HERE, settle=False)
    at.ask("ready", 3, THERE, settle=False)
    at.cluster.kill(1)
    at.ask("ready", 4, THERE)
    assert at.cluster.unanswerable == [("mine", 4)]
    assert at.told == {0: [(2, 1)]}


def test_a_host_that_is_lost_fails_what_it_was_taking() -> None:
    at = Attaching()
    program = at.attach(ArraySpec("float32", (4,), PLACES[HALF]))
    at.execute(program, 20, number=2)
    at.cluster.kill(1)
    at.cluster.handle(events.CheckReady(1, op := at.cluster.op(), (20,)))
    assert isinstance(at.cluster.replies[1, op], Failure)
    at.cluster.up()
    assert at.execute(program, 21, number=3) == events.Executed(0, ())
    at.cluster.settle()
    assert at.told == {0: [(2, 2), (3, 2)], 1: [(3, 2)]}


def test_a_host_that_was_given_up_takes_nothing() -> None:
    at = Attaching(islands=2)
    program = at.attach(ArraySpec("float32", (4,), PLACES[THERE]))
    for _ in range(4):
        at.cluster.kill(1)
    refused = at.execute(program, 20, number=6)
    assert isinstance(refused, Failure)
    assert refused.code is Code.UNAVAILABLE
    assert at.cluster.unanswerable == [("mine", 6)]


def test_where_hosts_take_links() -> None:
    at = Attaching()
    assert at.cluster.located == {0: "unix:0", 1: "unix:1"}
    at.cluster.kill(0)
    assert at.cluster.located == {0: "", 1: ""}  # The other one has to leave.
    at.cluster.up()
    assert at.cluster.located == {0: "unix:0", 1: "unix:1"}


def test_what_does_not_fit_is_refused() -> None:
    at = Attaching()
    refused = at.compile(ArraySpec("float32", (4,), Sharding((0, 1), shard_shapes=((2,),))))
    assert isinstance(refused, Failure)
    assert refused.code is Code.UNIMPLEMENTED
    refused = at.execute(at.attach(ArraySpec("float32", (4,), PLACES[HALF])), 20, number=4, args=(HERE,))
    assert isinstance(refused, Failure)
    assert "takes none and has one result" in refused.message
    assert at.cluster.unanswerable == [("mine", 4)]


def test_a_client_without_links_is_refused() -> None:
    at = Attaching(link="")
    refused = at.compile("ready")
    assert isinstance(refused, Failure)
    assert refused.message == (
        "This client has no links to the cluster's workers, so they send it nothing themselves; connect with "
        "Polypath's own client."
    )


def test_a_client_that_is_gone_is_told_nothing() -> None:
    at = Attaching()
    at.ask("ready", 5, THERE, settle=False)
    at.cluster.handle(events.Close(1))
    at.cluster.kill(1)
    at.cluster.settle()
    assert at.cluster.unanswerable == []


def test_too_many_hosts_for_one_request() -> None:
    cluster = SimulatedCluster(65, 1, 65)
    cluster.up()
    cluster.handle(events.Open(1, "test", "mine"))
    everywhere = ArraySpec("float32", (4,), Sharding(tuple(range(65)), fully_replicated=True))
    cluster.handle(events.CompileAttach(1, op := cluster.op(), everywhere.sharding.devices, everywhere))
    refused = cluster.replies[1, op]
    assert isinstance(refused, Failure)
    assert "at most 64 hosts itself, and this one is for 65" in refused.message
    buffer = messages.HostBuffer((4,), None, everywhere.sharding.devices, b"")
    cluster.handle(events.Put(1, cluster.op(), (events.HostArray(5, everywhere, None, (buffer,)),)))
    cluster.handle(events.CompileAttach(1, op := cluster.op(), (0,), "ready"))
    loaded = cluster.replies[1, op]
    assert isinstance(loaded, events.Loaded)
    cluster.handle(events.Execute(1, cluster.op(), loaded.executable, (5,), (), 0, False, (), 9))
    assert cluster.unanswerable == [("mine", 9)]
