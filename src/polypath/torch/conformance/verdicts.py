"""What can come of an entry of torch's test databases in one variant. Imports no torch: the command reads these too."""

from __future__ import annotations

import enum
from typing import Final, NamedTuple

import msgspec

from polypath.conformance.events import Outcome
from polypath.conformance.process import TestRun


class Kind(enum.StrEnum):
    """torch's test databases, by what their entries are."""

    OPERATORS = "operators"
    MODULES = "modules"
    OPTIMIZERS = "optimizers"


class Variant(enum.StrEnum):
    """How an entry is used."""

    FORWARD = "forward"
    BACKWARD = "backward"
    IN_PLACE = "in-place"
    OUT = "out="
    STEPS = "steps"
    """Several steps of an optimizer."""
    DTYPES = "other dtypes"
    """Forward and backward in float64, forward in bfloat16."""
    STATE = "state_dict"
    """Saved on the device and loaded on the CPU, and the other way."""
    COMPILED = "compiled"
    """With `torch.compile(backend="polypath")`."""


VARIANTS: Final = {
    Kind.OPERATORS: (Variant.FORWARD, Variant.BACKWARD, Variant.IN_PLACE, Variant.OUT),
    Kind.MODULES: (Variant.FORWARD, Variant.BACKWARD, Variant.DTYPES, Variant.STATE, Variant.COMPILED),
    Kind.OPTIMIZERS: (Variant.STEPS, Variant.STATE, Variant.COMPILED),
}


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
    """One variant of one entry."""

    verdict: Verdict
    reason: str = ""
    seconds: float = 0.0


def worst(found: list[Found]) -> Found:
    """What decides about an entry."""
    return max(found, key=lambda one: ORDER.index(one.verdict))


class Test(NamedTuple):
    """One variant of one entry; as text it is how processes name it to each other."""

    __test__ = False  # pytest need not look into it.

    kind: Kind
    name: str
    variant: Variant

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}:{self.variant}"

    @classmethod
    def of(cls, text: str) -> Test:
        """The test that has this text."""
        kind, _, rest = text.partition("/")
        name, _, variant = rest.rpartition(":")
        return cls(Kind(kind), name, Variant(variant))


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
