"""Heartbeats of one end of a connection, as a state machine without I/O or a clock of its own.

An end steps four times per patience. In a step it gives the other end up if it has heard nothing for the whole
patience; else it sends a beat, unless it has just sent something. Anything that comes counts as heard, not only
beats. Both ends of a connection must have the same patience. A step:

    if beats.silent(now):   # give the other end up
    elif beats.due(now):    # send a beat, then beats.sent(now)

`silent` is false until the other end has been heard once: how long an end may take to start is not decided here.
Time in which nobody called `silent` counts only up to half the patience, since a process that was itself stopped (by
SIGSTOP, or with its virtual machine) must first read what has come meanwhile.
"""

from __future__ import annotations

import math
import os
from typing import Final

from polypath.errors import ClusterError

HEARTBEAT: Final = "POLYPATH_HEARTBEAT"
"""The variable with the patience of a cluster's connections, in seconds."""
_DEFAULT: Final = 20.0
_BEATS: Final = 4
"""Beats per patience, so that a late one does no harm."""


class Beats:
    """The heartbeat of one end of a connection. Times are seconds of any one clock that does not go back.

    `due` and `silent` belong to one thread; `heard` and `sent` may be called from any.
    """

    __slots__ = ("_heard", "_looked", "_sent", "patience")

    def __init__(self, patience: float) -> None:
        """`patience` is the silence, in seconds, after which the other end is given up."""
        self.patience = patience
        self._sent = -math.inf
        self._heard = self._looked = math.inf

    @property
    def interval(self) -> float:
        """Seconds between two steps."""
        return self.patience / _BEATS

    def heard(self, now: float) -> None:
        """Something came from the other end."""
        self._heard = self._looked = now

    def sent(self, now: float) -> None:
        """Something was sent to the other end."""
        self._sent = now

    def due(self, now: float) -> bool:
        """Whether a beat is to be sent: nothing was for half an interval, since a timer may fire a little early."""
        return now - self._sent >= self.interval / 2

    def silent(self, now: float) -> bool:
        """Whether the other end has been silent for the patience."""
        unseen = now - self._looked - self.patience / 2
        if unseen > 0:
            self._heard += unseen
        self._looked = now
        return now - self._heard >= self.patience


def patience() -> float:
    """The seconds of silence after which this cluster's processes give each other up, from the environment.

    Raises:
        ClusterError: the variable has no positive number.
    """
    told = os.environ.get(HEARTBEAT, "")
    try:
        seconds = float(told) if told else _DEFAULT
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ClusterError(f"{HEARTBEAT} is {told!r}: give it a number of seconds above 0, such as {_DEFAULT:g}.")
    return seconds
