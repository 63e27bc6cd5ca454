"""Which of a node's children leads to which host.

Most commands are for all hosts, again and again for the same ones, and what is the same tuple is
looked up by what it is: so the cost of sending does not grow with the hosts, only with the children.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from polypath.transport import frames
from polypath.types import HostId

Node = int
"""A host, or a relay (from `frames.FIRST_RELAY`)."""

EVERY: Final = b""
"""The route that stands for all hosts below the relay that it goes to."""
_KEPT: Final = 1024


class Split(NamedTuple):
    """To whom a command is handed on."""

    hosts: tuple[HostId, ...]
    """Those that are children themselves."""
    relays: tuple[tuple[bytes, tuple[Node, ...]], ...]
    """By route, the relays to tell it."""


class Routes:
    """The hosts below one node."""

    def __init__(self) -> None:
        self._children: dict[HostId, Node] = {}
        self._below: dict[Node, set[HostId]] = {}
        self._splits: dict[int, tuple[tuple[HostId, ...], Split]] = {}
        self._routes: dict[bytes, tuple[HostId, ...]] = {}
        self._every: frozenset[HostId] | None = None

    @property
    def every(self) -> frozenset[HostId]:
        """All hosts."""
        if self._every is None:
            self._every = frozenset(self._children)
        return self._every

    def child(self, host: HostId) -> Node | None:
        """The child that leads to `host`."""
        return self._children.get(host)

    def add(self, host: HostId, child: Node) -> None:
        self.remove(host)
        self._children[host] = child
        self._below.setdefault(child, set()).add(host)
        self._changed()

    def remove(self, host: HostId) -> None:
        child = self._children.pop(host, None)
        if child is not None:
            self._below[child].discard(host)
            self._changed()

    def remove_child(self, child: Node) -> set[HostId]:
        """Forget a child and all hosts below it, which are returned."""
        hosts = self._below.pop(child, set[HostId]())
        for host in hosts:
            self._children.pop(host, None)
        self._changed()
        return hosts

    def hosts(self, route: bytes) -> tuple[HostId, ...]:
        """The hosts that a route means here; the same tuple for the same route.

        Raises:
            ProtocolError: it is no route.
        """
        known = self._routes.get(route)
        if known is None:
            known = tuple(sorted(self.every)) if route == EVERY else frames.unpack_hosts(route)
            if len(self._routes) >= _KEPT:
                self._routes.clear()
            self._routes[route] = known
        return known

    def split(self, hosts: tuple[HostId, ...]) -> Split:
        """To whom what is for `hosts` is handed on. Hosts that are not below are passed over."""
        known = self._splits.get(id(hosts))
        if known is not None and known[0] is hosts:
            return known[1]
        parts: dict[Node, list[HostId]] = {}
        for host in hosts:
            child = self._children.get(host)
            if child is not None:
                parts.setdefault(child, []).append(host)
        direct = tuple(child for child in parts if child < frames.FIRST_RELAY)
        routes: dict[bytes, list[Node]] = {}
        for child, part in parts.items():
            if child >= frames.FIRST_RELAY:
                every = len(part) == len(self._below[child])
                routes.setdefault(EVERY if every else frames.pack_hosts(part), []).append(child)
        split = Split(direct, tuple((route, tuple(relays)) for route, relays in routes.items()))
        if len(self._splits) >= _KEPT:
            self._splits.clear()
        self._splits[id(hosts)] = (hosts, split)  # Kept with the tuple, whose id is its own as long as it lives.
        return split

    def _changed(self) -> None:
        self._splits.clear()
        self._routes.clear()
        self._every = None
