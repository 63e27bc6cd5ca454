"""What workers and a client send each other over the client's links: no byte of it passes through the head.

For the client each kind is a program that only the controller knows. It runs one without results with the arrays that
it asks about, and one without arguments to make an array that it then sends. The number of the launch is that of the
request on the links. Where workers will not answer, the client is told that number alone: it then asks by the stock
protocol, and hears why.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from polypath.controller import events
from polypath.controller.core import Core, Refused, refuse, union
from polypath.controller.partition import shard_boxes
from polypath.controller.state import Future, Given, Session, Value
from polypath.errors import ProtocolError
from polypath.link.protocol import MOST_HOSTS, MOST_NUMBER, Box
from polypath.messages import (
    ArraysTogether,
    Computed,
    Deliver,
    Delivery,
    Part,
    ShardAddress,
    SmallShard,
    Take,
    WholeArray,
)
from polypath.plugins import Wanted
from polypath.types import ArraySpec, Code, DeviceId, HostId


class Attached:
    """The handlers of programs that send something over a client's links. Nothing of them is compiled."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def compile(self, request: events.CompileAttach) -> None:
        core, what = self._core, request.what
        if not core.session(request).link:
            refuse(
                Code.FAILED_PRECONDITION,
                "This client has no links to the cluster's workers, so they send it nothing themselves; connect with "
                "Polypath's own client.",
            )
        devices, hosts = core.place(request.devices)
        if not isinstance(what, ArraySpec):
            core.load(request, "attach", devices, what)
            return
        if len(hosts) > MOST_HOSTS:
            refuse(
                Code.UNIMPLEMENTED,
                f"A client sends an array to at most {MOST_HOSTS} hosts itself, and this one is for {len(hosts)}: "
                "put it shard by shard.",
            )
        groups: dict[Box, list[DeviceId]] = {}
        for device, box in zip(devices, _boxes(what), strict=True):
            groups.setdefault(box, []).append(device)
        shards = tuple([(tuple(same), box.shape) for box, same in groups.items()])
        core.load(request, "attach", devices, Given(what, shards))

    def run(self, request: events.Execute, what: Wanted | Given, status: events.Handle) -> None:
        """Have hosts send what is wanted, or take what is given; `status` is the future of the latter."""
        session, number = self._core.session(request), request.launch
        if not 0 < number <= MOST_NUMBER:
            refuse(Code.INVALID_ARGUMENT, f"A request on links has a number from 1 to {MOST_NUMBER}, not {number}.")
        try:
            if isinstance(what, Given):
                self._take(session, request, what, status)
                return
            self._deliver(session, request, what)
        except Refused:
            self._core.effects.append(events.Unanswerable(session.link, number))
            if isinstance(what, Given):
                raise  # The array that was to be made is an error.
        self._core.executed(request, status, Future())

    # --- To the client

    def _deliver(self, session: Session, request: events.Execute, what: Wanted) -> None:
        arrays = self._core.arrays(session, request.args)
        if not arrays or (what in ("elements", "address") and len(arrays) > 1):
            refuse(Code.INVALID_ARGUMENT, f"A program attached for {what!r} cannot be run with {len(arrays)} arrays.")
        hosts, delivery = self._delivery(what, arrays)
        if not 0 < len(hosts) <= MOST_HOSTS:
            refuse(Code.UNIMPLEMENTED, f"A client hears of arrays from at most {MOST_HOSTS} hosts themselves.")
        self._core.send(hosts, Deliver(session.link, request.launch, len(hosts), delivery))

    def _delivery(self, what: Wanted, arrays: list[Value]) -> tuple[tuple[HostId, ...], Delivery]:
        devices, first = self._core.devices, arrays[0]
        match what:
            case "ready":
                return union([array.hosts for array in arrays]), Computed(tuple([array.id for array in arrays]))
            case "elements" | "address":
                device = first.spec.sharding.devices[0]
                one = SmallShard if what == "elements" else ShardAddress
                return (devices[device].host,), one(first.id, device)
            case "arrays":
                chosen = [_one_of_each(array.spec) for array in arrays]
                hosts = tuple(sorted({devices[device].host for shards in chosen for _, device in shards.values()}))
                if len(arrays) > 1:
                    return hosts, ArraysTogether(self._parts(arrays, chosen))
                boxes = tuple([(device, start) for start, (_, device) in chosen[0].items()])
                return hosts, WholeArray(first.id, boxes)

    def _parts(self, arrays: Sequence[Value], chosen: Sequence[_Shards]) -> tuple[Part, ...]:
        """All shards, host by host; their indices are by array, and within one by where they begin."""
        found: list[Part] = []
        for array, shards in zip(arrays, chosen, strict=True):
            for _, (shape, device) in sorted(shards.items()):
                found.append(Part(len(found), array.id, device, array.spec.dtype, math.prod(shape)))
        devices = self._core.devices
        return tuple(sorted(found, key=lambda part: devices[part.device].host))

    # --- From the client

    def _take(self, session: Session, request: events.Execute, given: Given, status: events.Handle) -> None:
        core, spec = self._core, given.spec
        if request.args or len(request.results) > 1:
            refuse(Code.INVALID_ARGUMENT, "A program whose array the client sends takes none and has one result.")
        handle = request.results[0] if request.results else core.server_handle(session)
        value = core.new_value(session, handle, spec)
        core.available(value.hosts)
        kind = spec.sharding.memory_kind
        number, of = request.launch, len(value.hosts)
        core.send(value.hosts, Take(session.link, number, of, value.id, spec.dtype, given.shards, kind))
        core.executed(request, status, Future((value,)), [(handle, value)])


_Shards = dict[tuple[int, ...], tuple[tuple[int, ...], DeviceId]]
"""Those of an array that differ, by where they begin: their shape, and one of the devices that have it."""


def _one_of_each(spec: ArraySpec) -> _Shards:
    chosen: _Shards = {}
    for device, box in zip(spec.sharding.devices, _boxes(spec), strict=True):
        chosen.setdefault(box.start, (box.shape, device))
    return chosen


def _boxes(spec: ArraySpec) -> tuple[Box, ...]:
    try:
        return shard_boxes(spec.sharding, spec.shape)
    except ProtocolError as error:
        refuse(Code.UNIMPLEMENTED, str(error))
