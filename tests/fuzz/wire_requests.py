"""Requests of the IFRT protocol, made by choice: field by field from the schema, mostly sensible.

A request has a theme (an array's shape and devices, often those of an array that exists), so
that its parts fit each other; handles come from small pools and from what the session has, so
that requests refer to each other's arrays, use handles twice, and name what does not exist.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

from choices import Choices
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from polypath.frontend.requests import HANDLERS
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import SERVER_HANDLES

DEVICES: Final = 4
_UNSERVED: Final = {kind for kind in HANDLERS if "mpmd" in kind or "callback" in kind or "is_deleted" in kind}
_KINDS: Final = (*sorted(HANDLERS), *sorted(set(HANDLERS) - _UNSERVED) * 3)
_HANDLES: Final = (1, 2, 3, 4, 5, 6, *(SERVER_HANDLES + i for i in range(1, 7)), 0, SERVER_HANDLES, 2**64 - 1)
_NUMBERS: Final = (1, 0, 2, 3, 4, 8, -1, 100, 2**31 - 1, -(2**31))
_LARGE: Final = (2**62, 2**63 - 1, -(2**63))
_SHAPES: Final = ((2,), (), (4,), (2, 4), (0,), (8,), (3, 0, 5), (2**62, 2**62), (-1,), (1,) * 150, (2**62,) * 300)
_DTYPES: Final = (pb.DTypeProto.KIND_F32,) * 6 + (pb.DTypeProto.KIND_S4, pb.DTypeProto.KIND_STRING, 17, 14, 0, 77)
_RARE: Final = {"layout", "byte_strides", "host_callbacks", "dynamic_shape", "delete_options", "custom_options"}
_INTEGERS: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
}


class Known(Protocol):
    """What a session has, as the controller knows it."""

    arrays: Mapping[int, Any]
    executables: Mapping[int, Any]
    futures: Mapping[int, Any]


class Requests:
    """Makes requests of what `choices` says."""

    def __init__(self, choices: Choices) -> None:
        self._choices = choices
        self._known: Known
        self._count = 1
        self._shape: tuple[int, ...] = ()
        self._theme: list[int] = [0]
        self._anchor = 1
        self._makes = ""
        self._fresh = 100

    @property
    def size(self) -> int:
        """Bytes of the last request's array, if it is one of 32-bit elements and not large."""
        return min(max(math.prod(self._shape) * 4, 0), 1024)

    def make(self, op: int, known: Known) -> pb.IfrtRequest:
        """The next request of a session that has what is `known`."""
        choices = self._choices
        self._known = known
        self._count = choices.of((1, 1, 1, 2, 3, 0))
        self._shape, self._theme = choices.of(_SHAPES), self._some_devices()
        self._anchor = self._handle(known.arrays)
        spec = getattr(known.arrays.get(self._anchor), "spec", None)
        if spec is not None and spec.sharding.devices and not choices.one_in(4):
            self._shape, self._theme = spec.shape, list(spec.sharding.devices)
        metadata = pb.RequestMetadata(op_id=op, user_context_id=choices.of((0, 1, 2, 2**64 - 1)))
        request = pb.IfrtRequest(request_metadata=metadata)
        kind = choices.of(_KINDS)
        self._makes = HANDLERS[kind].makes
        body = getattr(request, kind)
        body.SetInParent()
        self._fill(body)
        return request

    def _handle(self, known: Mapping[int, Any]) -> int:
        pool: Sequence[int] = _HANDLES if not known or self._choices.one_in(16) else sorted(known)[:200]
        return self._choices.of(pool)

    def _handle_for(self, field: str) -> int:
        choices = self._choices
        if field == self._makes:
            self._fresh += 1
            return choices.of((self._fresh, self._fresh, self._fresh, 1, 2, *_HANDLES))
        match field:
            case "loaded_executable_handle" | "mpmd_loaded_executable_handle":
                return self._handle(self._known.executables)
            case "future_handle":
                return self._handle(self._known.futures)
            case "result_status_handle":
                return choices.of((0, 7, 8)) if self._makes else self._handle(self._known.futures)
            case "host_buffer_handle":
                self._fresh += 1
                return choices.of((self._fresh, 1, 2, 3, 4, 5, 6, 7, 8)) if choices.one_in(2) else self._fresh
            case _:
                return self._handle(self._known.arrays) if choices.one_in(4) else self._anchor

    def _fill(self, message: Any) -> None:
        for field in message.DESCRIPTOR.fields:
            odds = 8
            if field.name in _RARE:
                if not self._choices.one_in(odds):
                    continue
            elif self._choices.one_in(32):
                continue
            self._set(message, field)

    def _set(self, message: Any, field: FieldDescriptor) -> None:
        name = field.name
        if name in {"addressable_shard_indices", "host_buffers"} and not self._choices.one_in(8):
            self._fill_shards(message)
        elif name == "device_ids":
            message.device_ids.extend(self._devices())
        elif name == "dims":
            message.dims.extend(self._choices.of(_SHAPES) if self._choices.one_in(8) else self._shape)
        elif name in {"serialized_sharding", "serialized_layout", "program", "compile_options"}:
            getattr(message, name).CopyFrom(getattr(self, f"_{name}")())
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            return
        elif field.is_repeated:
            values = getattr(message, name)
            for _ in range(self._choices.below(4) if self._choices.one_in(16) else self._count):
                if field.message_type is not None:
                    self._fill(values.add())
                else:
                    values.append(self._scalar(field))
        elif field.message_type is not None:
            part = getattr(message, name)
            part.SetInParent()
            self._fill(part)
        else:
            setattr(message, name, self._scalar(field))

    def _scalar(self, field: FieldDescriptor) -> Any:
        choices = self._choices
        if "handle" in field.name:
            return self._handle_for(field.name)
        if field.name == "kind":
            return choices.of(_DTYPES)
        if field.name in {"in_array", "out_array", "from_start", "to_start", "indices"}:
            return choices.of((0, 0, 0, 1, 2, -1, 2**31 - 1))
        if field.name in {"from_end", "to_end"}:
            return choices.of((len(self._theme), len(self._theme), 1, 2, 0, -1, 2**62))
        if field.name == "code":
            return choices.of((13, 2, 14, 0, 77))
        if field.name in {"num_replicas", "num_partitions"}:
            return choices.of((1, 2, 4, 0, 2**63 - 1))
        if field.name == "device_id":
            return self._devices()[0]
        match field.type:
            case FieldDescriptor.TYPE_BOOL:
                return choices.one_in(2)
            case FieldDescriptor.TYPE_ENUM:
                return choices.of((1, 0, 2, 3, 77))
            case FieldDescriptor.TYPE_STRING:
                return choices.of(("", "device", "vram"))
            case FieldDescriptor.TYPE_BYTES:
                return choices.of((b"{0}", b"{1,0:T(2,1)L(4)E(4)S(1)}", b"{:L(" + b"9" * 5000 + b")}", choices.take(16)))
            case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
                return 0.5
        low, high = _INTEGERS[field.type]
        return min(max(choices.of((*_NUMBERS, *_LARGE)), low), high)

    def _fill_shards(self, message: Any) -> None:
        if message.host_buffers or message.addressable_shard_indices:
            return
        places = list(range(len(self._theme)))
        for group in [places] if self._choices.one_in(2) else [[place] for place in places]:
            message.addressable_shard_indices.add(indices=group)
            self._fill(message.host_buffers.add())

    def _devices(self) -> list[int]:
        return self._some_devices() if self._choices.one_in(8) else list(self._theme)

    def _some_devices(self) -> list[int]:
        first, count = self._choices.below(DEVICES), self._choices.of((1, 2, 4, 3))
        found = [(first + i) % DEVICES for i in range(count)]
        if self._choices.one_in(16):
            found.append(self._choices.of((0, 99, -1)))
        return found

    # --- What `Serialized` holds --------------------------------------------------------------

    def _serialized(self, name: str, message: Message) -> pb.Serialized:
        data = message.SerializeToString()
        if self._choices.one_in(16):
            data = self._choices.mutated(data)
        return pb.Serialized(type_name=f"xla::ifrt::{name}", data=data)

    def _serialized_sharding(self) -> pb.Serialized:
        name = self._choices.of(
            ("SingleDeviceSharding", "HloSharding", "ConcreteEvenSharding", "ConcreteSharding", "OpaqueSharding")
        )
        message = getattr(pb, f"{name}Proto")()
        if name == "SingleDeviceSharding":
            message.device_id = self._devices()[-1]
            return self._serialized(name, message)
        devices = self._devices()
        self._fill(message)
        message.devices.device_ids[:] = devices
        if name == "HloSharding":
            message.xla_op_sharding = op_sharding(self._choices, len(self._shape), len(devices))
        elif name == "ConcreteSharding":
            del message.shard_shapes[:]
            for _ in devices:
                message.shard_shapes.add(dims=self._shape)
        message.ClearField("memory_kind")
        if self._choices.one_in(32):
            name = "ShardingParamSharding"
        return self._serialized(name, message)

    def _serialized_layout(self) -> pb.Serialized:
        if self._choices.one_in(2):
            return self._serialized("PjRtLayout", pb.PjRtLayoutProto(xla_layout=self._choices.take(8)))
        return self._serialized("CompactLayout", pb.CompactLayoutProto(major_to_minor=range(len(self._shape))))

    def _program(self) -> pb.Serialized:
        name = self._choices.of((("XlaProgram",) * 8 + ("CustomCallProgram", "Unheard")))
        return pb.Serialized(type_name=f"xla::ifrt::{name}", data=self._choices.take(8))

    def _compile_options(self) -> pb.Serialized:
        devices = self._devices()
        build = pb.ExecutableBuildOptionsProto(num_replicas=1, num_partitions=len(devices))
        if not self._choices.one_in(8):
            assignment = build.device_assignment
            assignment.replica_count = 1
            assignment.computation_count = len(devices)
            for device in devices:
                assignment.computation_devices.add(replica_device_ids=[device])
        elif self._choices.one_in(2):
            self._fill(build)
        options = pb.CompileOptionsProto(executable_build_options=build).SerializeToString()
        return self._serialized("XlaCompileOptions", pb.XlaCompileOptionsProto(compile_options=options))


def op_sharding(choices: Choices, rank: int, count: int) -> bytes:
    """A serialized `OpSharding` for an array of `rank` dimensions on `count` devices, mostly right."""
    proto = pb.OpSharding(type=choices.of((pb.OpSharding.REPLICATED, pb.OpSharding.OTHER, pb.OpSharding.MANUAL)))
    if proto.type == pb.OpSharding.OTHER:
        sizes = [1] * rank
        replicated = not sizes or choices.one_in(2)
        if replicated:
            sizes.append(1)
        sizes[choices.below(min(len(sizes), 255))] = count
        proto.tile_assignment_dimensions.extend(sizes)
        proto.replicate_on_last_tile_dim = replicated
    data = proto.SerializeToString()
    if choices.one_in(2):
        # The fields that our schema leaves out: an explicit order of devices, or an iota.
        number = choices.of((4, 4, 9, 10, 3, 8))
        values = bytes(choices.of((choices.take(8), bytes(range(count)), b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 2)))
        data += bytes((number << 3 | 2, len(values))) + values
    return choices.mutated(data) if choices.one_in(8) else data
