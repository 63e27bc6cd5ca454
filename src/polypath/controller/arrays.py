"""Requests about arrays: made from host memory, regrouped, copied, cut anew, read, freed.

Regrouping (assemble, disassemble, remap) moves nothing: it is one `Rebind` to the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from polypath.controller import events
from polypath.controller.core import Core, by_hosts, refuse, union
from polypath.controller.partition import intersection, shard_boxes, shard_shapes
from polypath.controller.state import Future, Session, Value
from polypath.errors import ProtocolError
from polypath.messages import (
    Await,
    Bitcast,
    Copy,
    Delete,
    Fetch,
    HostBuffer,
    Piece,
    Put,
    Reshard,
    Shards,
    Target,
)
from polypath.types import ArraySpec, Code, DeviceId, HostId, Sharding, ValueId

Handler = Callable[[Any], None]

_TOGETHER: Final = 1 << 20
"""The most bytes of host buffers that go to a host in one command, where one has not more."""


class Arrays:
    """Handles every request about arrays."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def handlers(self) -> dict[type, Handler]:
        return {
            events.Put: self.put,
            events.MakeErrors: self.make_errors,
            events.Assemble: self.assemble,
            events.Disassemble: self.disassemble,
            events.FullyReplicatedShard: self.fully_replicated_shard,
            events.Remap: self.remap,
            events.Copy: self.copy,
            events.Reshard: self.reshard,
            events.Bitcast: self.bitcast,
            events.Fetch: self.fetch,
            events.CheckReady: self.check_ready,
            events.Delete: self.delete,
            events.IsDeleted: self.is_deleted,
            events.Destruct: self.destruct,
        }

    # --- From host memory ---------------------------------------------------------------------

    def put(self, request: events.Put) -> None:
        core = self._core
        session = core.session(request)
        values = [self._new_filled(session, array) for array in request.arrays]
        for array, value in zip(request.arrays, values, strict=True):
            parts: dict[HostId, list[HostBuffer]] = {}
            for buffer in array.buffers:
                for host, part in self._by_host(buffer).items():
                    parts.setdefault(host, []).append(part)
            spec, kind = value.spec, value.spec.sharding.memory_kind
            for host, buffers in parts.items():
                for together in _batches(buffers):
                    core.send((host,), Put(value.id, spec.dtype, spec.shape, kind, array.layout, together))
        core.reply(request, None)

    def _new_filled(self, session: Session, array: events.HostArray) -> Value:
        core = self._core
        value = core.new_value(session, array.handle, array.spec)
        core.available(value.hosts)
        reached = {device for buffer in array.buffers for device in buffer.devices}
        if reached != set(value.spec.sharding.devices):
            refuse(
                Code.INVALID_ARGUMENT,
                f"An array on devices {sorted(value.spec.sharding.devices)} came with bytes for "
                f"{sorted(reached)}; every device needs exactly its shard.",
            )
        return value

    def _by_host(self, buffer: HostBuffer) -> dict[HostId, HostBuffer]:
        """The buffer for each host with one of its devices."""
        core = self._core
        devices: dict[HostId, list[DeviceId]] = {}
        for device in buffer.devices:
            devices.setdefault(core.devices[device].host, []).append(device)
        return {
            host: HostBuffer(buffer.shape, buffer.strides, tuple(theirs), buffer.data)
            for host, theirs in devices.items()
        }

    def make_errors(self, request: events.MakeErrors) -> None:
        session = self._core.session(request)
        for handle, spec in zip(request.results, request.specs, strict=True):
            self._core.new_error(session, handle, request.failure, spec)
        self._core.reply(request, None)

    # --- Regrouping shards --------------------------------------------------------------------

    def assemble(self, request: events.Assemble) -> None:
        core, session = self._core, self._core.session(request)
        parts = core.arrays(session, request.parts)
        devices = request.spec.sharding.devices
        if tuple(_only_device(part) for part in parts) != devices:
            refuse(
                Code.INVALID_ARGUMENT,
                f"An array on devices {list(devices)} was put together from parts on "
                f"{[list(part.spec.sharding.devices) for part in parts]}; give one part per device, in order.",
            )
        value = core.new_value(session, request.result, request.spec)
        shards = tuple((part.id, device) for part, device in zip(parts, devices, strict=True))
        core.rebind((Shards(value.id, shards),))
        core.reply(request, None)

    def disassemble(self, request: events.Disassemble) -> None:
        core, session = self._core, self._core.session(request)
        array = core.array(session, request.array)
        devices = array.spec.sharding.devices
        if len(request.results) != len(devices):
            refuse(
                Code.INVALID_ARGUMENT,
                f"An array of {len(devices)} shards was asked for {len(request.results)} single-device arrays.",
            )
        shapes = _shapes(array)
        outs: list[Shards] = []
        for handle, device, shape in zip(request.results, devices, shapes, strict=True):
            value = core.new_value(session, handle, _on_one_device(array.spec, device, shape))
            outs.append(Shards(value.id, ((array.id, device),)))
        core.rebind(outs)
        core.reply(request, None)

    def fully_replicated_shard(self, request: events.FullyReplicatedShard) -> None:
        core, session = self._core, self._core.session(request)
        array = core.array(session, request.array)
        device = array.spec.sharding.devices[0]
        value = core.new_value(session, request.result, _on_one_device(array.spec, device, array.spec.shape))
        core.rebind((Shards(value.id, ((array.id, device),)),))
        core.reply(request, None)

    def remap(self, request: events.Remap) -> None:
        core, session = self._core, self._core.session(request)
        arrays = core.arrays(session, request.arrays)
        shards: list[list[tuple[ValueId, DeviceId] | None]] = [
            [None] * len(spec.sharding.devices) for spec in request.specs
        ]
        for mapping in request.mappings:
            try:
                source, target = arrays[mapping.source], shards[mapping.target]
                places = _indices(mapping.from_, source.spec), _indices(mapping.to, request.specs[mapping.target])
                for from_, to in zip(*places, strict=True):
                    target[to] = (source.id, source.spec.sharding.devices[from_])
            except (IndexError, ValueError):
                refuse(Code.INVALID_ARGUMENT, "A remap plan names arrays or shards that do not exist.")
        outs: list[Shards] = []
        for handle, spec, sources in zip(request.results, request.specs, shards, strict=True):
            if any(s is None or s[1] != d for s, d in zip(sources, spec.sharding.devices, strict=True)):
                refuse(Code.INVALID_ARGUMENT, "A remap plan leaves out a shard or moves one to another device.")
            value = core.new_value(session, handle, spec)
            outs.append(Shards(value.id, tuple(s for s in sources if s is not None)))
        core.rebind(outs)
        for array in arrays if request.donate else ():
            array.deleted = True  # Not what shares its shards: the results do.
        core.reply(request, None)

    # --- Moving -------------------------------------------------------------------------------

    def copy(self, request: events.Copy) -> None:
        core, session = self._core, self._core.session(request)
        arrays = core.arrays(session, request.arrays)
        for array, handle in zip(arrays, request.results, strict=True):
            old = array.spec.sharding
            devices = old.devices if request.devices is None else request.devices
            kind = old.memory_kind if request.memory_kind is None else request.memory_kind
            if len(devices) != len(old.devices):
                refuse(
                    Code.INVALID_ARGUMENT,
                    f"An array on {len(old.devices)} devices cannot be copied to {len(devices)}; "
                    "give as many devices, or use jax.device_put with a sharding.",
                )
            sharding = Sharding(devices, kind, old.op_sharding, old.shard_shapes, old.fully_replicated)
            value = core.new_value(session, handle, ArraySpec(array.spec.dtype, array.spec.shape, sharding))
            core.available(value.hosts)
            if devices == old.devices and kind == old.memory_kind and not request.always:
                core.rebind((Shards(value.id, tuple((array.id, d) for d in devices)),))
                continue  # Both have the same shards, so none is donated.
            pairs = tuple(zip(old.devices, devices, strict=True))
            core.introduce(pairs)
            command = Copy(array.id, value.id, pairs, kind, request.donate)
            core.send(union((array.hosts, value.hosts)), command)
            if request.donate:
                core.delete((array,))
        core.reply(request, None)

    def reshard(self, request: events.Reshard) -> None:
        core, session = self._core, self._core.session(request)
        arrays = core.arrays(session, request.arrays)
        for array, spec in zip(arrays, request.specs, strict=True):
            if (spec.shape, spec.dtype) != (array.spec.shape, array.spec.dtype):
                refuse(Code.INVALID_ARGUMENT, "Cutting an array anew cannot change its shape or type.")
        targets = [spec.sharding for spec in request.specs]
        self.cut_anew(session, arrays, request.results, targets, donate=request.donate)
        core.reply(request, None)

    def cut_anew(
        self,
        session: Session,
        arrays: Sequence[Value],
        results: Sequence[events.Handle],
        targets: Sequence[Sharding],
        *,
        donate: bool,
    ) -> list[Value]:
        """The same arrays, cut by `targets`, under the handles `results`."""
        core = self._core
        made: list[Value] = []
        for array, handle, target in zip(arrays, results, targets, strict=True):
            value = core.new_value(session, handle, ArraySpec(array.spec.dtype, array.spec.shape, target))
            made.append(value)
            core.available(value.hosts)
            pieces = self._targets(array, value)
            core.introduce((piece.source, target.device) for target in pieces for piece in target.pieces)
            command = Reshard(array.id, value.id, array.spec.dtype, pieces, target.memory_kind, donate)
            core.send(union((array.hosts, value.hosts)), command)
            if donate:
                core.delete((array,))
        return made

    def _targets(self, array: Value, value: Value) -> tuple[Target, ...]:
        """For each new shard, boxes of old shards that make it up; near ones are preferred."""
        old, new = array.spec.sharding, value.spec.sharding
        try:
            sources = list(zip(old.devices, shard_boxes(old, array.spec.shape), strict=True))
            boxes = shard_boxes(new, value.spec.shape)
        except ProtocolError as error:
            refuse(Code.UNIMPLEMENTED, str(error))
        targets: list[Target] = []
        for device, box in zip(new.devices, boxes, strict=True):
            host = self._core.devices[device].host
            near = sorted(sources, key=lambda s: (s[0] != device, self._core.devices[s[0]].host != host))
            pieces: dict[tuple[int, ...], Piece] = {}
            for source, source_box in near:
                common = intersection(source_box, box)
                # Shards are cut on a grid: two that share elements of the box are replicas.
                if common is not None and common.start not in pieces:
                    pieces[common.start] = Piece(
                        source,
                        tuple(c - s for c, s in zip(common.start, source_box.start, strict=True)),
                        tuple(c - s for c, s in zip(common.start, box.start, strict=True)),
                        common.shape,
                    )
            targets.append(Target(device, box.shape, tuple(pieces.values())))
        return tuple(targets)

    def bitcast(self, request: events.Bitcast) -> None:
        core, session = self._core, self._core.session(request)
        arrays = core.arrays(session, request.arrays)
        for array, handle, spec in zip(arrays, request.results, request.specs, strict=True):
            value = core.new_value(session, handle, spec)
            devices = value.spec.sharding.devices
            if devices != array.spec.sharding.devices:
                refuse(Code.INVALID_ARGUMENT, "Reading an array as another type cannot move it to other devices.")
            command = Bitcast(array.id, value.id, spec.dtype, _shapes(value), devices, request.donate)
            core.send(value.hosts, command)
            if request.donate:
                core.delete((array,))
        core.reply(request, None)

    # --- Looking ------------------------------------------------------------------------------

    def fetch(self, request: events.Fetch) -> None:
        core, session = self._core, self._core.session(request)
        array = core.array(session, request.array)
        sharding = array.spec.sharding
        if len(sharding.devices) != 1 and not sharding.fully_replicated:
            refuse(
                Code.INVALID_ARGUMENT,
                f"An array cut over {len(sharding.devices)} devices is read shard by shard; "
                "take its addressable_shards, or jax.device_get.",
            )
        device = sharding.devices[0]
        host = core.devices[device].host
        core.ask(request, (host,), lambda number: Fetch(number, array.id, device, request.strides))

    def check_ready(self, request: events.CheckReady) -> None:
        session = self._core.session(request)
        self.await_values(request, self._core.arrays(session, request.arrays))

    def await_values(self, request: events.Request, values: Sequence[Value]) -> None:
        """Reply once all `values` are computed, or with the first failure."""
        core = self._core
        for value in values:
            if value.failure is not None:
                core.reply(request, value.failure)
                return
        hosts = union([value.hosts for value in values])
        if hosts:
            # Each worker looks at those of the values that it has a part of.
            core.ask(request, hosts, lambda number: Await(number, tuple([value.id for value in values])))
        else:
            core.reply(request, None)

    # --- Ending -------------------------------------------------------------------------------

    def delete(self, request: events.Delete) -> None:
        core, session = self._core, self._core.session(request)
        future = Future()
        ended: list[Value] = []
        for handle in request.arrays:
            value = core.named(session, handle)
            if value.failure is None and value.hosts:
                ended.append(value)
            else:
                value.deleted = True
        core.delete(ended)
        for hosts, ids in by_hosts(ended):
            core.send(hosts, Delete(ids))
        handle = core.server_handle(session)
        session.futures[handle] = future
        core.reply(request, handle)

    def is_deleted(self, request: events.IsDeleted) -> None:
        core = self._core
        core.reply(request, core.named(core.session(request), request.array).deleted)

    def destruct(self, request: events.Destruct) -> None:
        core, session = self._core, self._core.session(request)
        known = [value for handle in request.arrays if (value := session.arrays.pop(handle, None)) is not None]
        core.forget(known)
        if len(known) != len(request.arrays):
            refuse(Code.NOT_FOUND, "An array handle to free is unknown in this session, or was freed before.")
        core.reply(request, None)


def _batches(buffers: Iterable[HostBuffer]) -> list[tuple[HostBuffer, ...]]:
    """The buffers by command: a large one has its own, as a command has to fit into a frame."""
    batches: list[list[HostBuffer]] = []
    room = 0
    for buffer in buffers:
        size = len(buffer.data)
        if not batches or size > room:
            batches.append([])
            room = _TOGETHER
        batches[-1].append(buffer)
        room -= size
    return [tuple(batch) for batch in batches]


def _only_device(value: Value) -> DeviceId | None:
    devices = value.spec.sharding.devices
    return devices[0] if len(devices) == 1 else None


def _on_one_device(spec: ArraySpec, device: DeviceId, shape: tuple[int, ...]) -> ArraySpec:
    kind = spec.sharding.memory_kind
    return ArraySpec(spec.dtype, shape, Sharding((device,), kind, fully_replicated=True))


def _shapes(value: Value) -> tuple[tuple[int, ...], ...]:
    try:
        return shard_shapes(value.spec.sharding, value.spec.shape)
    except ProtocolError as error:
        refuse(Code.UNIMPLEMENTED, str(error))


def _indices(intervals: Iterable[events.Interval], spec: ArraySpec) -> list[int]:
    ranges = [range(i.start, i.end, i.step) for i in intervals]
    if any(places and places[-1] >= len(spec.sharding.devices) for places in ranges):
        raise IndexError("An interval reaches beyond the array's shards.")
    return [index for places in ranges for index in places]
