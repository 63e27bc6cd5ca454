"""The life of a link, by table."""

from __future__ import annotations

import pytest

from polypath.link.state import TRANSITIONS, WINDOW, Due, LinkState, State


def opened(at: float = 0.0) -> LinkState:
    link = LinkState(patience=8.0)
    assert link.connect()
    link.opened(at)
    return link


def test_every_state_ends() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(State.CLOSED in after for state, after in TRANSITIONS.items() if state is not State.CLOSED)
    assert not TRANSITIONS[State.CLOSED]


def test_a_life() -> None:
    link = LinkState(patience=8.0)
    assert link.state is State.IDLE
    assert not link.broke("nothing is there to break")
    assert link.connect()
    assert not link.connect()
    assert link.broke("nobody listens")
    assert (link.state, link.reason) == (State.BROKEN, "nobody listens")
    assert not link.broke("again")
    assert link.connect()
    link.opened(0.0)
    assert link.broke("it closed the link")
    assert link.close()
    assert not link.close()
    assert not link.connect()


def test_what_cannot_be() -> None:
    link = LinkState(patience=8.0)
    with pytest.raises(AssertionError, match="A link cannot go from idle to open"):
        link.opened(0.0)


@pytest.mark.parametrize(
    ("heard", "sent", "now", "due"),
    [
        (0, 0, 0.5, None),
        (0, 0, 2, Due.BEAT),  # A quarter of the patience.
        (0, 3, 3.5, None),
        (3, 0, 4, Due.BEAT),
        (3, 3, 3.5, None),
    ],
)
def test_the_clock(heard: float, sent: float, now: float, due: Due | None) -> None:
    link = opened()
    link.heard(heard)
    link.sent(sent)
    assert link.due(now) is due


def test_the_other_end_is_silent() -> None:
    link = opened()
    assert [link.due(now) for now in (2, 4, 6)] == [Due.BEAT] * 3
    assert link.due(8) is Due.BREAK
    link.broke("silent")
    assert link.due(9) is None
    assert link.connect()
    link.opened(10)
    assert link.due(10.5) is None


def test_an_end_that_reads_no_more_hears_nothing() -> None:
    link = opened()
    link.holds(WINDOW)
    assert not link.reads
    assert [link.due(now) for now in (2, 4, 6, 8, 10)] == [Due.BEAT] * 5
    link.holds(-1)
    assert link.reads
    assert link.due(12) is Due.BEAT
    assert [link.due(now) for now in (14, 16)] == [Due.BEAT] * 2
    assert link.due(18) is Due.BREAK


def test_a_link_that_is_closed_while_it_connects_does_not_open() -> None:
    link = LinkState(60)
    assert link.connect()
    assert link.close()
    assert not link.opened(0.0)
    assert link.state is State.CLOSED
