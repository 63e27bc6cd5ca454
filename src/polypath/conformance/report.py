"""What came out: every test on both sides, and what follows from that. Pure."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from polypath.conformance.events import Outcome
from polypath.conformance.explained import Explanation, explain
from polypath.conformance.process import FileRun, TestRun


class Pair(msgspec.Struct, frozen=True):
    """One test on plain JAX and here."""

    file: str
    test: str
    plain: Outcome
    here: Outcome
    reason: str = ""
    """Why it did not pass here."""
    plain_reason: str = ""
    plain_seconds: float = 0.0
    here_seconds: float = 0.0

    @property
    def counts(self) -> bool:
        return self.plain is Outcome.PASSED

    @property
    def differs(self) -> bool:
        return self.counts and self.here is not Outcome.PASSED

    @property
    def name(self) -> str:
        return f"{self.file}::{self.test}"


class FileReport(msgspec.Struct, frozen=True):
    """One file on both sides."""

    file: str
    pairs: list[Pair]
    plain_seconds: float = 0.0
    here_seconds: float = 0.0
    notes: list[str] = []
    """What did not go in order."""

    @property
    def counted(self) -> int:
        """The tests that pass on plain JAX."""
        return sum(pair.counts for pair in self.pairs)

    @property
    def passed(self) -> int:
        """Those that pass here as well."""
        return self.counted - len(self.differences)

    @property
    def differences(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.differs]


class Setting(msgspec.Struct, frozen=True):
    """What was run on what."""

    command: str
    versions: dict[str, str]
    hosts: int
    devices_per_host: int
    x64: bool = False
    sample: int | None = None
    seed: int = 0


class Report(msgspec.Struct, frozen=True):
    """Everything that a run found out."""

    setting: Setting
    files: list[FileReport]

    @property
    def counted(self) -> int:
        return sum(file.counted for file in self.files)

    @property
    def passed(self) -> int:
        return sum(file.passed for file in self.files)

    @property
    def differences(self) -> list[Pair]:
        return [pair for file in self.files for pair in file.differences]


class Group(msgspec.Struct, frozen=True):
    """Differences for one reason."""

    reason: str
    explanation: Explanation | None
    pairs: list[Pair]


def compare(file: str, plain: FileRun, here: FileRun, notes: Iterable[str] = ()) -> FileReport:
    """A file's two runs, test by test. Tests that only one side has are listed too."""
    missing = TestRun(Outcome.NOT_RUN, f"not run: {here.note or 'the file has no such test here'}")
    nowhere = TestRun(Outcome.NOT_RUN, "not run: the file has no such test on plain JAX")
    pairs: list[Pair] = []
    for test in dict.fromkeys((*plain.tests, *here.tests)):
        a, b = plain.tests.get(test, nowhere), here.tests.get(test, missing)
        pairs.append(Pair(file, test, a.outcome, b.outcome, b.reason, a.reason, a.seconds, b.seconds))
    told = [f"on plain JAX: {plain.note}"] if plain.note else []
    told += [f"here: {here.note}"] if here.note else []
    return FileReport(file, pairs, plain.seconds, here.seconds, [*told, *notes])


def grouped(pairs: Iterable[Pair], explanations: list[Explanation]) -> list[Group]:
    """Differences by what explains them, else by reason; the largest groups first, what is not explained before all."""
    groups: defaultdict[tuple[str, Explanation | None], list[Pair]] = defaultdict(list)
    for pair in pairs:
        explanation = explain(pair.file, pair.test, pair.reason, explanations)
        groups["" if explanation else general(pair.reason), explanation].append(pair)
    found = [Group(reason or members[0].reason, why, members) for (reason, why), members in groups.items()]
    return sorted(found, key=lambda group: (group.explanation is not None, -len(group.pairs), group.reason))


_PARTICULARS: Final[Mapping[str, str]] = {
    r"(?<![\w.])/(?:[\w.@+-]+/)+": "",  # The folders of a path are this machine's.
    r"0x[0-9a-f]+": "0x…",
    r"\b\d[\d,.e+-]*\d\b|\b\d\b": "#",
}


def general(reason: str) -> str:
    """A reason without what differs from test to test."""
    for pattern, text in _PARTICULARS.items():
        reason = re.sub(pattern, text, reason)
    return reason
