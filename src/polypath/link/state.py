"""When a link is open, silent or at its end, and how much may be on it: a state machine without I/O.

    idle ── connect ──> connecting ── opened ──> open
                            │  ▲                   │
                         broke │ connect         broke
                            ▼  │                   │
                           broken <────────────────┘        close leads from any state to closed, which stays

Both ends have one. The client's end connects again when the link is next needed; the worker's end begins open, and
ends where it breaks.
"""

from __future__ import annotations

import enum
from typing import Final

from polypath.transport.beats import Beats

WINDOW: Final = 1 << 30
"""Bytes that may have come for requests of which the worker has not heard, or may wait to be sent."""


class State(enum.StrEnum):
    """Of a link."""

    IDLE = "idle"
    CONNECTING = "connecting"
    OPEN = "open"
    BROKEN = "broken"
    CLOSED = "closed"


TRANSITIONS: Final[dict[State, frozenset[State]]] = {
    State.IDLE: frozenset({State.CONNECTING, State.CLOSED}),
    State.CONNECTING: frozenset({State.OPEN, State.BROKEN, State.CLOSED}),
    State.OPEN: frozenset({State.BROKEN, State.CLOSED}),
    State.BROKEN: frozenset({State.CONNECTING, State.CLOSED}),
    State.CLOSED: frozenset(),
}
"""Which states may follow which."""


class Due(enum.Enum):
    """What the clock makes necessary."""

    BEAT = "say that this end is there"
    BREAK = "give the other end up"


class LinkState:
    """One end of one link. Times are seconds of one clock, which the caller reads."""

    def __init__(self, patience: float) -> None:
        """`patience`: seconds of silence after which the other end is given up."""
        self.state = State.IDLE
        self.reason = ""
        """Why it broke or was closed."""
        self.patience = patience
        self._beats = Beats(patience)
        self._held = 0

    def connect(self) -> bool:
        """Whether the caller is to connect now."""
        if self.state not in (State.IDLE, State.BROKEN):
            return False
        self._move(State.CONNECTING)
        return True

    def opened(self, now: float) -> bool:
        """The other end has answered; whether the link is open, as nobody has closed it meanwhile."""
        if self.state is State.CLOSED:
            return False
        self._move(State.OPEN)
        self._beats = Beats(self.patience)
        self._beats.heard(now)
        self._beats.sent(now)
        self._held = 0
        return True

    def broke(self, reason: str) -> bool:
        """The link is of no use any more; whether that is news."""
        if self.state not in (State.CONNECTING, State.OPEN):
            return False
        self._move(State.BROKEN)
        self.reason = reason
        return True

    def close(self, reason: str = "") -> bool:
        """It is not needed any more; whether that is news."""
        if self.state is State.CLOSED:
            return False
        self._move(State.CLOSED)
        self.reason = reason
        return True

    # --- The clock

    def heard(self, now: float) -> None:
        """Something came from the other end."""
        self._beats.heard(now)

    def sent(self, now: float) -> None:
        """Something went to it."""
        self._beats.sent(now)

    def due(self, now: float) -> Due | None:
        """What is to be done now. An end that does not read, as it has too much, cannot hear the other."""
        if self.state is not State.OPEN:
            return None
        if not self.reads:
            self._beats.heard(now)
        elif self._beats.silent(now):
            return Due.BREAK
        return Due.BEAT if self._beats.due(now) else None

    # --- Back-pressure

    def holds(self, size: int) -> None:
        """So many more bytes are here for nobody yet; fewer where `size` is negative."""
        self._held += size

    @property
    def reads(self) -> bool:
        """Whether this end takes more."""
        return self._held < WINDOW

    def _move(self, state: State) -> None:
        if state not in TRANSITIONS[self.state]:
            raise AssertionError(f"A link cannot go from {self.state} to {state}.")
        self.state = state
