"""What a process that runs a test file tells its parent, one JSON line each, and how a test can come out."""

from __future__ import annotations

import enum

import msgspec


class Outcome(enum.StrEnum):
    """How a test came out."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "failed"
    CRASHED = "crashed"
    """The process died in it."""
    HUNG = "hung"
    """It did not end in time."""
    NOT_RUN = "not run"
    """The process had died or hung before, or could not even begin."""


class Request(msgspec.Struct, frozen=True):
    """What the process is to do; it reads this from the file that its command line names."""

    path: str
    """The test file."""
    events: int
    """The file descriptor to tell it on."""
    tests: list[str] | None = None
    """Those to run; None: all."""
    checkout: str = ""
    """JAX's sources, for those modules that its tests import and its wheel leaves out."""


class Found(msgspec.Struct, frozen=True, tag="found"):
    """The tests that the file has."""

    tests: list[str]


class Begun(msgspec.Struct, frozen=True, tag="begun"):
    """A test begins."""

    test: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """A test has an outcome. Those whose class could not be set up end without having begun."""

    test: str
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


class Unusable(msgspec.Struct, frozen=True, tag="unusable"):
    """The file could not be run at all."""

    reason: str


class Done(msgspec.Struct, frozen=True, tag="done"):
    """There is nothing more to run."""


Event = Found | Begun | Ended | Unusable | Done
