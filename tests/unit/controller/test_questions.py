"""Questions that workers answer to a client itself: who is asked, and who is told that nobody answers."""

from __future__ import annotations

import pytest

from polypath.controller import events
from polypath.messages import MOST_QUESTIONS, HostBuffer, Notify
from polypath.testing import SimulatedCluster
from polypath.types import ArraySpec, Code, Failure, Sharding

EVERYWHERE, HERE, THERE = 10, 11, 12
"""Arrays on both hosts, on the first and on the second."""


class Asking:
    """Two hosts, islands of their own or not, of one device each; session 1 and its arrays."""

    def __init__(self, islands: int = 1) -> None:
        self.cluster = SimulatedCluster(2, 1, islands)
        self.cluster.up()
        self.cluster.handle(events.Open(1, "test"))
        for handle, devices in ((EVERYWHERE, (0, 1)), (HERE, (0,)), (THERE, (1,))):
            spec = ArraySpec("float32", (2,), Sharding(devices, fully_replicated=True))
            buffer = HostBuffer((2,), None, devices, b"12345678")
            if islands == 1 or len(devices) == 1:
                self.do(events.Put(1, self.cluster.op(), (events.HostArray(handle, spec, None, (buffer,)),)))
        self.programs = [self.compile(elements) for elements in (False, True)]
        self.adds: events.Handle = 0

    def do(self, event: events.AnyEvent) -> None:
        self.cluster.handle(event)
        self.cluster.settle()

    def compile(self, elements: bool) -> events.Handle:
        op = self.cluster.op()
        self.do(events.CompileNotify(1, op, (0,), "/pipe", elements))
        loaded = self.cluster.replies[1, op]
        assert isinstance(loaded, events.Loaded)
        return loaded.executable

    def ask(self, number: int, *arrays: int, elements: bool = False, settle: bool = True) -> None:
        op = self.cluster.op()
        program = self.programs[elements]
        self.cluster.handle(events.Execute(1, op, program, arrays, (), 0, False, (), number))
        assert self.cluster.replies[1, op] == events.Executed(0, ())
        if settle:
            self.cluster.settle()

    def add(self, arg: int, number: int, *results: int, elements: int | None = None, settle: bool = True) -> None:
        """Run a program on both hosts, and ask about its results with it."""
        op = self.cluster.op()
        if not self.adds:
            self.do(events.Compile(1, op, b"", b"", (0, 1)))
            loaded = self.cluster.replies[1, op]
            assert isinstance(loaded, events.Loaded)
            self.adds, op = loaded.executable, self.cluster.op()
        self.cluster.handle(
            events.Execute(1, op, self.adds, (arg,), results, 0, False, (), 9, question=number, elements=elements)
        )
        if settle:
            self.cluster.settle()

    @property
    def told(self) -> dict[int, list[tuple[int, int]]]:
        """By host: which questions, and how many hosts answer them."""
        found: dict[int, list[tuple[int, int]]] = {}
        for host, number, of in self.cluster.told:
            found.setdefault(host, []).append((number, of))
        return found


def test_the_hosts_of_the_arrays_answer() -> None:
    at = Asking()
    at.ask(1, HERE)
    at.ask(2, EVERYWHERE)
    at.ask(3, THERE, HERE)
    at.ask(4, EVERYWHERE, elements=True)
    assert at.told == {0: [(1, 1), (2, 2), (3, 2), (4, 1)], 1: [(2, 2), (3, 2)]}
    assert at.cluster.unanswerable == []


@pytest.mark.parametrize(
    ("number", "arrays", "elements"),
    [(0, (HERE,), False), (-1, (HERE,), False), (2**31, (HERE,), True), (1, (), False), (1, (HERE, THERE), True)],
)
def test_a_question_that_makes_no_sense_is_refused(number: int, arrays: tuple[int, ...], elements: bool) -> None:
    at = Asking()
    op = at.cluster.op()
    at.do(events.Execute(1, op, at.programs[elements], arrays, (), 0, False, (), number))
    reply = at.cluster.replies[1, op]
    assert isinstance(reply, Failure)
    assert reply.code is Code.INVALID_ARGUMENT
    assert at.told == {}


@pytest.mark.parametrize("end", [events.Delete, events.Destruct])
def test_what_is_gone_cannot_be_asked_about(end: type[events.Delete | events.Destruct]) -> None:
    at = Asking()
    at.do(end(1, at.cluster.op(), (HERE,)))
    at.ask(7, THERE, HERE)
    assert at.cluster.unanswerable == [(1, 7)]
    assert at.told == {}


def test_a_lost_host_answers_nothing() -> None:
    at = Asking(islands=2)
    at.ask(1, HERE, settle=False)
    at.ask(2, THERE, settle=False)
    at.cluster.kill(1)
    assert at.cluster.unanswerable == [(1, 2)]
    at.cluster.settle()
    assert at.told == {0: [(1, 1)]}
    at.ask(3, THERE)
    assert at.cluster.unanswerable == [(1, 2), (1, 3)]


def test_only_the_last_question_of_a_place_is_remembered() -> None:
    at = Asking(islands=2)
    for round_ in range(3):
        at.ask(5 + round_ * MOST_QUESTIONS, THERE)
    at.cluster.kill(1)
    assert at.cluster.unanswerable == [(1, 5 + 2 * MOST_QUESTIONS)]


def test_a_question_that_goes_with_a_program() -> None:
    at = Asking()
    at.add(EVERYWHERE, 1, 20)
    at.add(20, 2, 21, elements=0)
    at.add(21, 0, 22)
    assert at.told == {0: [(1, 2), (2, 1)], 1: [(1, 2)]}
    assert at.cluster.unanswerable == []


def test_one_of_several_results_is_asked_for_its_elements() -> None:
    at = Asking()
    at.cluster.outputs = 3
    at.add(EVERYWHERE, 1, 20, 21, 22, elements=2, settle=False)
    asked = [command for command in at.cluster.workers[0].commands if isinstance(command, Notify)]
    ids = [value.id for value in at.cluster.controller._core.sessions[1].arrays.values()]
    assert [(command.values, command.device) for command in asked] == [((ids[-1],), 0)]
    at.cluster.settle()
    assert at.told == {0: [(1, 1)]}


def test_a_number_asks_about_the_first_program_that_it_goes_with() -> None:
    at = Asking()
    for result in (20, 21):
        at.add(EVERYWHERE, 1, result)
    assert at.told == {0: [(1, 2)], 1: [(1, 2)]}
    assert at.cluster.unanswerable == []


@pytest.mark.parametrize(
    ("arg", "elements", "outputs"), [(HERE, None, 1), (99, None, 1), (EVERYWHERE, 2, 2), (EVERYWHERE, None, 0)]
)
def test_a_program_whose_end_nobody_can_tell_of(arg: int, elements: int | None, outputs: int) -> None:
    """Its argument is elsewhere or unknown, or it has not the result whose elements are asked for, or none."""
    at = Asking()
    at.cluster.outputs = outputs
    at.add(arg, 3, *range(20, 20 + outputs), elements=elements)
    assert at.cluster.unanswerable == [(1, 3)]
    assert at.told == {}


@pytest.mark.parametrize("elements", [False, True])
def test_nobody_is_asked_by_a_program_that_was_dropped(elements: bool) -> None:
    at = Asking()
    at.do(events.Unload(1, at.cluster.op(), at.programs[elements]))
    at.add(EVERYWHERE, 1, 20, elements=0 if elements else None)
    at.add(EVERYWHERE, 2, 21, elements=None if elements else 0)
    assert at.cluster.unanswerable == [(1, 1)]
    assert {number for told in at.told.values() for number, _ in told} == {2}


def test_programs_of_the_controller_answer_no_question_that_goes_with_them() -> None:
    at = Asking()
    at.do(events.Execute(1, at.cluster.op(), at.programs[0], (HERE,), (), 0, False, (), 4, question=5))
    assert at.cluster.unanswerable == [(1, 5)]
    assert at.told == {0: [(4, 1)]}


def test_a_lost_host_does_not_tell_of_programs_either() -> None:
    at = Asking()
    at.add(EVERYWHERE, 1, 20, settle=False)
    at.cluster.kill(1)
    assert at.cluster.unanswerable == [(1, 1)]


def test_a_client_that_is_gone_is_told_nothing() -> None:
    at = Asking()
    at.ask(5, THERE)
    at.do(events.Close(1))
    at.cluster.kill(1)
    assert at.cluster.unanswerable == []
