"""Why known differences are there: a list that people keep, in `explained.toml`."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

_LIST: Final = Path(__file__).with_name("explained.toml")


class Kind(enum.StrEnum):
    """Whose a difference is."""

    OURS = "ours"
    CLIENT = "client"
    MEANINGLESS = "meaningless"

    @property
    def heading(self) -> str:
        return {
            Kind.OURS: "Ours to fix",
            Kind.CLIENT: "JAX's own client",
            Kind.MEANINGLESS: "Meaningless here",
        }[self]


class Explanation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry: the tests it is about, and the sentence. The patterns are searched for; an empty one fits all."""

    kind: Kind
    why: str
    test: str = ""
    """Of `file::Class.test`."""
    reason: str = ""


class _File(msgspec.Struct, forbid_unknown_fields=True):
    explained: list[Explanation] = []


def read_explanations(path: Path = _LIST) -> list[Explanation]:
    """The list, the first that fits counts."""
    found = msgspec.toml.decode(path.read_bytes(), type=_File).explained
    for entry in found:
        if not (entry.test or entry.reason):
            raise ValueError(f"{path}: {entry.why!r} explains everything: give it a pattern.")
        re.compile(entry.test)
        re.compile(entry.reason)
    return found


def explain(file: str, test: str, reason: str, explanations: Iterable[Explanation]) -> Explanation | None:
    """What explains a difference, if anything does."""
    for entry in explanations:
        if re.search(entry.test, f"{file}::{test}") and re.search(entry.reason, reason):
            return entry
    return None
