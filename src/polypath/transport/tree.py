"""The shape of a cluster: which relays there are, and who is below whom. Pure."""

from __future__ import annotations

from typing import NamedTuple

from polypath.transport.frames import FIRST_RELAY
from polypath.transport.routes import Node
from polypath.types import HostId


class Branch(NamedTuple):
    """One relay."""

    relay: Node
    above: Node | None
    """The relay over it; None for the head."""
    hosts: range
    """Those directly below it; none below a relay of relays."""


class Tree:
    """`hosts` hosts, where no process has more than `fanout` below it."""

    def __init__(self, hosts: int, fanout: int, always: bool = False) -> None:
        """`always` puts every host below a relay, also where the head could do without."""
        levels: list[list[range]] = []
        if always or hosts > fanout:
            levels.append([range(at, min(at + fanout, hosts)) for at in range(0, hosts, fanout)])
            while len(levels[0]) > fanout:
                count = len(levels[0])
                levels.insert(0, [range(at, min(at + fanout, count)) for at in range(0, count, fanout)])
        self._fanout = fanout
        self._branches: dict[Node, Branch] = {}
        first, above = FIRST_RELAY, 0
        for depth, level in enumerate(levels):
            for index, below in enumerate(level):
                over = above + index // fanout if depth else None
                branch = Branch(first + index, over, below if depth == len(levels) - 1 else range(0))
                self._branches[branch.relay] = branch
            above, first = first, first + len(level)
        self._leaves = above if levels else None

    def relay_of(self, host: HostId) -> Node | None:
        """The relay that a host is directly below; None for the head."""
        return None if self._leaves is None else self._leaves + host // self._fanout

    def above(self, relay: Node) -> list[Branch]:
        """The way from the head to a relay, which is the last."""
        way = [self._branches[relay]]
        while (over := way[0].above) is not None:
            way.insert(0, self._branches[over])
        return way

    def below(self, relay: Node) -> list[Branch]:
        """A relay and those below it."""
        found = [self._branches[relay]]
        for branch in found:
            found.extend(each for each in self._branches.values() if each.above == branch.relay)
        return found
