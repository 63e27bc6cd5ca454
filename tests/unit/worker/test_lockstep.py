"""Hosts in step: to whoever asks they are as hosts that each do everything themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from polypath import messages as m
from polypath.types import Failure
from polypath.worker.config import WorkerConfig
from polypath.worker.executors.null import NullExecutor
from polypath.worker.lockstep import Lockstep
from polypath.worker.server import Worker
from polypath.worker.store import Value
from polypath.worker.waits import Pending, Waits

HOSTS = (0, 1)
DEVICES = (0, 1, 2, 3)
PROGRAMS = {"step4": (1, 1), "step4_donate": (1, 1), "pair4": (2, 2), "pair4_donate": (2, 2), "cast4": (1, 1)}
"""How many arguments and results they have."""


class AtOnce:
    """Threads of a compiler that has nothing to do."""

    def submit(self, work: Callable[..., object], *args: object) -> Future[object]:
        done = Future[object]()
        done.set_result(work(*args))
        return done


class Channel:
    """Of one worker: what it reports."""

    def __init__(self) -> None:
        self.peers = self
        self.me = m.Peer(0, "", "")
        self.reports: list[m.Report] = []

    def listen(self, *_: object) -> None: ...

    def send(self, report: m.Report) -> None:
        self.reports.append(report)


class Clients:
    """Of one worker: what they are told over their links."""

    address = "unix:nowhere"

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def serve(self, _: int) -> Clients:
        return self

    def claim(self, _session: str, number: int, _devices: object, take: Callable[[memoryview], None]) -> None:
        take(memoryview(np.full(2, number, np.float32).tobytes()))

    def done(self, *what: object) -> None:
        self.told.append(what)

    def failed(self, *what: object) -> None:
        self.told.append(what)


class Hosts:
    """Two hosts of two devices each."""

    def __init__(self, *, in_step: bool) -> None:
        self.answers: list[tuple[int, int, Failure | None]] = []
        self.channels = {host: Channel() for host in HOSTS}
        self.clients = {host: Clients() for host in HOSTS}
        self.applied = 0
        """Commands, by each host for itself."""
        self.workers: dict[int, Worker] = {}
        for host in HOSTS:
            config = WorkerConfig(
                host=host, island=0, node=host, nodes=2, first_device=2 * host, platform="null", devices=2
            )
            self.workers[host] = Worker(
                config, self.channels[host], NullExecutor(config), Waits(), self.clients[host], AtOnce()
            )
        self.lockstep = Lockstep(self.workers, self._apply_to_each, self._answer)
        self.tell = self.lockstep.apply if in_step else self._apply_to_each

    def books(self) -> dict[int, dict[int, object]]:
        """What the hosts' own books say of each value."""
        self.lockstep.end()
        return {host: {v: _look(each) for v, each in self.workers[host].store.items()} for host in HOSTS}

    def told(self) -> tuple[Counter[object], Counter[object]]:
        """What they have answered and reported until now."""
        reports = Counter[object](m.encode(report) for channel in self.channels.values() for report in channel.reports)
        reports.update((host, told) for host, clients in self.clients.items() for told in clients.told)
        return Counter[object](map(repr, self.answers)), reports

    def _apply_to_each(self, hosts: tuple[int, ...], command: m.AnyCommand) -> None:
        for host in hosts:
            self.applied += 1
            answer = self.workers[host].handlers[type(command)](command)
            if answer is not None:
                self._answer((host,), answer)

    def _answer(self, hosts: tuple[int, ...], answer: m.Ready) -> None:
        self.answers += [(host, answer.request, answer.failure) for host in hosts]


def _look(value: Value | Failure) -> object:
    if isinstance(value, Failure):
        return value
    shards = {d: s.wait() if isinstance(s, Pending) else s for d, s in value.shards.items()}
    return {d: (s.kind, s.deleted, None if s.data is None else s.data.tobytes()) for d, s in shards.items()}


ROUTES = st.sampled_from((0, 0, 0, 0, 0, 0, 1, 2, 3))
"""Mostly all hosts, by the same tuple."""
INDEX = st.integers(1, 6)
"""Of a value: the newest are used most."""
INDICES = st.lists(INDEX, min_size=1, max_size=2)


class BothWays(RuleBasedStateMachine):
    """The same commands to hosts in step and to others."""

    def __init__(self, lowered: dict[str, tuple[bytes, bytes]]) -> None:
        super().__init__()
        self.both = Hosts(in_step=True), Hosts(in_step=False)
        self.routes = [HOSTS, tuple(range(2)), (0,), (1,)]
        assert self.routes[1] is not HOSTS
        self.values: list[int] = []
        self.last = 0
        self.programs: dict[str, int] = {}
        for name in PROGRAMS:
            self.programs[name] = self.new()
            self.tell(0, m.Compile(self.programs[name], *lowered[name], DEVICES))

    def new(self) -> int:
        self.last += 1
        return self.last

    def tell(self, route: int, command: m.AnyCommand) -> None:
        for hosts in self.both:
            hosts.tell(self.routes[route], command)

    def pick(self, indices: list[int]) -> tuple[int, ...]:
        return tuple(self.values[-min(index, len(self.values))] for index in indices)

    @initialize(size=st.sampled_from((8, 8, 8, 8, 12)))
    def begin(self, size: int) -> None:
        self.put(size, 0)
        self.put(8, 0)

    @rule(size=st.sampled_from((8, 8, 8, 8, 8, 12)), route=ROUTES)
    def put(self, size: int, route: int) -> None:
        shards = np.split(np.arange(size, dtype=np.float32), 4)
        buffers = tuple(
            m.HostBuffer(shard.shape, None, (device,), shard.tobytes())
            for device, shard in zip(DEVICES, shards, strict=True)
        )
        self.values.append(self.new())
        self.tell(route, m.Put(self.values[-1], "float32", (size,), "", None, buffers))

    @rule(route=ROUTES)
    def take(self, route: int) -> None:
        """From a client, which sends eight numbers, two for each device."""
        self.values.append(self.new())
        groups = tuple(((device,), (2,)) for device in DEVICES)
        self.tell(route, m.Take("client", self.new(), 2, self.values[-1], "float32", groups, ""))

    @rule(name=st.sampled_from(sorted(PROGRAMS)), args=INDICES, route=ROUTES, kept=st.sampled_from(((), (), (0,))))
    def run(self, name: str, args: list[int], route: int, kept: tuple[int, ...]) -> None:
        takes, gives = PROGRAMS[name]
        given = self.pick((args * 2)[:takes])
        outs = tuple(self.new() for _ in range(gives))
        self.values += outs
        self.tell(route, m.Execute(self.programs[name], given, outs, kept, self.last))

    @rule(name=st.sampled_from(("step4_donate", "pair4_donate")), steps=st.integers(1, 3))
    def train(self, name: str, steps: int) -> None:
        """Each step on the results of the one before."""
        state = self.pick([1] if name == "step4_donate" else [1, 2])
        for _ in range(steps):
            outs = tuple(self.new() for _ in state)
            self.tell(0, m.Execute(self.programs[name], state, outs, (), self.last))
            self.tell(0, m.Forget(state))
            state = outs
        self.values += state

    @rule(values=INDICES, route=ROUTES)
    def wait(self, values: list[int], route: int) -> None:
        self.tell(route, m.Await(self.new(), self.pick(values)))

    @rule(values=INDICES, route=ROUTES)
    def tell_a_client(self, values: list[int], route: int) -> None:
        names = self.pick(values)
        self.tell(route, m.Deliver("client", self.new(), 2, m.Computed(names)))
        self.tell(2, m.Deliver("client", self.new(), 1, m.SmallShard(names[0], 0)))

    @rule(values=INDICES, route=ROUTES)
    def forget(self, values: list[int], route: int) -> None:
        self.tell(route, m.Forget(self.pick(values)))

    @rule(values=INDICES, route=ROUTES)
    def delete(self, values: list[int], route: int) -> None:
        self.tell(route, m.Delete(self.pick(values)))

    @rule(value=INDEX)
    def share(self, value: int) -> None:
        (name,) = self.pick([value])
        self.values.append(self.new())
        self.tell(0, m.Rebind((m.Shards(self.values[-1], tuple((name, device) for device in DEVICES)),)))

    @rule(value=INDEX, device=st.sampled_from(DEVICES))
    def fetch(self, value: int, device: int) -> None:
        self.tell(2 + device // 2, m.Fetch(self.new(), *self.pick([value]), device, None))

    @rule(name=st.sampled_from(sorted(PROGRAMS)))
    def unload(self, name: str) -> None:
        self.tell(0, m.Unload(self.programs[name]))

    @invariant()
    def nobody_sees_a_difference(self) -> None:
        stepped, plain = self.both
        assert stepped.told() == plain.told()

    def teardown(self) -> None:
        stepped, plain = self.both
        assert stepped.books() == plain.books()


def test_nobody_sees_which_hosts_are_in_step(programs) -> None:
    run_state_machine_as_test(
        lambda: BothWays(programs), settings=settings(max_examples=200, stateful_step_count=40, deadline=None)
    )


STEP, STEP_DONATE, PAIR, PAIR_DONATE, CAST = range(1, 6)


def begin(hosts: Hosts, programs: dict[str, tuple[bytes, bytes]]) -> Hosts:
    """Programs 1 to 5, values 10 and 11, and 12, which is 10 by another name."""
    for number, name in enumerate(PROGRAMS, 1):
        hosts.tell(HOSTS, m.Compile(number, *programs[name], DEVICES))
    for name in (10, 11):
        data = np.ones(2, np.float32).tobytes()
        buffers = tuple(m.HostBuffer((2,), None, (device,), data) for device in DEVICES)
        hosts.tell(HOSTS, m.Put(name, "float32", (8,), "", None, buffers))
    hosts.tell(HOSTS, m.Rebind((m.Shards(12, tuple((10, device) for device in DEVICES)),)))
    return hosts


def run(program: int, args: tuple[int, ...], outs: tuple[int, ...]) -> m.Execute:
    return m.Execute(program, args, outs, (), 1)


CASES = {
    "a result that another program cannot take": (
        run(STEP, (10,), (20,)), run(CAST, (20,), (21,)), run(STEP, (21,), (22,)), m.Await(1, (22,)),
    ),
    "an argument of the hosts' own is donated": (
        run(PAIR, (10, 11), (20, 21)), run(PAIR_DONATE, (20, 11), (30, 31)), run(PAIR_DONATE, (11, 30), (40, 41)),
        m.Await(1, (11,)),
    ),
    "what shares memory with something donated": (
        run(PAIR, (10, 11), (20, 21)), run(PAIR, (12, 11), (30, 31)), run(STEP_DONATE, (10,), (40,)), m.Await(1, (12,)),
    ),
    "and is an argument of the same program": (run(PAIR_DONATE, (10, 12), (20, 21)), m.Await(1, (12,))),
    "a result is donated": (
        run(STEP, (10,), (20,)), run(STEP_DONATE, (20,), (30,)), m.Await(1, (20,)),
        run(STEP_DONATE, (30,), (40,)), m.Await(2, (30,)), run(STEP, (30,), (50,)),
    ),
    "one is known and the other is not": (run(STEP, (10,), (20,)), m.Await(1, (20, 11)), m.Await(2, (11, 20))),
    "results are not named": (
        run(STEP, (10,), ()), run(STEP, (10, 11), ()), run(STEP, (10,), (20,)), run(STEP, (20,), ()), m.Await(1, (10,)),
    ),
    "a program that is gone": (run(STEP, (10,), (20,)), m.Unload(STEP), run(STEP, (20,), (21,)), m.Await(1, (21,))),
}  # fmt: skip


@pytest.mark.parametrize("commands", CASES.values(), ids=CASES)
def test_nor_here(programs, commands: tuple[m.AnyCommand, ...]) -> None:
    stepped, plain = (begin(Hosts(in_step=in_step), programs) for in_step in (True, False))
    for command in commands:
        stepped.tell(HOSTS, command)
        plain.tell(HOSTS, command)
        assert stepped.told() == plain.told()
    assert stepped.books() == plain.books()


def test_what_only_some_hosts_have(programs) -> None:
    stepped, plain = (begin(Hosts(in_step=in_step), programs) for in_step in (True, False))
    for hosts in (stepped, plain):
        hosts.tell(HOSTS, run(STEP, (10,), (20,)))
        hosts.tell((0,), run(STEP, (20,), (21,)))
        hosts.tell((0,), run(STEP, (21,), (22,)))
        for request, value in enumerate((20, 21, 22)):
            hosts.tell(HOSTS, m.Await(request, (value,)))
        hosts.tell(HOSTS, run(STEP, (10,), (25,)))
        hosts.tell((0,), run(STEP, (22,), (26,)))
        hosts.tell(HOSTS, run(STEP, (10,), (27,)))
        hosts.tell(HOSTS, run(STEP, (22,), (23,)))
        hosts.tell((1,), m.Forget((20,)))
        hosts.tell(HOSTS, run(STEP, (20,), (24,)))
    assert stepped.told() == plain.told()
    assert stepped.books() == plain.books()


@pytest.fixture
def hosts(programs) -> Hosts:
    return begin(Hosts(in_step=True), programs)


def once(hosts: Hosts, *commands: m.AnyCommand) -> bool:
    """Whether these are done once for both."""
    before = hosts.applied
    for command in commands:
        hosts.tell(HOSTS, command)
    return hosts.applied == before


@pytest.mark.parametrize(("program", "since"), [(3, 1), (4, 2)], ids=["kept", "donated"])
def test_steps_are_taken_together(hosts: Hosts, program: int, since: int) -> None:
    """The first shows what is alike; what it donates may be the constant argument under another name."""
    state = 10
    for step in range(10):
        outs = (100 + 2 * step, 101 + 2 * step)
        taken = once(
            hosts,
            m.Execute(program, (state, 11), outs, (), step),
            m.Forget((state, outs[1])),
            m.Await(step, (outs[0],)),
        )
        assert taken == (step >= since), step
        state = outs[0]
    assert hosts.answers == [(host, step, None) for step in range(10) for host in HOSTS]
    assert {host: set(books) for host, books in hosts.books().items()} == {host: {11, 12, state} for host in HOSTS}


def test_what_a_client_sends_does_not_end_the_step(hosts: Hosts) -> None:
    once(hosts, m.Execute(1, (10,), (20,), (), 1), m.Execute(1, (20,), (21,), (), 2))
    hosts.tell(HOSTS, m.Take("client", 1, 2, 30, "float32", tuple(((device,), (2,)) for device in DEVICES), ""))
    assert once(hosts, m.Execute(1, (21,), (22,), (), 3))
    assert not once(hosts, m.Execute(3, (22, 30), (40, 41), (), 4))
    assert once(hosts, m.Execute(3, (40, 41), (42, 43), (), 5))


def test_what_only_a_host_can_tell_does_not_end_the_step(hosts: Hosts) -> None:
    once(hosts, m.Execute(1, (10,), (20,), (), 1), m.Execute(1, (20,), (21,), (), 2))
    hosts.tell((1,), m.Fetch(5, 21, 2, None))
    (fetched,) = hosts.channels[1].reports[-1:]
    assert fetched == m.Fetched(1, 5, m.Memory(memoryview(bytes(8))))
    assert once(hosts, m.Execute(1, (21,), (22,), (), 3))
    assert not once(hosts, m.Delete((21,)))
    assert not once(hosts, m.Execute(1, (22,), (23,), (), 4))
    assert once(hosts, m.Execute(1, (23,), (24,), (), 5))
