"""What can come of an operator in one variant. Imports no torch: the command reads these too."""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from polypath.conformance.events import Outcome
from polypath.conformance.process import TestRun


class Variant(enum.StrEnum):
    """How an operator is used."""

    FORWARD = "forward"
    BACKWARD = "backward"
    IN_PLACE = "in-place"
    OUT = "out="


class Verdict(enum.StrEnum):
    """What came of it, the worst last."""

    ABSENT = "-"
    """There is no such variant, or torch's CPU refuses all of its samples too."""
    AGREE = "agree"
    HOST = "host"
    """Agrees, but some operator ran on the client's CPU."""
    RAISES = "raises"
    HUNG = "hung"
    CRASHED = "crashed"
    WRONG = "wrong"


ORDER: Final = list(Verdict)
_OUTCOMES: Final = {
    Verdict.ABSENT: Outcome.SKIPPED,
    Verdict.AGREE: Outcome.PASSED,
    Verdict.HOST: Outcome.PASSED,
}


class Found(msgspec.Struct, frozen=True):
    """One variant of one operator."""

    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0


def worst(found: list[Found]) -> Found:
    """What decides about an operator."""
    return max(found, key=lambda one: ORDER.index(one.verdict))


def test_name(operator: str, variant: Variant) -> str:
    """How processes name it to each other."""
    return f"{operator}:{variant}"


def of_test(test: str) -> tuple[str, Variant]:
    """The operator and the variant of such a name."""
    operator, _, variant = test.rpartition(":")
    return operator, Variant(variant)


def told(found: Found) -> tuple[Outcome, str]:
    """As an outcome of the processes that run tests: the verdict comes first in the reason."""
    return _OUTCOMES.get(found.verdict, Outcome.FAILED), f"{found.verdict}: {found.reason}"


def heard(run: TestRun) -> Found:
    """The same, read."""
    if run.outcome is Outcome.HUNG:
        return Found(Verdict.HUNG, run.reason, run.seconds)
    if run.outcome in (Outcome.CRASHED, Outcome.NOT_RUN):
        return Found(Verdict.CRASHED, run.reason, run.seconds)
    verdict, _, reason = run.reason.partition(": ")
    return Found(Verdict(verdict), reason, run.seconds)
