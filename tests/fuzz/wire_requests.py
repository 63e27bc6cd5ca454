"""Requests of the IFRT protocol, made by choice, field by field from the schema.

A request has a theme (an array's shape and devices, often those of an array that exists), so
that its parts fit each other, and is tame or wild: a wild one has sizes, handles, devices and
bytes in it that no client would send.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from choices import Choices
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from polypath.frontend.requests import HANDLERS
from polypath.frontend.wire import ifrt_pb2 as pb
from polypath.types import SERVER_HANDLES

_T = TypeVar("_T")

DEVICES: Final = 4
_UNSERVED: Final = {kind for kind in HANDLERS if "mpmd" in kind or "callback" in kind or "executable_delete" in kind}
_FEEDING: Final = [kind for kind in HANDLERS if kind.startswith(("make_array", "compile"))]
_KINDS: Final = (*sorted(HANDLERS), *sorted(set(HANDLERS) - _UNSERVED) * 3, *_FEEDING * 3)
_HANDLES: Final = (0, 1, 2, 3, *(SERVER_HANDLES + i for i in range(4)), 2**64 - 1)
_SHAPES: Final = ((2,), (), (4,), (2, 4), (0,), (8,), (3, 0, 5), (1,) * 12)
_WILD_SHAPES: Final = ((2**62, 2**62), (2**63 - 1,), (-1,), (1,) * 150, (2**62,) * 300, (2**62,) * 120)
_WILD_NUMBERS: Final = (-1, 100, 2**31 - 1, -(2**31), 2**62, 2**63 - 1, -(2**63))
_RARE: Final = {"layout", "byte_strides", "host_callbacks", "dynamic_shape", "delete_options", "custom_options"}
_SERIALIZED: Final = {"serialized_sharding", "serialized_layout", "program", "compile_options"}
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
        self._kind = ""
        self._wild = False
        self._count = 1
        self._shape: tuple[int, ...] = ()
        self._theme: list[int] = [0]
        self._anchor = 1
        self._fresh = 100

    @property
    def size(self) -> int:
        """Bytes of the last request's array, if it is one of 32-bit elements and not large."""
        return min(max(math.prod(self._shape) * 4, 0), 1024)

    def make(self, op: int, known: Known) -> pb.IfrtRequest:
        """The next request of a session that has what is `known`."""
        choices = self._choices
        self._known = known
        self._kind = choices.of(_KINDS if known.arrays or choices.one_in(4) else _FEEDING)
        self._wild = choices.one_in(4)
        self._count = choices.of((1, 1, 1, 2, 3, 0))
        self._shape, self._theme = self._pick(_SHAPES, _WILD_SHAPES), self._some_devices()
        self._anchor = self._handle(known.arrays)
        spec = getattr(known.arrays.get(self._anchor), "spec", None)
        if spec is not None and spec.sharding.devices and not choices.one_in(4):
            self._shape, self._theme = spec.shape, list(spec.sharding.devices)
        metadata = pb.RequestMetadata(op_id=op, user_context_id=choices.of((0, 1, 2, 2**64 - 1)))
        request = pb.IfrtRequest(request_metadata=metadata)
        body = getattr(request, self._kind)
        body.SetInParent()
        if self._kind.startswith("assemble") and not choices.one_in(4):
            self._assemble(body)
        elif "executable_execute" in self._kind and not choices.one_in(4):
            self._execute(body)
        else:
            self._fill(body)
        return request

    def _pick(self, tame: Sequence[_T], wild: Sequence[_T]) -> _T:
        return self._choices.of(wild if self._wild and self._choices.one_in(4) else tame)

    # --- By the schema ------------------------------------------------------------------------

    def _fill(self, message: Any) -> None:
        for field in message.DESCRIPTOR.fields:
            wanted = self._choices.one_in(8) if field.name in _RARE else not (self._wild and self._choices.one_in(16))
            if wanted:
                self._set(message, field)

    def _set(self, message: Any, field: FieldDescriptor) -> None:
        name = field.name
        if name in {"addressable_shard_indices", "host_buffers"} and not (self._wild and self._choices.one_in(4)):
            self._fill_shards(message)
        elif name == "device_ids":
            message.device_ids.extend(self._devices())
        elif name == "dims":
            message.dims.extend(self._shape)
        elif name in _SERIALIZED:
            getattr(message, name).CopyFrom(getattr(self, f"_{name}")())
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            return
        elif field.is_repeated:
            values = getattr(message, name)
            if self._wild and self._choices.one_in(8):
                count = self._choices.below(4)
            else:
                count = len(self._theme) if "disassemble" in self._kind else self._count
            for _ in range(count):
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
        name = field.name
        low, high = _INTEGERS.get(field.type, (0, 0))
        numbers = [min(max(n, low), high) for n in _WILD_NUMBERS]
        if "handle" in name:
            return self._handle_for(name)
        if name == "kind":
            return self._pick((pb.DTypeProto.KIND_F32,), (pb.DTypeProto.KIND_STRING, pb.DTypeProto.KIND_S4, 17, 14, 77))
        if name == "code":
            return self._pick((13, 14), (0, 77))
        if name == "device_id":
            return self._devices()[0]
        if name in {"from_end", "to_end"}:
            return self._pick((len(self._theme),), (1, 2, *numbers))
        if name in {"in_array", "out_array", "from_start", "to_start", "indices"}:
            return self._pick((0,), (1, *numbers))
        match field.type:
            case FieldDescriptor.TYPE_BOOL:
                return choices.one_in(2)
            case FieldDescriptor.TYPE_ENUM:
                return self._pick((1, 2, 3), (0, 77))
            case FieldDescriptor.TYPE_STRING:
                return self._pick(("", "device"), ("vram",))
            case FieldDescriptor.TYPE_BYTES:
                return self._pick((b"{0}",), (b"{1,0:T(2,1)L(4)E(4)S(1)}", b"{:L(" + b"9" * 5000 + b")}", b"\xff"))
            case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
                return 0.5
        return self._pick((1, 1, 2, 4), (0, *numbers))

    # --- Handles and devices ------------------------------------------------------------------

    def _handle(self, known: Mapping[int, Any]) -> int:
        return self._pick(sorted(known)[:200] or (1,), _HANDLES)

    def _handle_for(self, field: str) -> int:
        choices = self._choices
        makes = HANDLERS[self._kind].makes
        if field == makes:
            self._fresh += 1
            return self._pick((self._fresh,), (*_HANDLES, *sorted(self._known.arrays)[:200]))
        match field:
            case "loaded_executable_handle" | "mpmd_loaded_executable_handle":
                return self._handle(self._known.executables)
            case "future_handle":
                return self._handle(self._known.futures)
            case "result_status_handle":
                return self._pick((0, 7, 8), _HANDLES) if makes else self._handle(self._known.futures)
            case "host_buffer_handle":
                self._fresh += 1
                return self._pick((self._fresh,), (1, 2, 3, 4, 5, 6, 7, 8, *_HANDLES))
            case _:
                return self._handle(self._known.arrays) if choices.one_in(4) else self._anchor

    def _devices(self) -> list[int]:
        return self._some_devices() if self._choices.one_in(8) else list(self._theme)

    def _some_devices(self) -> list[int]:
        first, count = self._choices.below(DEVICES), self._choices.of((1, 1, 2, 4, 3))
        found = [(first + i) % DEVICES for i in range(count)]
        return [*found, *self._pick(((),), ((0,), (99,), (-1,), (3, 3)))]

    # --- Parts that must fit each other -------------------------------------------------------

    def _assemble(self, body: pb.AssembleArrayFromSingleDeviceArraysRequest) -> None:
        """Put together arrays of one device each, as far as there are some."""
        parts: dict[int, int] = {}
        for handle, value in sorted(self._known.arrays.items())[:200]:
            if len(value.spec.sharding.devices) == 1 and self._choices.one_in(2):
                parts[value.spec.sharding.devices[0]] = handle
        self._theme = list(parts) or [0]
        self._fill(body)
        del body.single_device_array_handles[:]
        body.single_device_array_handles.extend(parts.values())

    def _execute(self, body: pb.LoadedExecutableExecuteRequest) -> None:
        """Run a program on arrays that are on its devices, as far as there are some."""
        self._fill(body)
        executable = self._known.executables.get(body.loaded_executable_handle)
        if executable is None or executable.info is None:
            return
        devices = executable.info.devices
        found = [h for h, v in sorted(self._known.arrays.items())[:200] if v.spec.sharding.devices == devices]
        del body.args_handles[:], body.result_array_handle[:]
        body.args_handles.extend(found[: self._choices.below(3)])
        if self._choices.one_in(2):
            body.result_array_handle.extend(
                self._handle_for(HANDLERS[self._kind].makes) for _ in executable.info.outputs
            )

    def _fill_shards(self, message: Any) -> None:
        if message.host_buffers or message.addressable_shard_indices:
            return
        places = list(range(len(self._theme)))
        for group in [places] if self._choices.one_in(2) else [[place] for place in places]:
            message.addressable_shard_indices.add(indices=group)
            self._fill(message.host_buffers.add())

    # --- What `Serialized` holds --------------------------------------------------------------

    def _serialized(self, name: str, message: Message) -> pb.Serialized:
        data = message.SerializeToString()
        if self._wild and self._choices.one_in(8):
            data = self._choices.mutated(data)
        return pb.Serialized(type_name=f"xla::ifrt::{name}", data=data)

    def _serialized_sharding(self) -> pb.Serialized:
        devices = self._devices()
        names = ("HloSharding", "ConcreteEvenSharding", "ConcreteSharding", "OpaqueSharding")
        name = "SingleDeviceSharding" if len(devices) == 1 and self._choices.one_in(2) else self._choices.of(names)
        if name == "SingleDeviceSharding":
            return self._serialized(name, pb.SingleDeviceShardingProto(device_id=devices[0]))
        message = getattr(pb, f"{name}Proto")()
        self._fill(message)
        message.devices.CopyFrom(pb.DeviceListProto(device_ids=devices))
        if name == "HloSharding":
            message.xla_op_sharding = op_sharding(self._choices, len(self._shape), len(devices), self._wild)
        elif name == "ConcreteSharding":
            del message.shard_shapes[:]
            for _ in devices:
                message.shard_shapes.add(dims=self._shape)
        return self._serialized(self._pick((name,), ("ShardingParamSharding", "Unheard")), message)

    def _serialized_layout(self) -> pb.Serialized:
        if self._choices.one_in(2):
            return self._serialized("PjRtLayout", pb.PjRtLayoutProto(xla_layout=self._choices.take(8)))
        return self._serialized("CompactLayout", pb.CompactLayoutProto(major_to_minor=range(len(self._shape))))

    def _program(self) -> pb.Serialized:
        name = self._pick(("XlaProgram",), ("CustomCallProgram", "Unheard"))
        return pb.Serialized(type_name=f"xla::ifrt::{name}", data=self._choices.take(8))

    def _compile_options(self) -> pb.Serialized:
        devices = self._devices()
        build = pb.ExecutableBuildOptionsProto(num_replicas=1, num_partitions=len(devices))
        if self._wild and self._choices.one_in(4):
            self._fill(build)
        else:
            build.device_assignment.replica_count = 1
            build.device_assignment.computation_count = len(devices)
            for device in devices:
                build.device_assignment.computation_devices.add(replica_device_ids=[device])
        options = pb.CompileOptionsProto(executable_build_options=build).SerializeToString()
        return self._serialized("XlaCompileOptions", pb.XlaCompileOptionsProto(compile_options=options))


def op_sharding(choices: Choices, rank: int, count: int, wild: bool) -> bytes:
    """A serialized `OpSharding` for an array of `rank` dimensions on `count` devices; right if not `wild`."""
    proto = pb.OpSharding(type=pb.OpSharding.MANUAL if wild and choices.one_in(8) else pb.OpSharding.REPLICATED)
    if choices.one_in(2):
        proto.type = pb.OpSharding.OTHER
        sizes = [1] * rank
        replicated = not sizes or choices.one_in(2)
        sizes += [1] * replicated
        sizes[choices.below(min(len(sizes), 255))] = count
        proto.tile_assignment_dimensions.extend(sizes)
        proto.replicate_on_last_tile_dim = replicated
    data = proto.SerializeToString()
    if wild and choices.one_in(2):
        # Also the fields that our schema leaves out: an explicit order of devices, or an iota.
        number = choices.of((4, 9, 10, 3, 8))
        values = choices.of((choices.take(8), bytes(range(count)), b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 2))
        data += bytes((number << 3 | 2, len(values))) + values
    return choices.mutated(data) if wild and choices.one_in(8) else data
