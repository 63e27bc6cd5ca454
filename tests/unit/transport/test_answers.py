"""What several hosts answer alike goes up once, and nobody's answer is lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from polypath.transport.answers import Answers


def test_answers_that_are_the_same_go_together() -> None:
    answers = Answers()
    answers.ask(7, (1, 2, 3, 4))
    assert answers.take(7, (1,), b"a") == []
    assert answers.take(7, (2, 3), b"b") == []
    assert answers.take(7, (4,), b"a") == [(7, [1, 4], b"a"), (7, [2, 3], b"b")]


def test_who_fails_or_is_lost_is_not_waited_for() -> None:
    answers = Answers()
    answers.ask(7, (1, 2, 3))
    assert answers.take(7, (1,), b"a") == []
    assert answers.count(7, (2,)) == []
    assert answers.drop((3,)) == [(7, [1], b"a")]
    assert answers.take(7, (3,), b"late") == [(7, [3], b"late")]


@given(st.permutations(range(6)), st.data())
def test_hosts_that_are_asked_one_by_one_are_all_heard(order: list[int], data: st.DataObject) -> None:
    """A host that comes up late is asked by itself, while others are at it or have answered."""
    answers, heard, waiting = Answers(), list[int](), list[int]()
    while order or waiting:
        if order and (not waiting or data.draw(st.booleans())):
            answers.ask(7, (order[0],))
            waiting.append(order.pop(0))
        else:
            host = waiting.pop(data.draw(st.integers(0, len(waiting) - 1)))
            heard += [host for _, hosts, _ in answers.take(7, (host,), b"a") for host in hosts]
    assert sorted(heard) == list(range(6))
    assert not answers._open


def test_a_question_to_nobody_stays_not_open() -> None:
    answers = Answers()
    answers.ask(7, ())
    assert not answers._open
