"""Puts together what several hosts answer to one question.

Answers that are the same, byte for byte, become one with several hosts. They go up once all that
were asked have answered, so that a node above gets one message from each of its children.
What must not wait (a failure) is not given here: it goes up at once and is only counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from polypath.types import HostId

Joined = tuple[int, list[HostId], bytes]
"""A question, the hosts that answer it alike, and the answer."""


@dataclass(slots=True)
class _Open:
    missing: set[HostId]
    bodies: dict[bytes, list[HostId]] = field(default_factory=dict[bytes, list[HostId]])


class Answers:
    """The questions that are open below one node. Each call returns what is to go up now."""

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}

    def ask(self, question: int, hosts: Iterable[HostId]) -> None:
        """These are asked, maybe after others were: a host that comes up late gets what was held for it by itself."""
        if hosts := set(hosts):
            self._open.setdefault(question, _Open(set())).missing.update(hosts)

    def take(self, question: int, hosts: Iterable[HostId], body: bytes) -> list[Joined]:
        """These have answered; a question that is not open is not waited for."""
        hosts = list(hosts)
        asked = self._open.get(question)
        if asked is None:
            return [(question, hosts, body)]
        asked.bodies.setdefault(body, []).extend(hosts)
        return self._count(question, asked, hosts)

    def count(self, question: int, hosts: Iterable[HostId]) -> list[Joined]:
        """These have answered in another way."""
        asked = self._open.get(question)
        return [] if asked is None else self._count(question, asked, hosts)

    def drop(self, hosts: Iterable[HostId]) -> list[Joined]:
        """These will answer nothing any more."""
        gone = set(hosts)
        return [joined for question, asked in list(self._open.items()) for joined in self._count(question, asked, gone)]

    def _count(self, question: int, asked: _Open, hosts: Iterable[HostId]) -> list[Joined]:
        asked.missing.difference_update(hosts)
        if asked.missing:
            return []
        del self._open[question]
        return [(question, together, body) for body, together in asked.bodies.items()]
