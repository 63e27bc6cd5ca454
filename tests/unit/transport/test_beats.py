"""When a beat is due, and when the other end counts as silent, on a clock that is handed in."""

from __future__ import annotations

import pytest

from polypath.errors import ClusterError
from polypath.transport.beats import Beats, patience

# Patience is 8 s, so an end steps, and beats, every 2 s. A row is (moment, what happens, the answer of a question).
HEARD, SENT, DUE, SILENT = Beats.heard, Beats.sent, Beats.due, Beats.silent
STORIES = {
    "a beat is due at once, and in the next step if nothing was sent since": [
        (0, DUE, True),
        (0, SENT, None),
        (1.99, DUE, True),
        (3.5, SENT, None),
        (4, DUE, False),
        (4.49, DUE, False),
        (6, DUE, True),
    ],
    "an end that was never heard is not silent": [(0, SILENT, False), (100, SILENT, False), (200, SILENT, False)],
    "an end is silent once the whole patience is over": [
        (0, HEARD, None),
        (2, SILENT, False),
        (4, SILENT, False),
        (6, SILENT, False),
        (7.9, SILENT, False),
        (8, SILENT, True),
        (10, SILENT, True),
    ],
    "whatever comes ends the silence": [
        (0, HEARD, None),
        (4, SILENT, False),
        (7, HEARD, None),
        (8, SILENT, False),
        (12, SILENT, False),
        (14.9, SILENT, False),
        (15, SILENT, True),
    ],
    "what is sent does not count as heard": [(0, HEARD, None), (4, SENT, None), (4, SILENT, False), (8, SILENT, True)],
    "looks before the first message do not count": [
        (100, SILENT, False),
        (300, HEARD, None),
        (304, SILENT, False),
        (307.9, SILENT, False),
        (308, SILENT, True),
    ],
    "who was stopped itself first looks what has come": [
        (0, HEARD, None),
        (2, SILENT, False),
        (1000, SILENT, False),  # 998 s without a look count as 4.
        (1001.9, SILENT, False),
        (1002, SILENT, True),
    ],
    "who was stopped itself and then hears has lost nothing": [
        (0, HEARD, None),
        (2, SILENT, False),
        (1000, SILENT, False),
        (1000, HEARD, None),
        (1004, SILENT, False),
        (1008, SILENT, True),
    ],
    "looks that are late by load delay the end, and do not prevent it": [
        (0, HEARD, None),
        (5, SILENT, False),
        (10, SILENT, True),
    ],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_story(story: list[tuple[float, object, bool | None]]) -> None:
    beats = Beats(8)
    for moment, step, answer in story:
        assert step(beats, moment) is answer, moment  # type: ignore[operator]


def test_an_end_steps_four_times_in_its_patience() -> None:
    assert Beats(8).interval == 2


@pytest.mark.parametrize(("told", "seconds"), [("", 20), ("2", 2), ("0.5", 0.5), ("1e3", 1000)])
def test_patience_is_told_by_the_environment(told: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_HEARTBEAT", told)
    assert patience() == seconds


@pytest.mark.parametrize("told", ["no", "0", "-1", "inf", "nan", "2 s"])
def test_a_patience_that_is_none_is_refused(told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYPATH_HEARTBEAT", told)
    with pytest.raises(
        ClusterError, match=r"POLYPATH_HEARTBEAT is .*: give it a number of seconds above 0, such as 20"
    ):
        patience()
